"""How many steps each scheduler needs: which numbers of steps to try next, from what the store says of those tried.

`steps: auto` is a run in rounds. Each is an ordinary sweep with some numbers of steps for each scheduler; it is made
and measured, and what was measured says which numbers come next. Nothing else is remembered, so a run that was stopped
goes on where it was: what is there already is not made again, and leads to the same next numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from schedcmp.prepare import Prepared
from schedcmp.readings import CONVERGED, ENERGY, Reading
from schedcmp.records import StoredCell, Task
from schedcmp.report.answer import near_enough
from schedcmp.report.quality import points, resolutions
from schedcmp.store.store import Store
from schedcmp.sweep.parts.steps import Search
from schedcmp.truth.statistics import Estimate

Verdict = Literal["short", "enough", "surely enough"]
Known = dict[int, Verdict]  # by the number of steps


_WORST: tuple[Verdict, ...] = ("short", "enough", "surely enough")


def next_steps(prepared: Prepared, store: Store) -> dict[str, tuple[int, ...]] | None:
    """For each scheduler all numbers of steps that the next round has, those tried among them; None if nothing is left
    to be tried."""
    search = prepared.sweep.steps
    if not isinstance(search, Search) or prepared.references is None:
        return None
    known = _known(prepared, store, search.auto.tolerance)
    found, new = {}, False
    for label, selected in prepared.plan.selected.items():
        tried = tuple(length.steps for length in selected.lengths)
        after = None if selected.own_steps or selected.refusal else next_count(known.get(label, {}), search.auto.most)
        if after is not None and after not in tried and known[label].keys() >= {*tried}:
            tried, new = (*tried, after), True
        found[label] = tuple(sorted(tried))
    return found if new else None


def next_count(known: Known, most: int) -> int | None:
    """Where to look for the smallest number that is enough, given what is known; None once it is found, or if even
    `most` is not enough.

    Doubles until one is enough, then halves the gap below it; at last doubles until one is surely enough, which ends
    the interval.
    """
    if not known:
        return None
    enough = min((n for n, verdict in known.items() if verdict != "short"), default=None)
    short = max((n for n, verdict in known.items() if verdict == "short" and n < (enough or n + 1)), default=0)
    if enough and enough - short > 1:
        return (short + enough) // 2
    if enough and "surely enough" in known.values():
        return None
    return min(2 * max(known), most) if max(known) < most else None


def _known(prepared: Prepared, store: Store, tolerance: float) -> dict[str, Known]:
    """By scheduler, of each number of steps that was tried, whether it is enough at every guidance and size; a
    scheduler of which that cannot be measured is not there."""
    assert prepared.references
    cells, resolved = [*store.cells()], resolutions(store.references().values())
    exact = prepared.references.comparable
    rmse, energy = (next(r for r in CONVERGED if r.name == name) for name in ("reference_rmse", ENERGY))
    known: dict[str, Known] = defaultdict(dict)
    for metric, chosen in (
        (rmse, [c for c in cells if c.cell.scheduler in exact]),
        (energy, [c for c in cells if c.cell.scheduler not in exact]),
    ):
        for label, steps, verdict in _judged(chosen, metric, resolved, near_enough(metric, tolerance)):
            known[label][steps] = min(known[label].get(steps, verdict), verdict, key=_WORST.index)
    for label, steps, _ in prepared.unsupported:
        if label in known:
            known[label][steps] = "short"
    return known


def _judged(
    cells: Sequence[StoredCell], metric: Reading, resolved: Mapping[Task, float], limit: float
) -> Iterator[tuple[str, int, Verdict]]:
    """Scheduler, steps, and whether that is enough, at each guidance and size where it is known. What is flagged or has
    failed is not."""
    for found, unsound in points(cells, metric, resolved).values():
        for point in found:
            if point.quality:
                yield from ((name, point.steps, _verdict(point.quality, metric, limit)) for name in point.names)
        yield from ((name, point.steps, "short") for point in unsound for name in point.names)


def _verdict(quality: Estimate, metric: Reading, limit: float) -> Verdict:
    """Intervals of what draws noise may be too wide for any number of steps to be surely enough."""
    if quality.value > limit:
        return "short"
    return "enough" if quality.high and quality.high > limit and not metric.whole else "surely enough"
