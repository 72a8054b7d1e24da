"""What trades set-up time, memory or the last digits for speed, applied to a loaded pipeline. All off by default."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from schedcmp.checkpoint.layout import denoisers
from schedcmp.checkpoint.quiet import quiet
from schedcmp.errors import RequestError, raised_as
from schedcmp.guard.private import allow_recompiling, has_attention_backends, has_repeated_blocks, tree_map_tensors

# torch compiles once per batch size; a run has one for each power of two
_BATCH_SIZES = 64
_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def optimize(pipeline: Any, options: Mapping[str, Any], device: str) -> None:
    """Apply a sweep's `optimize` to a pipeline, in place.

    Args:
        options: those that are on, by name.
        device: where the models compute; with `offload` they wait in the main memory.

    Raises:
        RequestError: an option that this pipeline or machine does not have.
    """
    if options.get("tf32"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    for part in ("slicing", "tiling"):
        if options.get(f"vae_{part}"):
            _vae_saves_memory(pipeline.vae, part)
    for model in denoisers(pipeline):
        if options.get("channels_last"):
            model.to(memory_format=torch.channels_last)
        if options.get("attention"):
            _set_attention(model, options["attention"])
        if options.get("compile"):
            _compile(model, options["compile"])
    if options.get("channels_last"):
        pipeline.vae.to(memory_format=torch.channels_last)
    if options.get("offload"):
        _offload(pipeline, device)


def _vae_saves_memory(vae: Any, part: str) -> None:
    enable = getattr(vae, f"enable_{part}", None)
    if enable is None:
        raise RequestError(f"optimize: vae_{part}: {type(vae).__name__} has no {part}; leave it out")
    enable()


def _set_attention(model: Any, backend: str) -> None:
    """Raises RequestError: the model's attention has no choice, or not this one."""
    if not has_attention_backends(model):
        raise RequestError(
            f"optimize: attention: {type(model).__name__} takes no attention backend in diffusers; it uses torch's "
            "scaled_dot_product_attention, which chooses by itself. Leave it out"
        )
    # Each backend has its own requirements and ways to say so
    with raised_as(RequestError, f"optimize: attention: {backend!r} cannot be used here", Exception), quiet():
        model.set_attention_backend(backend)


def _compile(model: Any, mode: str) -> None:
    """Compile `forward`, which is what both engines call; `mode` is torch.compile's, or "regional".

    Raises:
        RequestError: a model without blocks that repeat.
    """
    allow_recompiling(_BATCH_SIZES)
    if mode == "regional":
        _compile_blocks(model)
    else:
        compiled = torch.compile(model.forward, mode=mode, dynamic=False)
        model.forward = _kept(compiled) if mode in _GRAPH_MODES else compiled


def _compile_blocks(model: Any) -> None:
    """One program for all blocks of a kind: compiled in seconds where the whole model takes minutes."""
    if not has_repeated_blocks(model):
        raise RequestError(
            f"optimize: compile: diffusers names no repeated blocks of {type(model).__name__}; use `compile: default`"
        )
    model.compile_repeated_blocks(dynamic=False)


def _kept(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A CUDA graph writes every answer to the same place; schedulers keep answers for later steps."""

    @functools.wraps(forward)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tree_map_tensors(torch.clone, forward(*args, **kwargs))

    return keeping


def _offload(pipeline: Any, device: str) -> None:
    try:
        pipeline.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise RequestError('optimize: offload needs the package accelerate: pip install "schedcmp[offload]"') from error
