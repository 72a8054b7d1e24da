"""Cells one by one through the pipeline's own `__call__`: what a user of diffusers gets, timed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from schedcmp.engine.clock import Clock, PeakMemory
from schedcmp.engine.job import Workbench
from schedcmp.engine.probe import Observation, watch
from schedcmp.image import flatness, pixels_sha256
from schedcmp.records import Cell, CellResult, Timing

WARMUP_STEPS = 2
_HARMLESS_WARNINGS = (
    "invalid value encountered in cast",  # NaN pixels: the cell is flagged
    "Should have (ta>=t0|tb<=t1) but got",  # torchsde's tree, off by rounding at the ends of its interval
)

Encode = Callable[[Image.Image, CellResult], bytes]


@dataclass(frozen=True, slots=True)
class Measuring:
    """How often a cell is run for its latency, and how often before that."""

    timed: bool = True
    repeats: int = 1
    warmup: int = 1


class SoloEngine:
    """Runs cells alone. A cell that raises becomes a failed result, and the next one runs."""

    def __init__(self, bench: Workbench, encode: Encode, measuring: Measuring = Measuring()) -> None:
        self._bench = bench
        self._encode = encode
        self._measuring = measuring
        self._clock = Clock(bench.device)
        self._memory = PeakMemory(bench.device)
        self._warm: set[tuple[object, ...]] = set()

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Results as they are finished: all schedulers of the first seed, then of the next, so that a machine that
        slows down slows all of them down alike."""
        cells = list(cells)
        rank = {seed: i for i, seed in enumerate(dict.fromkeys(c.seed for c in cells))}
        for cell in sorted(cells, key=lambda c: (rank[c.seed], c.index)):
            yield self._result(cell)

    def _result(self, cell: Cell) -> CellResult:
        try:
            return self._made(cell)
        except Exception as error:  # anything a pipeline raises belongs to this cell alone
            return CellResult(cell, "failed", error=f"{type(error).__name__}: {error}")

    def _made(self, cell: Cell) -> CellResult:
        if self._measuring.timed:
            self._warm_up(cell)
        self._memory.reset()
        image, reason, seen, scheduler = self._call(cell)
        peak = self._memory.read()
        timings = [seen.timing(self._clock)]
        for _ in range(self._measuring.repeats - 1 if self._measuring.timed else 0):
            timings.append(self._call(cell)[2].timing(self._clock))
        return self._finished(cell, image, reason, seen, scheduler, timings, peak)

    def _finished(
        self,
        cell: Cell,
        image: Image.Image,
        reason: str | None,
        seen: Observation,
        scheduler: Any,
        timings: list[Timing],
        peak: int | None,
    ) -> CellResult:
        timed = self._measuring.timed
        result = CellResult(
            cell,
            "flagged" if reason else "ok",
            error=reason,
            nfe=seen.nfe,
            width=image.width,
            height=image.height,
            image_sha256=pixels_sha256(image),
            timings=tuple(timings) if timed else (),
            peak_memory_bytes=peak if timed else None,
            scheduler_config=self._bench.recipes[cell.scheduler].config,
            timesteps=tuple(float(t) for t in scheduler.timesteps),
        )
        return replace(result, image=self._encode(image, result))

    def _call(self, cell: Cell) -> tuple[Image.Image, str | None, Observation, Any]:
        pipeline, arguments = self._bench.job(cell)
        with warnings.catch_warnings(), watch(pipeline, self._clock) as seen:
            for text in _HARMLESS_WARNINGS:
                warnings.filterwarnings("ignore", text)
            output = pipeline(**arguments)
        image = output.images[0]
        return image, _suspicion(image, output, seen.latents), seen, pipeline.scheduler

    def _warm_up(self, cell: Cell) -> None:
        """Run the cell's scheduler once at its size: first calls load libraries and choose kernels."""
        kind = (cell.scheduler, cell.width, cell.height, cell.guidance_scale > 1)
        if kind not in self._warm:
            self._warm.add(kind)
            for _ in range(self._measuring.warmup):
                self._call(replace(cell, steps=min(cell.steps, WARMUP_STEPS)))


def _suspicion(image: Image.Image, output: Any, latents: torch.Tensor | None) -> str | None:
    """Why an image that was made should not be trusted, or None."""
    if latents is not None and not bool(torch.isfinite(latents).all()):
        return "the latents are not finite (NaN or infinite): the solver diverged or the dtype overflowed"
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        return "the checkpoint's safety checker blanked the image"
    return flatness(image)
