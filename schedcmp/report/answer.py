"""What a run says about which scheduler to take, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schedcmp.axes import Setting
from schedcmp.errors import RequestError
from schedcmp.readings import Reading, readings
from schedcmp.records import Reference, StoredCell
from schedcmp.report.quality import (
    AS_FAST,
    Pair,
    Point,
    Unsound,
    choose_metric,
    common_turns,
    complete,
    cost,
    front,
    goodness,
    points,
    resolutions,
    settings,
)
from schedcmp.report.steadiness import doubts
from schedcmp.truth.statistics import FEWEST_OF_A_MEDIAN, Difference, Estimate, against_best

CONVERGED = 0.1  # standard deviations of the latents
_MOST_BUDGETS = 6
_WORTH_A_TEST = 1.2  # times the least latency; what is slower is not as fast


@dataclass(frozen=True, slots=True)
class Budget:
    """What an image may cost."""

    limit: float
    unit: Literal["s", "NFE"]

    @classmethod
    def of(cls, seconds: float | None, nfe: int | None) -> Budget | None:
        """What is given, if anything is. Raises RequestError for both."""
        if seconds is not None and nfe is not None:
            raise RequestError("--budget-s and --budget-nfe: give one of them")
        if seconds is not None:
            return cls(seconds, "s")
        return None if nfe is None else cls(nfe, "NFE")

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
        return tuple((p, d) for p, d in self.others if not d.told_apart)


@dataclass(frozen=True, slots=True)
class Answer:
    """What holds for images of one setting."""

    setting: Setting
    metric: Reading | None
    limit: float | None  # how far from converged is near enough; None where the metric is no distance
    measured: tuple[Point, ...]  # that can be compared: each has all the pairs
    cheapest: tuple[Point, ...]  # all points by cost
    fastest: Point | None  # of those that are within the limit with their whole interval; without a metric, of all
    hopeful: Point | None  # the fastest whose estimate is within the limit, where that is another one
    as_fast: tuple[Point, ...]  # like the fastest, and as fast for all that is known, or as cheap
    choices: tuple[Choice, ...]
    front: tuple[Point, ...]
    by_latency: bool  # else costs are NFE
    turns: int  # in which all were timed
    doubts: tuple[str, ...]  # why latencies are no basis for a choice, see `steadiness`
    unmeasured: tuple[str, ...]  # schedulers whose images have no value of the metric
    incomplete: tuple[Point, ...]  # left out: values are missing
    unsound: tuple[Unsound, ...]  # left out: images are flagged or failed
    withheld: Mapping[str, int]  # why tasks have no converged image, and how many

    @property
    def best(self) -> Point | None:
        """The one to take: the fastest that is near enough, else the nearest that the budgets allow."""
        choices = [choice.best for choice in self.choices[-1:]]
        return next(iter([*filter(None, [self.fastest, self.hopeful]), *choices]), None)

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
    known: Mapping[str, Reading] = readings(None),
) -> list[Answer]:
    """An answer for each setting of a run's images.

    Args:
        references: the run's, for what they say where there is no distance.
        metric: what decides; by default the distance from the converged image, or of all images from all such where
            some schedulers have no other, else the first that the run has.
        budget: look only at what costs no more; by default, at every usual number of evaluations.
        limit: near enough to converged, in standard deviations of the latents; see `near_enough`.
        known: how to read the run's metrics.

    Raises:
        RequestError: the run has no such metric.
    """
    chosen, references, doubted = choose_metric(cells, known, metric), list(references), doubts(cells)
    made = settings(cells)
    noted = [r for r in references if r.note]
    of_task = {c.cell.task: made[c.cell.setting] for c in cells} if noted else {}
    notes = [(of_task.get(r.task), r.note) for r in noted]
    return [
        _answer(s, *found, doubted, chosen, budget, limit, Counter(note for of, note in notes if of == s))
        for s, found in points(cells, chosen, resolutions(references)).items()
    ]


def _answer(
    setting: Setting,
    found: list[Point],
    unsound: list[Unsound],
    doubted: tuple[str, ...],
    metric: Reading | None,
    budget: Budget | None,
    limit: float,
    withheld: Mapping[str, int],
) -> Answer:
    measured = complete(found)
    allowed = [p for p in measured if budget is None or budget.allows(p)]
    turns = common_turns(found)
    by_latency = not doubted and len(turns) >= FEWEST_OF_A_MEDIAN
    distance = metric is not None and metric.near is not None
    limit = near_enough(metric, limit) if metric else limit
    near = [p for p in allowed if distance and _within(p.quality, limit)]
    candidates = near if metric else [p for p in found if budget is None or budget.allows(p)]
    fastest, as_fast = _leaders(candidates, metric if near else None, turns if by_latency else [])
    hoped = [p for p in allowed if distance and p.quality and p.quality.value <= limit]
    hopeful = min(hoped, key=lambda p: cost(p, by_latency=by_latency), default=None)
    names = {name for p in measured for name in p.names}
    return Answer(
        setting,
        metric,
        limit if distance else None,
        tuple(measured),
        tuple(sorted(found, key=lambda p: cost(p, by_latency=by_latency))),
        fastest,
        None if any(p is hopeful for p in near) else hopeful,
        as_fast,
        _choices(allowed, metric, [budget] if budget else usual_budgets(measured)) if metric else (),
        tuple(front(allowed, metric, by_latency=by_latency)) if metric else (),
        by_latency,
        len(turns),
        doubted,
        tuple(dict.fromkeys(n for p in found if metric and not p.values for n in p.names if n not in names)),
        tuple(p for p in found if p.values and p not in measured),
        tuple(unsound),
        withheld,
    )


def tolerance(sweep: Mapping[str, Any]) -> float:
    """How far from converged is near enough for a run's sweep, in standard deviations of the latents."""
    steps = sweep.get("steps")
    auto = steps.get("auto") if isinstance(steps, dict) else None
    value = auto.get("tolerance") if isinstance(auto, dict) else None
    return value if isinstance(value, float) else CONVERGED


