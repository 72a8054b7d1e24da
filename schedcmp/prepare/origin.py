"""What a result came from: the machine, the versions and the code that decide an image or a timing."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2s
from importlib.metadata import version
from inspect import getsource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp import __version__
from schedcmp.checkpoint.emphasis import A1111, PACKAGE
from schedcmp.registry.build import Recipe

if TYPE_CHECKING:
    from schedcmp.prepare.prepared import Prepared

_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the images of a sweep are made with, by this process or by a worker, which says its own.

    Attributes:
        environment: what a reader needs to know to trust or repeat the numbers.
        keys: by label: the hash of all that determines an image beside the cell itself.
        machine: what timings depend on beside the cell: only those of one machine are comparable.
    """

    environment: Mapping[str, Any]
    keys: Mapping[str, str]
    machine: str

    @property
    def device(self) -> str:
        return str(self.environment["device"])

    @property
    def dtype(self) -> str:
        return str(self.environment["dtype"])


def origin_here(prepared: Prepared) -> Origin:
    """Of what this process would make. Raises SweepError: the device or the backend is not there."""
    checkpoint, loader, enabled = prepared.checkpoint, prepared.loader, prepared.sweep.optimize.enabled
    shared = {
        "fingerprint": checkpoint.fingerprint,
        "pipeline": checkpoint.pipeline_class,
        "dtype": loader.dtype,
        **({"vae_dtype": loader.vae_dtype} if loader.vae_dtype else {}),
    }
    environment = {
        "checkpoint": checkpoint.name,
        **shared,
        **({} if prepared.sweep.safety_checker else {"safety_checker": False}),
        "optimize": enabled,
        **({"peft": version("peft")} if prepared.loras.adapters else {}),
        **({PACKAGE: version(PACKAGE)} if A1111 in (prepared.sweep.prompt_syntax or ()) else {}),
        **({"distilled": [found.told for found in prepared.few_steps]} if prepared.few_steps else {}),
        **loader.backend,
        **machine_and_versions(loader.device),
    }
    versions = {name: version(name) for name in ("torch", "diffusers")}
    decisive = {**shared, "device": loader.device.partition(":")[0], **versions, **enabled, **loader.backend}
    keys = {label: _digest({**decisive, **_decisive(recipe)}) for label, recipe in prepared.all_recipes.items()}
    return Origin(environment, keys, machine_of(environment, loader.backend))


def machine_and_versions(device: str) -> dict[str, Any]:
    """What a reader needs to know of the machine to trust or repeat the numbers."""
    return {
        "schedcmp": __version__,
        "device": device,
        "device_name": _device_name(device),
        **_driver(device),
        "threads": _threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: version(name) for name in _PACKAGES},
    }


def machine_of(environment: Mapping[str, Any], beside: Iterable[str] = ()) -> str:
    """A short name of a machine, by what timings depend on and whatever else tells it apart."""
    return _digest({name: environment.get(name) for name in ("device_name", "threads", "system", *beside)})


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """What of a scheduler decides an image: class and config, and what is not in diffusers: lists of levels, source
    code."""
    found: dict[str, Any] = {"class": recipe.cls.__qualname__, "config": recipe.config}
    if recipe.levels:
        found["levels"] = recipe.levels
    if recipe.spacing:
        found["spacing"] = repr(recipe.spacing.options)
    contract = getattr(recipe.cls, "contract", None)
    made_of = contract.function if contract else recipe.cls
    package = made_of.__module__.partition(".")[0]
    if package == "schedcmp":
        found["schedcmp"] = __version__
    elif package != "diffusers":
        with suppress(OSError, TypeError):  # there is no source
            found["source"] = getsource(sys.modules[made_of.__module__])
    return found


def _digest(parts: Mapping[str, Any]) -> str:
    return blake2s(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _driver(device: str) -> dict[str, str]:
    """The versions under a GPU's torch, where the system tells."""
    import torch

    if not device.startswith("cuda"):
        return {}
    found = {"cuda": str(torch.version.cuda)}
    with suppress(OSError, IndexError):
        text = Path("/proc/driver/nvidia/version").read_text()  # "NVRM version: ... Kernel Module  550.54.15 ..."
        found["driver"] = re.findall(r"\d+\.\d+(?:\.\d+)?", text)[0]
    return found


def _threads() -> int:
    import torch

    return torch.get_num_threads()
