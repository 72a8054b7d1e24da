"""The two engines of a sweep on one pipeline: for the cells that are timed, and for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from schedcmp.checkpoint.cache import caching
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.engine.throughput import Throughput
from schedcmp.prepare import Prepared
from schedcmp.records import Cell


class Engines:
    """`timed` runs what `pending.divided` says runs solo, `other` all else."""

    def __init__(
        self,
        prepared: Prepared,
        pipeline: Any,
        evaluated: Callable[[int], None],
        timed: Callable[[int], None] = lambda evaluations: None,
    ) -> None:
        """`evaluated` is told of the denoiser's evaluations of packed cells as they are answered, `timed` of others."""
        sweep, timing = prepared.sweep, prepared.sweep.timing
        bench = _workbench(sweep.jax.solve)(
            pipeline,
            prepared.all_recipes,
            sweep.generator,
            sweep.step_limit,
            prepared.inputs.of,
            prepared.loader.wearing(pipeline),
        )
        measuring = Measuring(timing.mode == "solo", timing.repeats, timing.warmup)
        if cache := prepared.checkpoint.cache:
            bench = replace(bench, cached=lambda pipeline, cell: caching(pipeline, cache, _cost(prepared, cell)))
        self.timed = SoloEngine(bench, measuring, lambda cell: timed(prepared.cost(cell)))
        self.other: SoloEngine | PackedEngine = SoloEngine(bench, Measuring(timed=False))
        if sweep.engine == "packed" and (cache or not prepared.in_turn):  # references are made without a cache of ours
            self.other = PackedEngine(
                bench,
                prepared.cost,
                sweep.max_batch,
                evaluated,
                fixed_shapes=prepared.is_compiled,
                sparing=prepared.origin.device == "cpu" and sweep.backend == "torch",
            )

    @property
    def throughput(self) -> list[Throughput]:
        """What packing achieved; empty if nothing is packed."""
        return [self.other.throughput] if isinstance(self.other, PackedEngine) else []


def _cost(prepared: Prepared, cell: Cell) -> int:
    """In evaluations; a warming-up is no cell of the plan."""
    try:
        return prepared.cost(cell)
    except KeyError:
        return cell.steps


def _workbench(solve: str) -> type[Workbench]:
    if solve == "steps":
        return Workbench
    from schedcmp.backend.scan import SolvingWorkbench

    return SolvingWorkbench
