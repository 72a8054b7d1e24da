"""From what a pipeline returned to a cell's result; the same for every engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image

from schedcmp.checkpoint.layout import denoisers
from schedcmp.guard import shortage
from schedcmp.pictures.image import flatness, pixels_sha256
from schedcmp.pipelines.inputs import OUTPUTS
from schedcmp.pipelines.videos import FRAMES, frames_per_second
from schedcmp.records import Cell, CellResult, Timing
from schedcmp.registry.build import Recipe

_HARMLESS_WARNINGS = (
    "`upcast_vae` is deprecated",  # said by diffusers' own SDXL pipeline to itself
    "invalid value encountered in cast",  # NaN pixels: the cell is flagged
    "Should have (ta>=t0|tb<=t1) but got",  # torchsde's tree, off by rounding at the ends of its interval
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline's call gave to one cell."""

    pictures: tuple[Image, ...]  # an image, or a video's frames
    blanked: bool  # by the checkpoint's safety checker
    latents: torch.Tensor | None  # (1, ...) in float32 on the host, what the VAE was given
    nfe: int
    timesteps: tuple[float, ...]
    is_video: bool
    config: Mapping[str, Any]  # the scheduler's, after its run
    dtype: str  # the denoiser's: "float16"
    overflown: str = ""  # the dtype in which the VAE made pixels that are not finite, of latents that are


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a VAE was given, and what it made of that before it became images, call by call."""

    latents: list[torch.Tensor] = field(default_factory=list)
    pixels: list[torch.Tensor] = field(default_factory=list)


def made_by(pipeline: Any, output: Any, decoded: Decoded, nfe: int, cells: int = 1) -> list[Outcome]:
    """What each of the cells of a pipeline's call got.

    Args:
        nfe: how often the denoiser was called; a call that was a whole solve stands for more.

    Raises:
        ValueError: there are more or fewer images or latents than cells, or the scheduler was not used.
    """
    (images, is_video), name = _images_of(output), type(pipeline).__name__
    latents, pixels = (_whole(parts, is_video) for parts in (decoded.latents, decoded.pixels))
    if len(images) != cells or (latents is not None and cells > 1 and len(latents) != cells):
        raise ValueError(f"{name} made {len(images)} images for {cells} cells")
    if not getattr(pipeline.scheduler, "was_used", True):
        raise ValueError(f"{name} asks its scheduler for no step, so that every scheduler would make the same image")
    visited = getattr(pipeline.scheduler, "visited", None)
    timesteps = tuple(_numbers(visited or pipeline.scheduler.timesteps))
    blanked = getattr(output, "nsfw_content_detected", None) or [False] * cells
    config = getattr(pipeline.scheduler, "config", {})
    dtype = next((_name(model.dtype) for model in denoisers(pipeline) if hasattr(model, "dtype")), "its dtype")
    read = None if latents is None else latents.float().cpu()
    return [
        Outcome(
            shown,
            bool(black),
            part,
            len(visited) if visited else nfe,
            timesteps,
            is_video,
            config,
            dtype,
            _overflow(part, drawn),
        )
        for shown, black, part, drawn in zip(images, blanked, _each(read, cells), _each(pixels, cells), strict=True)
    ]


def _images_of(output: Any) -> tuple[Sequence[tuple[Image, ...]], bool]:
    """The images that a pipeline returned, whatever it calls them, each alone; or videos, each its frames. Raises
    ValueError where there are none."""
    for name in OUTPUTS:
        if (made := getattr(output, name, None)) is not None:
            is_video = name == FRAMES
            return [tuple(one) if is_video else (one,) for one in made], is_video
    raise ValueError(f"{type(output).__name__} has no {', '.join(OUTPUTS)}")


def _whole(parts: Sequence[torch.Tensor], is_video: bool) -> torch.Tensor | None:
    """A video may be decoded in parts; of images the last were decoded last."""
    alike = is_video and len({part.shape[1:] for part in parts}) == 1
    return torch.cat([*parts]) if alike else parts[-1] if parts else None


def _each(batch: torch.Tensor | None, cells: int) -> Sequence[torch.Tensor | None]:
    return [batch] if cells == 1 else [None] * cells if batch is None else torch.split(batch, len(batch) // cells)


def _overflow(latents: torch.Tensor | None, pixels: torch.Tensor | None) -> str:
    return "" if pixels is None or _is_finite(pixels) or not _is_finite(latents) else _name(pixels.dtype)


def _is_finite(values: torch.Tensor | None) -> bool:
    return values is None or bool(torch.isfinite(values).all())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def finished(
    cell: Cell,
    made: Outcome,
    recipe: Recipe,
    timings: tuple[Timing, ...] = (),
    peak_memory_bytes: int | None = None,
) -> CellResult:
    """The result of a cell whose pipeline returned; flagged if its image should not be trusted."""
    image, reason = made.pictures[0], _suspicion(made)
    return CellResult(
        cell,
        "flagged" if reason else "ok",
        error=reason,
        nfe=made.nfe,
        width=image.width,
        height=image.height,
        frames=len(made.pictures) if made.is_video else None,
        fps=frames_per_second(recipe.pipeline, cell.arguments) if made.is_video else None,
        pictures=made.pictures,
        image_sha256=pixels_sha256(*made.pictures),
        timings=timings,
        peak_memory_bytes=peak_memory_bytes,
        scheduler_config=recipe.as_run(made.config),
        timesteps=made.timesteps,
        latents=None if made.latents is None else made.latents.numpy(),
    )


def failed(cell: Cell, error: Exception) -> CellResult:
    """The result of a cell whose pipeline raised."""
    return CellResult(cell, "failed", error=shortage.told(error) or f"{type(error).__name__}: {error}")


def _numbers(timesteps: Any) -> list[float]:
    """Of a tensor, read at once: one by one, each would wait for the device."""
    whole = timesteps.tolist() if isinstance(timesteps, torch.Tensor) else timesteps
    return [float(t) for t in whole]


@contextmanager
def harmless_warnings_ignored() -> Iterator[None]:
    """While open, warnings of libraries about what we know and handle are not shown."""
    with warnings.catch_warnings():
        for text in _HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", text)
        yield


def _suspicion(made: Outcome) -> str | None:
    """Why an image that was made should not be trusted, or None."""
    if not _is_finite(made.latents):
        fault = f"the latents are not finite (NaN or infinite) in {made.dtype}"
        if made.dtype == "float16":
            return (
                f"{fault}: numbers overflowed or the solver diverged; `dtype: bf16` or `dtype: fp32` mends the former"
            )
        return f"{fault}: the solver diverged; take another scheduler, more steps or less guidance"
    if made.overflown:
        fault = f"the VAE made pixels that are not finite in {made.overflown}, of latents that are"
        if made.overflown == "float16":
            return f"{fault}: it overflowed; `vae_dtype: fp32` mends it"
        return f"{fault}: its weights are broken; fetch the checkpoint again"
    if made.blanked:
        return "the checkpoint's safety checker blanked the image; `safety_checker: false` leaves it out"
    flat = flatness(*made.pictures)
    return flat and f"{flat}; if the prompt asks for more, take another scheduler, more steps or less guidance"
