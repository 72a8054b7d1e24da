"""How many steps are enough: for each scheduler the fewest that are near enough to converged, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from schedcmp.grouped import grouped
from schedcmp.report.answer import Answer
from schedcmp.report.quality import Point
from schedcmp.truth.convergence import Fit, fit


@dataclass(frozen=True, slots=True)
class Enough:
    """What the points of one scheduler say of the fewest steps that it needs.

    `low` to `high` is where the ends of the points' intervals cross the limit: fewer steps are surely too few, so many
    are surely enough. None at `high`: none of those tried surely is.
    """

    names: tuple[str, ...]
    steps: int | None  # where the estimates cross it: of those tried, or between them
    short: int | None  # the most of those tried that are not enough
    tried: int | None  # and the next, which are
    nfe: int | None  # of these
    low: int | None
    high: int | None
    order: Fit | None  # of the error against NFE, where it is compared by ratios


def enough(found: Answer) -> list[Enough]:
    """Of each scheduler that was run at two numbers of steps or more; the cheapest first. Empty where the metric is no
    distance."""
    if found.limit is None or found.metric is None:
        return []
    runs = grouped(sorted(found.measured, key=lambda p: p.steps), lambda p: p.names)
    rows = [_enough(run, found.limit, ratio=found.metric.ratio) for run in runs.values() if len(run) > 1]
    return sorted(rows, key=lambda row: math.inf if row.nfe is None else row.nfe)


def told_order(found: Fit | None) -> str:
    """ "1.0 ± 0.1"; a dash where the points do not tell it to one."""
    if found is None or found.high - found.low > 2:
        return "–"
    return f"{found.order:.1f} ± {(found.high - found.low) / 2:.1f}"


def oracle_order(known: Mapping[str, Any]) -> str:
    """What the oracle says of the scheduler, as the store keeps it."""
    order = known.get("order")
    return f"{order:.1f}" if isinstance(order, float) else str(known.get("text", "–"))


def _enough(run: Sequence[Point], limit: float, *, ratio: bool) -> Enough:
    qualities = [p.quality for p in run if p.quality]
    values, steps = [q.value for q in qualities], [p.steps for p in run]
    at = next((i for i in range(len(run)) if all(value <= limit for value in values[i:])), None)
    ends = [[q.low for q in qualities], [q.high for q in qualities]]
    low, high = (
        _crossing(steps, [e for e in end if e is not None], limit) if None not in end else None for end in ends
    )
    errors = [(p.nfe, value) for p, value in sorted(zip(run, values, strict=True), key=lambda row: row[0].nfe)]
    return Enough(
        run[0].names,
        _crossing(steps, values, limit),
        steps[-1] if at is None else steps[at - 1] if at else None,
        None if at is None else steps[at],
        None if at is None else run[at].nfe,
        low,
        high,
        fit([n for n, _ in errors], [e for _, e in errors]) if ratio else None,
    )


def _crossing(steps: Sequence[int], values: Sequence[float], limit: float) -> int | None:
    """The number of steps from which on values are within the limit, between those tried by a straight line, of
    logarithms where it can be."""
    if values[-1] > limit:
        return None
    found = steps[0]
    for (n, above), (m, below) in pairwise(zip(steps, values, strict=True)):
        if above > limit >= below:
            found = _between(n, m, above, below, limit)
    return found


def _between(n: int, m: int, above: float, below: float, limit: float) -> int:
    if below > 0:
        share = math.log(above / limit) / math.log(above / below)
        return math.ceil(math.exp(math.log(n) + share * math.log(m / n)) - 1e-9)
    return math.ceil(n + (m - n) * (above - limit) / (above - below) - 1e-9)
