"""From what a pipeline returned to a cell's result; the same for every engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image

from schedcmp.image import flatness, pixels_sha256
from schedcmp.records import Cell, CellResult, Timing

_HARMLESS_WARNINGS = (
    "`upcast_vae` is deprecated",  # said by diffusers' own SDXL pipeline to itself
    "invalid value encountered in cast",  # NaN pixels: the cell is flagged
    "Should have (ta>=t0|tb<=t1) but got",  # torchsde's tree, off by rounding at the ends of its interval
)


@dataclass(frozen=True, slots=True)
class Made:
    """What a pipeline's call gave to one cell."""

    image: Image
    blanked: bool  # by the checkpoint's safety checker
    latents: torch.Tensor | None  # (1, ...) in float32 on the host, what the VAE was given
    nfe: int
    timesteps: tuple[float, ...]


def made_by(pipeline: Any, output: Any, latents: torch.Tensor | None, nfe: int, cells: int = 1) -> list[Made]:
    """What each of the cells of a pipeline's call got.

    Args:
        nfe: how often the denoiser was called; a call that was a whole solve stands for more.

    Raises:
        ValueError: there are more or fewer images or latents than cells.
    """
    if len(output.images) != cells or (latents is not None and cells > 1 and len(latents) != cells):
        raise ValueError(f"{type(pipeline).__name__} made {len(output.images)} images for {cells} cells")
    visited = getattr(pipeline.scheduler, "visited", None)
    timesteps = tuple(_numbers(visited or pipeline.scheduler.timesteps))
    blanked = getattr(output, "nsfw_content_detected", None) or [False] * cells
    read = None if latents is None else latents.float().cpu()
    parts = [None] * cells if read is None else [read] if cells == 1 else torch.split(read, 1)
    return [
        Made(image, bool(black), part, len(visited) if visited else nfe, timesteps)
        for image, black, part in zip(output.images, blanked, parts, strict=True)
    ]


def finished(
    cell: Cell,
    made: Made,
    scheduler_config: Mapping[str, Any],
    timings: tuple[Timing, ...] = (),
    peak_memory_bytes: int | None = None,
) -> CellResult:
    """The result of a cell whose pipeline returned; flagged if its image should not be trusted."""
    image = made.image
    reason = _suspicion(made)
    return CellResult(
        cell,
        "flagged" if reason else "ok",
        error=reason,
        nfe=made.nfe,
        width=image.width,
        height=image.height,
        image=image,
        image_sha256=pixels_sha256(image),
        timings=timings,
        peak_memory_bytes=peak_memory_bytes,
        scheduler_config=dict(scheduler_config),
        timesteps=made.timesteps,
        latents=None if made.latents is None else made.latents.numpy(),
    )


def failed(cell: Cell, error: Exception) -> CellResult:
    """The result of a cell whose pipeline raised."""
    return CellResult(cell, "failed", error=f"{type(error).__name__}: {error}")


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


def _suspicion(made: Made) -> str | None:
    """Why an image that was made should not be trusted, or None."""
    if made.latents is not None and not bool(torch.isfinite(made.latents).all()):
        return "the latents are not finite (NaN or infinite): the solver diverged or the dtype overflowed"
    if made.blanked:
        return "the checkpoint's safety checker blanked the image"
    return flatness(made.image)
