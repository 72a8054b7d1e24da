"""Making a run's cells while somebody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from schedcmp.cli import console
from schedcmp.cli.console import say
from schedcmp.cli.pace import Work
from schedcmp.cli.places import Place
from schedcmp.cli.progress import progress
from schedcmp.prepare import Prepared
from schedcmp.runs.execution import Execution
from schedcmp.runs.pending import divided

if TYPE_CHECKING:
    from schedcmp.cluster.crew import Crew


@contextmanager
def workers(prepared: Prepared) -> Iterator[tuple[Prepared, Crew | None]]:
    """The workers of a sweep that asks for them, and the sweep as they make it."""
    if prepared.sweep.executor.ray is None:
        yield prepared, None
        return
    from schedcmp.cluster.crew import hired

    with hired(prepared) as crew:
        say(f"ray      {crew}")
        yield replace(prepared, maker=crew.origin), crew


def make(execution: Execution, where: Place, *, silent: bool = False) -> None:
    """Make the pending cells; the run's page is written anew as they come."""
    from schedcmp.report.page import LivePage

    prepared, pending = execution.prepared, execution.pending
    cost = {c.id: prepared.cost(c) for c in (*pending, *execution.references)}
    timing, seen = prepared.sweep.timing, execution.throughput
    runs = timing.repeats if timing.mode == "solo" else 1
    alone = {c.id for c in divided(prepared, pending)[0]}
    solo = Work(runs * sum(cost[id_] for id_ in alone), runs * len(alone))
    packed = Work(sum(cost.values()) - solo.evaluations // runs, len(cost) - len(alone))
    page = LivePage(execution.store)

    def occupancy() -> float | None:
        return seen[0].occupancy if seen and seen[0].forwards else None

    where.between_cells(timed=bool(alone))

    def timed(evaluations: int) -> None:
        advance.solo(evaluations, 1)

    with (
        progress(len(pending), solo, packed, occupancy, silent=silent) as advance,
        closing(execution.run(advance.packed, console.warn, advance.doing, timed)) as results,
    ):
        for result in results:
            cell = result.cell
            if cell.id in alone and execution.crew:
                advance.solo(runs * cost[cell.id], runs)
            advance.finish(f"{cell.scheduler} {cell.steps} steps seed {cell.seed}")
            if not result.timings:  # beside a timed cell nothing else may run
                page.update()
            where.between_cells(timed=bool(result.timings))
