"""Cells one by one through the pipeline's own `__call__`: what a user of diffusers gets, timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schedcmp.engine.clock import Clock, PeakMemory
from schedcmp.engine.job import Workbench
from schedcmp.engine.probe import watch
from schedcmp.engine.result import Made, failed, finished, harmless_warnings_ignored, made_by
from schedcmp.foreign import contained
from schedcmp.records import Cell, CellResult, Timing


@dataclass(frozen=True, slots=True)
class Measuring:
    """How often a cell is run for its latency, and how often before that."""

    timed: bool = True
    repeats: int = 1
    warmup: int = 1


class SoloEngine:
    """Runs cells alone. A cell that raises becomes a failed result, and the next one runs."""

    def __init__(self, bench: Workbench, measuring: Measuring = Measuring()) -> None:
        self._bench = bench
        self._measuring = measuring
        self._clock = Clock(bench.device)
        self._memory = PeakMemory(bench.device)
        self._warm: set[tuple[object, ...]] = set()

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Results as they are finished, `in_turn`."""
        for cell in in_turn(cells):
            try:
                yield self._result(cell)
            except Exception as error:  # anything a pipeline raises belongs to this cell alone
                yield failed(cell, error)

    def _result(self, cell: Cell) -> CellResult:
        config = self._bench.recipes[cell.scheduler].config
        if not self._measuring.timed:
            return finished(cell, self._call(cell)[0], config)
        self._warm_up(cell)
        self._memory.reset()
        first, timing = self._call(cell)
        peak = self._memory.read()
        more = [self._call(cell)[1] for _ in range(self._measuring.repeats - 1)]
        return finished(cell, first, config, (timing, *more), peak)

    @contained()
    def _call(self, cell: Cell) -> tuple[Made, Timing]:
        pipeline, arguments = self._bench.job(cell)
        with harmless_warnings_ignored(), watch(pipeline, self._clock) as seen:
            output = pipeline(**arguments)
        return made_by(pipeline, output, seen.latents, seen.nfe)[0], seen.timing(self._clock)

    def _warm_up(self, cell: Cell) -> None:
        """Run the cell's scheduler once at its size: first calls load libraries and choose kernels."""
        short = self._bench.warm_up(cell)
        kind = (cell.scheduler, short.steps, cell.width, cell.height, cell.guidance_scale > 1)
        if kind not in self._warm:
            self._warm.add(kind)
            for _ in range(self._measuring.warmup):
                self._call(short)


def in_turn(cells: Iterable[Cell]) -> list[Cell]:
    """All schedulers of the first seed, then of the next, so that a machine that slows down slows all of them alike."""
    cells = list(cells)
    rank = {seed: i for i, seed in enumerate(dict.fromkeys(c.seed for c in cells))}
    return sorted(cells, key=lambda c: (rank[c.seed], c.index))