def near_enough(metric: Reading, limit: float) -> float:
    """What a limit in standard deviations of the latents is in a metric; an energy distance grows with their square."""
    return limit if metric.near is None else metric.near * (limit / CONVERGED) ** (2 if metric.whole else 1)


def _within(quality: Estimate | None, limit: float) -> bool:
    """Within the limit even at the far end of the interval, where there is one."""
    return quality is not None and (quality.value if quality.high is None else quality.high) <= limit


def _leaders(
    candidates: Sequence[Point], metric: Reading | None, turns: Sequence[float]
) -> tuple[Point | None, tuple[Point, ...]]:
    """The cheapest, and those that are as cheap for all that is known.

    Args:
        turns: in which all were timed; empty where cost is counted in NFE.
    """
    ordered = sorted(candidates, key=lambda p: (cost(p, by_latency=bool(turns)), -goodness(p, metric) if metric else 0))
    if not ordered:
        return None, ()
    if not turns:
        return ordered[0], tuple(p for p in ordered[1:] if p.nfe == ordered[0].nfe)
    near = [p for p in ordered if cost(p, by_latency=True) <= _WORTH_A_TEST * cost(ordered[0], by_latency=True)]
    best, differences = against_best([[p.turns[t] for t in turns] for p in near], ratio=True, higher=False)
    alike = (near[i] for i, d in differences.items() if not d.told_apart or d.estimate.value <= AS_FAST)
    return near[best], tuple(alike)


def usual_budgets(points: Sequence[Point]) -> list[Budget]:
    """The numbers of evaluations at which most schedulers were run, and the largest of all."""
    usual = Counter(p.nfe for p in points).most_common(_MOST_BUDGETS)
    limits = {nfe for nfe, count in usual if count >= usual[0][1] / 2} | {max((p.nfe for p in points), default=0)}
    return [Budget(nfe, "NFE") for nfe in sorted(limits)]


def _choices(allowed: Sequence[Point], metric: Reading, budgets: Sequence[Budget]) -> tuple[Choice, ...]:
    found = (_choice([p for p in allowed if budget.allows(p)], metric, budget) for budget in budgets)
    return tuple(choice for choice in found if choice)


def _choice(allowed: Sequence[Point], metric: Reading, budget: Budget) -> Choice | None:
    """Each scheduler with the most evaluations that the budget allows: chosen by cost, so that no luck is in it."""
    if not allowed:
        return None
    most = {name: point for point in sorted(allowed, key=lambda p: p.nfe) for name in point.names}
    entries = list({id(point): point for point in most.values()}.values())
    rows = [[p.values[pair] for pair in entries[0].values] for p in entries]
    best, differences = against_best(rows, ratio=metric.ratio, higher=bool(metric.higher))
    if metric.whole:  # of those that are not told apart, the surest: a wide interval alone makes none the best
        alike = [best, *(i for i, d in differences.items() if not d.told_apart)]
        best = max(alike, key=lambda i: goodness(entries[i], metric))
        best, differences = against_best(rows, ratio=metric.ratio, higher=bool(metric.higher), best=best)
    others = sorted(((entries[i], d) for i, d in differences.items()), key=lambda o: -goodness(o[0], metric))
    return Choice(budget, entries[best], tuple(others))
