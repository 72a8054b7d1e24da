"""Models whose weights are kept in fewer bits than they are computed with, by diffusers and its backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.elsewhere import components_of
from schedcmp.errors import PartError

DENOISER = "denoiser"  # whatever the checkpoint calls it
_KEY = ("quantize",)


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table."""

    packages: tuple[str, ...]
    class_name: str = ""  # of torchao's configs
    options: Mapping[str, Any] = field(default_factory=dict)  # of bitsandbytes
    on_cpu: bool = False


METHODS: Mapping[str, Method] = {
    "int8": Method(("torchao",), "Int8WeightOnlyConfig", on_cpu=True),
    "fp8": Method(("torchao",), "Float8WeightOnlyConfig", on_cpu=True),
    "int4": Method(("torchao", "mslk"), "Int4WeightOnlyConfig"),
    "bnb-8bit": Method(("bitsandbytes",), options={"load_in_8bit": True}),
    "bnb-4bit": Method(("bitsandbytes",), options={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
}


def quantized(wanted: Mapping[str, str], checkpoint: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """The method of each component of a checkpoint with these configs.

    Args:
        files: the components that are read from single files, where diffusers' loader quantises nothing.

    Raises:
        PartError: a component is not there, is no model or comes from such a file, or a method's package is missing.
    """
    there = {part.name: part for part in components_of(checkpoint) if part.is_model}
    found: dict[str, str] = {}
    for name, method in wanted.items():
        for one in [one for one in there if one in layout.DENOISERS] if name == DENOISER else [name]:
            if one not in there or there[one].library not in layout.LIBRARIES:
                raise PartError(_KEY, f"{checkpoint} has no {one}; it has {', '.join(there)}.")
            if one in files:
                raise PartError(
                    _KEY,
                    f"{one} comes from {files[one]}, and only diffusers folders are quantised; give one.",
                )
            found[one] = method
    for method in found.values():
        _refuse_missing(method)
    return found


def _refuse_missing(method: str) -> None:
    missing = [package for package in METHODS[method].packages if find_spec(package) is None]
    if missing:
        names = " and ".join(missing)
        raise PartError(_KEY, f"{method} needs {names}, which is not installed: pip install {' '.join(missing)}")


def refuse_device(methods: Mapping[str, str], device: str) -> None:
    """Raises PartError where the device has no kernels for a method."""
    able = ", ".join(name for name, method in METHODS.items() if method.on_cpu)
    for name in methods.values():
        if not device.startswith("cuda") and not METHODS[name].on_cpu:
            raise PartError(_KEY, f"{name} needs a CUDA GPU, and this runs on {device}; use {able}, or device: cuda.")


def config(library: str, method: str, dtype: Any) -> Any:
    """A component's `quantization_config`.

    Args:
        library: the component's: both have such classes, of the same names.
        dtype: what is computed in.
    """
    row, module = METHODS[method], import_module(library)
    if row.class_name:
        return module.TorchAoConfig(getattr(import_module("torchao.quantization"), row.class_name)())
    compute = {"bnb_4bit_compute_dtype": dtype} if "load_in_4bit" in row.options else {}
    return module.BitsAndBytesConfig(**row.options, **compute)
