"""A pipeline that a program or a function of the user's own has loaded, as a checkpoint: configs written down, weights
known by content."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from weakref import finalize

from schedcmp.checkpoint.inspection.contents import image_size
from schedcmp.checkpoint.source import GIVEN, Checkpoint, ModelSpec
from schedcmp.checkpoint.weights import ContentFile, content_file, fingerprint
from schedcmp.errors import CheckpointError, PartError, one_line
from schedcmp.guard.foreign import IMPORT_S, contained
from schedcmp.guard.private import execution_device

if TYPE_CHECKING:
    import torch

_KEY = ("python",)  # of a function that makes one, in a sweep's `model`
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class Scratch:
    """A folder that is there as long as this object."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="schedcmp-"))
        finalize(self, rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given(Checkpoint):
    """What the caller's pipeline is."""

    pipeline: Any
    digest: str  # of its weights, and of what changes what they do
    scratch: Scratch  # where its configs are

    @property
    def fingerprint(self) -> str:
        """Identifies weights and configs as they are in memory, LoRAs and quantisation included."""
        return blake2b(f"{fingerprint(self.content)} {self.digest}".encode(), digest_size=16).hexdigest()

    @property
    def models(self) -> list[torch.nn.Module]:
        return [*_models(self.pipeline).values()]

    @property
    def settings(self) -> dict[str, str]:
        """What the pipeline itself says of keys that a sweep may have. Raises CheckpointError."""
        vae = getattr(self.pipeline, "vae", None)
        dtypes = {"dtype": self.pipeline.dtype, **({"vae_dtype": vae.dtype} if vae is not None else {})}
        names = {key: str(dtype).removeprefix("torch.") for key, dtype in dtypes.items()}
        for name in names.values():
            if name not in _DTYPES:
                raise CheckpointError(f"pipeline: its models compute in {name}; use one of {', '.join(_DTYPES)}")
        return {"device": str(execution_device(self.pipeline))} | {key: _DTYPES[name] for key, name in names.items()}

    def ready(self) -> Any:
        """A shallow copy for an engine, without progress bars; the caller's keeps its own."""
        pipeline = copy.copy(self.pipeline)
        if type(pipeline).__name__ != self.pipeline_class:
            pipeline = _for_another_task(pipeline, self.pipeline_class)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While open, its models are in evaluation mode, without dropout."""
        training = [m for model in self.models for m in model.modules() if m.training]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True


def _for_another_task(pipeline: Any, name: str) -> Any:
    """A pipeline of another class with the same parts, none of them changed: `from_pipe` casts them to one dtype."""
    import diffusers

    cls = getattr(diffusers, name)
    known = {**pipeline.config, **pipeline.components}
    return cls(**{name: known[name] for name in inspect.signature(cls.__init__).parameters if name in known})


def given(pipeline: Any, name: str = "") -> Given:
    """Describe a loaded pipeline. Reads all of its weights, once.

    Args:
        name: what it is called; by its class by default.

    Raises:
        CheckpointError: it is no pipeline of diffusers, or has no scheduler.
    """
    from diffusers import DiffusionPipeline

    if not isinstance(pipeline, DiffusionPipeline):
        raise CheckpointError(f"pipeline: expected one of diffusers' pipelines, got {type(pipeline).__name__}")
    if not hasattr(getattr(pipeline, "scheduler", None), "config"):
        raise CheckpointError(f"pipeline: this {type(pipeline).__name__} has no scheduler, so there is none to compare")
    scratch = Scratch()
    folder = scratch.folder
    _write_configs(pipeline, folder)
    name = name or f"{GIVEN}{type(pipeline).__name__}"
    width, height = image_size(folder)
    scheduler = {"_class_name": type(pipeline.scheduler).__name__, **pipeline.scheduler.config}
    return Given(
        spec=ModelSpec(name),
        name=name,
        path=folder,
        kind="folder",
        config_folder=folder,
        variant=None,
        pipeline_class=type(pipeline).__name__,
        width=width,
        height=height,
        scheduler_json=json.dumps(scheduler, default=str),
        content=tuple(_content(folder)),
        beside=(),
        pipeline=pipeline,
        digest=_digest(pipeline),
        scratch=scratch,
    )


def made(path: str, options: Mapping[str, Any]) -> Given:
    """What the function at a dotted path gives for these arguments, which it is called with once.

    Raises:
        PartError: there is none, it fails, or gives something else than one of diffusers' pipelines.
    """
    module, _, name = path.rpartition(".")
    try:
        with contained(IMPORT_S):
            function = getattr(import_module(module), name)
    except Exception as error:  # importing runs somebody's code
        raise PartError(_KEY, f"{path} cannot be imported ({one_line(error)}); correct it.") from error
    try:
        with contained():
            pipeline = function(**options)
    except Exception as error:
        raise PartError(_KEY, f"{path} failed ({type(error).__name__}: {one_line(error)}); correct it.") from error
    try:
        found = given(pipeline, name=f"python:{path}")
    except CheckpointError as error:
        raise PartError(_KEY, f"{path}: {error}") from error
    for model in found.models:
        model.eval()
    return found


def _write_configs(pipeline: Any, folder: Path) -> None:
    """As `save_pretrained` would, without the weights."""
    pipeline.save_config(folder)
    for name, component in pipeline.components.items():
        place = folder / name
        if hasattr(component, "save_config"):  # diffusers' models and schedulers
            component.save_config(place)
        elif hasattr(getattr(component, "config", None), "save_pretrained"):  # transformers' models
            component.config.save_pretrained(place)
        elif hasattr(component, "save_pretrained"):  # tokenizers, image processors
            component.save_pretrained(place)


def _content(folder: Path) -> Iterator[ContentFile]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("scheduler/"):
            yield content_file(name, path)


def _models(pipeline: Any) -> dict[str, torch.nn.Module]:
    import torch

    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _digest(pipeline: Any) -> str:
    """Of every tensor that its models hold, and of adapters' scales, which are no tensors."""
    content = blake2b(digest_size=16)
    for name, model in _models(pipeline).items():
        for key, tensor in model.state_dict(keep_vars=False).items():
            content.update(
                f"{name}.{key} {tuple(getattr(tensor, 'shape', ()))} {getattr(tensor, 'dtype', '')}".encode()
            )
            content.update(_bytes(tensor))
        for key, module in model.named_modules():
            adapters = {
                what: getattr(module, what, None) for what in ("scaling", "_active_adapter", "_disable_adapters")
            }
            scale = getattr(module, "scale", None)
            if isinstance(scale, list):  # of an IP-Adapter's layers
                adapters["scale"] = scale
            if any(value is not None for value in adapters.values()):
                content.update(f"{name}.{key} {adapters}".encode())
    return content.hexdigest()


def _bytes(tensor: Any) -> Any:
    """A tensor's content; of one that is made of others, as quantised ones are, what it prints of them all."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        parts = getattr(tensor, "__tensor_flatten__", None)
        if parts is not None:
            return b"".join(bytes(_bytes(getattr(tensor, part))) for part in parts()[0])
    if not isinstance(tensor, torch.Tensor):
        return repr(tensor).encode()
    if tensor.is_meta:  # offloaded to the disk: only its place is known
        return b"meta"
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
