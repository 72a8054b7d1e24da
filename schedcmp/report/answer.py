"""What a run says about which scheduler to take, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schedcmp.records import Reference, StoredCell
from schedcmp.report.quality import (
    Metric,
    Pair,
    Point,
    Setting,
    Unsound,
    choose_metric,
    complete,
    cost,
    front,
    goodness,
    points,
    resolutions,
    scatter,
    timed,
)
from schedcmp.truth.statistics import LEVEL, Difference, Estimate, against_best

CONVERGED = 0.1  # standard deviations of the latents
_MOST_BUDGETS = 6


@dataclass(frozen=True, slots=True)
class Budget:
    """What an image may cost."""

    limit: float
    unit: Literal["s", "NFE"]

    def allows(self, point: Point) -> bool:
        if self.unit == "NFE":
            return point.nfe <= self.limit
        return point.latency is not None and point.latency.value <= self.limit


@dataclass(frozen=True, slots=True)
class Choice:
    """The best of a budget, and every other scheduler against it."""

    budget: Budget
    best: Point
    others: tuple[tuple[Point, Difference], ...]  # best first

    @property
    def alike(self) -> tuple[tuple[Point, Difference], ...]:
        """Those that are not worse by more than noise."""
        return tuple((p, d) for p, d in self.others if d.p is None or d.p > 1 - LEVEL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What holds for images of one guidance and size."""

    setting: Setting
    metric: Metric | None
    limit: float | None  # how far from converged is near enough; None where the metric is no distance
    measured: tuple[Point, ...]  # that can be compared: each has all the pairs
    cheapest: tuple[Point, ...]  # all points by cost
    fastest: Point | None  # of those that are within the limit with their whole interval
    hopeful: Point | None  # the fastest whose estimate is within the limit, where that is another one
    as_fast: tuple[Point, ...]  # within the limit like the fastest, and as fast for all that is known
    choices: tuple[Choice, ...]
    front: tuple[Point, ...]
    by_latency: bool  # else costs are NFE
    scatter: float | None  # of latencies, see `quality.scatter`
    unmeasured: tuple[str, ...]  # schedulers whose images have no value of the metric
    incomplete: tuple[Point, ...]  # left out: values are missing
    unsound: tuple[Unsound, ...]  # left out: images are flagged or failed
    withheld: Mapping[str, int]  # why tasks have no converged image, and how many

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(self.measured[0].values) if self.measured else ()


def answer(
    cells: Sequence[StoredCell],
    references: Iterable[Reference] = (),
    *,
    metric: str | None = None,
    budget: Budget | None = None,
    limit: float = CONVERGED,
) -> list[Answer]:
    """An answer for each guidance and size of a run.

    Args:
        references: the run's, for what they say where there is no distance.
        metric: what decides; by default the distance from the converged image, else the first that the run has.
        budget: look only at what costs no more; by default, at every usual number of evaluations.
        limit: near enough to converged, in standard deviations of the latents.

    Raises:
        RequestError: the run has no such metric.
    """
    chosen, references = choose_metric(cells, metric), list(references)
    notes = [(r.task[2], r.note) for r in references if r.note]
    return [
        _answer(s, *found, chosen, budget, limit, Counter(note for guidance, note in notes if guidance == s[0]))
        for s, found in points(cells, chosen, resolutions(references)).items()
    ]


def _answer(
    setting: Setting,
    found: list[Point],
    unsound: list[Unsound],
    metric: Metric | None,
    budget: Budget | None,
    limit: float,
    withheld: Mapping[str, int],
) -> Answer:
    measured = complete(found)
    allowed = [p for p in measured if budget is None or budget.allows(p)]
    by_latency = timed(found)
    distance = metric is not None and not metric.higher
    near = [p for p in allowed if distance and _within(p.quality, limit)]
    fastest = min(near, key=lambda p: cost(p, by_latency=by_latency), default=None)
    hoped = [p for p in allowed if distance and p.quality and p.quality.value <= limit]
    hopeful = min(hoped, key=lambda p: cost(p, by_latency=by_latency), default=None)
    names = {p.scheduler for p in measured}
    return Answer(
        setting,
        metric,
        limit if distance else None,
        tuple(measured),
        tuple(sorted(found, key=lambda p: cost(p, by_latency=by_latency))),
        fastest,
        None if hopeful is fastest else hopeful,
        tuple(p for p in near if fastest and by_latency and _as_fast(p, fastest)),
        _choices(allowed, metric, [budget] if budget else _budgets(measured)) if metric else (),
        tuple(front(allowed, metric, by_latency=by_latency)) if metric else (),
        by_latency,
        scatter(found),
        tuple(dict.fromkeys(p.scheduler for p in found if metric and not p.values and p.scheduler not in names)),
        tuple(p for p in found if p.values and p not in measured),
        tuple(unsound),
        withheld,
    )


def _within(quality: Estimate | None, limit: float) -> bool:
    """Within the limit even at the far end of the interval, where there is one."""
    return quality is not None and (quality.value if quality.high is None else quality.high) <= limit


def _as_fast(point: Point, fastest: Point) -> bool:
    """Another scheduler's point whose latency is not known to be longer."""
    a, b = point.latency, fastest.latency
    if (
        point.scheduler == fastest.scheduler
        or a is None
        or b is None
        or a.low is None
        or a.high is None
        or b.low is None
        or b.high is None
    ):
        return False
    return a.low <= b.high and b.low <= a.high


def _budgets(points: Sequence[Point]) -> list[Budget]:
    """The numbers of evaluations at which most schedulers were run, and the largest of all."""
    usual = Counter(p.nfe for p in points).most_common(_MOST_BUDGETS)
    limits = {nfe for nfe, count in usual if count >= usual[0][1] / 2} | {max((p.nfe for p in points), default=0)}
    return [Budget(nfe, "NFE") for nfe in sorted(limits)]


def _choices(allowed: Sequence[Point], metric: Metric, budgets: Sequence[Budget]) -> tuple[Choice, ...]:
    found = (_choice([p for p in allowed if budget.allows(p)], metric, budget) for budget in budgets)
    return tuple(choice for choice in found if choice)


def _choice(allowed: Sequence[Point], metric: Metric, budget: Budget) -> Choice | None:
    """Each scheduler with the most evaluations that the budget allows: chosen by cost, so that no luck is in it."""
    if not allowed:
        return None
    most: dict[str, Point] = {}
    for point in sorted(allowed, key=lambda p: p.nfe):
        most[point.scheduler] = point
    entries = list(most.values())
    rows = [[p.values[pair] for pair in entries[0].values] for p in entries]
    best, differences = against_best(rows, ratio=metric.ratio, higher=metric.higher)
    others = sorted(((entries[i], d) for i, d in differences.items()), key=lambda o: -goodness(o[0], metric))
    return Choice(budget, entries[best], tuple(others))
