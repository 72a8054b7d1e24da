"""Load a checkpoint, once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.cache import caching
from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.loading.build import build
from schedcmp.checkpoint.loading.device import resolve_device, resolve_dtype
from schedcmp.checkpoint.optimize import optimize
from schedcmp.checkpoint.quantize import refuse_device
from schedcmp.checkpoint.quiet import quiet
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, PartError, one_line
from schedcmp.guard import shortage
from schedcmp.pipelines.packages import install
from schedcmp.registry.postpone import STATISTICS, postponed

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_PROCESSOR = re.compile(r'"([A-Z]\w*Processor)"')  # the name of a class of transformers in a config


def load(
    checkpoint: Checkpoint,
    device: str = "auto",
    dtype: str = "auto",
    optimizations: Mapping[str, Any] = MappingProxyType({}),
    vae_dtype: str | None = None,
    dressed: Callable[[Any], object] = lambda pipeline: None,
) -> DiffusionPipeline:
    """The checkpoint's pipeline, in evaluation mode on the device, with its progress bars off; one that the caller has
    loaded stays as it is.

    Args:
        checkpoint: what `inspect` found.
        device: as `resolve_device` takes it.
        dtype: as `resolve_dtype` takes it.
        optimizations: as `optimize` takes them.
        vae_dtype: the VAE's own, as `resolve_dtype` takes it; None: as the other models.
        dressed: puts layers into the models, which must be there before they are optimized.

    Raises:
        CheckpointError: the weights do not fit the configs or the device, or diffusers cannot load them.
        RequestError: no such device or dtype, or an optimization that this pipeline does not have.
    """
    if isinstance(checkpoint, Given):
        return cast("DiffusionPipeline", checkpoint.ready())
    target = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, target)
    refuse_device(checkpoint.quantized, target)
    with (
        _explained(checkpoint, target),
        quiet() as messages,
        _recorded_gaps() as gaps,
        postponed(*STATISTICS),  # diffusers imports all schedulers
    ):
        _refuse_missing_packages(checkpoint)
        pipeline = build(checkpoint, torch_dtype, resolve_dtype(vae_dtype, target) if vae_dtype else None)
        _refuse_gaps(checkpoint, messages, gaps)
        _try_cache(checkpoint, pipeline)
        if not optimizations.get("offload"):
            pipeline.to(target)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()  # not requires_grad_(False): torch multiplies other shapes then, and rounds otherwise
    if vae_dtype and getattr(pipeline, "vae", None) is not None:
        _take_other_dtypes(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    dressed(pipeline)
    optimize(pipeline, optimizations, target)
    return cast("DiffusionPipeline", pipeline)


def _refuse_missing_packages(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where transformers has but a placeholder of a processor's class, or of a part of it."""
    import transformers

    index = read_json(checkpoint.config_folder / layout.MODEL_INDEX)
    for part in layout.components(index, (), str(checkpoint.path)):
        folder = checkpoint.config_folder / part.name
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*processor_config.json"))]
        classes = [getattr(transformers, name, None) for name in dict.fromkeys(_PROCESSOR.findall("".join(texts)))]
        if missing := sorted({package for cls in classes for package in getattr(cls, "_backends", ())}):
            needs = f"its {part.name} needs {', '.join(missing)}: {install(missing)}"
            raise CheckpointError(f"{checkpoint.name}: {needs}")


def _refuse_gaps(checkpoint: Checkpoint, messages: list[str], gaps: list[str]) -> None:
    # diffusers and transformers fill missing weights with random numbers and only log it.
    logged = [text for text in messages if "newly initialized" in text]
    if gaps or logged:
        detail = ", ".join(gaps[:3]) or " ".join(logged[0].split())
        raise CheckpointError(f"{checkpoint.path} lacks weights that its configs name: {detail}; fetch it again.")


@contextmanager
def _recorded_gaps() -> Iterator[list[str]]:
    """Yields the names of parameters that load_state_dict() leaves at random values: `from_single_file`
    asks for strict=False and drops the answer."""
    original: Any = torch.nn.Module.load_state_dict
    gaps: list[str] = []

    def recording(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(module, *args, **kwargs)
        state = module.state_dict()
        # A tied weight is missing under one of its names only.
        filled = {state[name].data_ptr() for name in state.keys() - set(result.missing_keys)}
        missing = (name for name in result.missing_keys if name in state)
        gaps.extend(name for name in missing if state[name].data_ptr() not in filled)
        return result

    torch.nn.Module.load_state_dict = recording  # type: ignore[method-assign,assignment]
    try:
        yield gaps
    finally:
        torch.nn.Module.load_state_dict = original  # type: ignore[method-assign]


def _take_other_dtypes(vae: Any) -> None:
    """Let a VAE take images and latents of another dtype than its own; not all pipelines cast them."""

    def cast_to_its(value: Any) -> Any:
        return value.to(vae.dtype) if isinstance(value, torch.Tensor) else value

    for name in ("encode", "decode"):
        method = getattr(vae, name)

        @functools.wraps(method)
        def casting(*args: Any, method: Any = method, **kwargs: Any) -> Any:
            return method(*map(cast_to_its, args), **{key: cast_to_its(value) for key, value in kwargs.items()})

        setattr(vae, name, casting)


@contextmanager
def _explained(checkpoint: Checkpoint, device: str) -> Iterator[None]:
    """Raises CheckpointError for whatever diffusers, transformers or the device say."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if shortage.of_memory(error):
            half = "bf16" if device.startswith("cpu") else "fp16"
            raise CheckpointError(
                f"{checkpoint.name} does not fit into the memory of {device}; use dtype {half} or another device."
            ) from error
        reason = shortage.told(error) or one_line(error)
        if "meta tensor" in reason:  # with accelerate, from_single_file leaves missing weights on torch's meta device
            reason = "it lacks weights that its configs name; fetch it again."
        raise CheckpointError(f"{checkpoint.path} cannot be loaded: {reason}") from error


def _try_cache(checkpoint: Checkpoint, pipeline: Any) -> None:
    try:
        with caching(pipeline, checkpoint.cache, 1):
            pass
    except ValueError as error:
        raise PartError(("cache",), f"{', '.join(checkpoint.cache)} cannot be had: {one_line(error)}") from error
