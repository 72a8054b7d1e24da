"""Cells one by one through the pipeline's own `__call__`: what a user of diffusers gets, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from schedcmp.engine.clock import Clock, PeakMemory, RunDelay
from schedcmp.engine.job import Workbench
from schedcmp.engine.probe import watch
from schedcmp.engine.result import Outcome, failed, finished, harmless_warnings_ignored, made_by
from schedcmp.guard.foreign import contained
from schedcmp.records import Cell, CellResult, Timing


@dataclass(frozen=True, slots=True)
class Measuring:
    """How often a cell is run for its latency, and how often before that."""

    timed: bool = True
    repeats: int = 1
    warmup: int = 1


class SoloEngine:
    """Runs cells alone. A cell that raises becomes a failed result, and the next one runs."""

    def __init__(
        self,
        bench: Workbench,
        measuring: Measuring = Measuring(),
        called: Callable[[Cell], None] = lambda cell: None,
    ) -> None:
        """`called` is told of each call of a cell, since results come in the last turn only."""
        self._bench = bench
        self._called = called
        self._measuring = measuring
        self._clock = Clock(bench.device)
        self._memory = PeakMemory(bench.device)
        self._warm: set[tuple[object, ...]] = set()

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Results as they are finished, `in_turn`."""
        for _, task in groupby(in_turn(cells), key=lambda cell: cell.task):
            yield from self._repeated(list(task))

    def _repeated(self, cells: Sequence[Cell]) -> Iterator[CellResult]:
        """Cells of one task. Each turn runs all of them once, beginning with another one, so that whatever else the
        machine does meanwhile is in the timings of all."""
        repeats = self._measuring.repeats if self._measuring.timed else 1
        results: dict[str, CellResult] = {}
        for turn in range(repeats):
            began, start = time.time(), turn % len(cells)
            for cell in (*cells[start:], *cells[:start]):
                before = results.get(cell.id)
                if before is None or before.status != "failed":
                    result = results[cell.id] = self._once(cell, began, before)
                    self._called(cell)
                    if turn == repeats - 1 or result.status == "failed":
                        yield result

    def _once(self, cell: Cell, turn: float, before: CellResult | None) -> CellResult:
        try:
            return self._result(cell, turn, before)
        except Exception as error:  # anything a pipeline raises belongs to this cell alone
            return failed(cell, error)

    def _result(self, cell: Cell, turn: float, before: CellResult | None) -> CellResult:
        recipe = self._bench.recipes[cell.scheduler]
        if not self._measuring.timed:
            return finished(cell, self._call(cell)[0], recipe)
        if before:
            return replace(before, timings=(*before.timings, replace(self._call(cell)[1], turn=turn)))
        self._warm_up(cell)
        self._memory.reset()
        made, timing = self._call(cell)
        return finished(cell, made, recipe, (replace(timing, turn=turn),), self._memory.read())

    @contained()
    def _call(self, cell: Cell) -> tuple[Outcome, Timing]:
        pipeline, arguments = self._bench.job(cell)
        delay = RunDelay()
        with (
            torch.no_grad(),
            harmless_warnings_ignored(),
            self._bench.cached(pipeline, cell),
            self._bench.own_random(cell)(),
            watch(pipeline, self._clock) as seen,
        ):
            output = pipeline(**arguments)
        timing = replace(seen.timing(self._clock), waited_s=delay.seconds())
        return made_by(pipeline, output, seen.decoded, seen.nfe)[0], timing

    def _warm_up(self, cell: Cell) -> None:
        """Run the cell's scheduler once at its size: first calls load libraries and choose kernels."""
        short = self._bench.warm_up(cell)
        kind = (cell.scheduler, short.steps, cell.extent, cell.guidance_scale > 1, cell.dress)
        if kind not in self._warm:
            self._warm.add(kind)
            for _ in range(self._measuring.warmup):
                self._call(short)


def in_turn(cells: Iterable[Cell]) -> list[Cell]:
    """All schedulers of the first seed, then of the next, so that a machine that slows down slows all of them alike."""
    cells = list(cells)
    rank = {seed: i for i, seed in enumerate(dict.fromkeys(c.seed for c in cells))}
    return sorted(cells, key=lambda c: (rank[c.seed], c.index))
