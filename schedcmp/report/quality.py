"""What each scheduler costs and gives at each number of steps: the numbers that answers and plots share."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, median
from types import MappingProxyType
from typing import Any, NamedTuple

from schedcmp.axes import CONTENT, Setting, values_of
from schedcmp.errors import RequestError
from schedcmp.files import to_json
from schedcmp.grouped import grouped
from schedcmp.readings import Reading
from schedcmp.records import Reference, StoredCell, Task
from schedcmp.truth.metrics import RESOLVED
from schedcmp.truth.statistics import Estimate, estimate

AS_FAST = 1.05
_SMALLEST = 1e-6  # a distance below single precision's rounding of latents is none


class Pair(NamedTuple):
    """What two schedulers' images share when they are compared: what they show and the initial noise."""

    content: tuple[Any, ...]  # the fields of `axes.CONTENT`
    seed: int


@dataclass(frozen=True, slots=True)
class Point:
    """One scheduler at one number of steps, under all names that it has in the run."""

    names: tuple[str, ...]
    base: str
    steps: int
    nfe: int
    latency: Estimate | None  # s, median of solo images
    quality: Estimate | None  # mean over the pairs, or geometric mean where the metric is compared by ratios
    values: Mapping[Pair, float]  # the metric of each pair that has it, none below what is known of the pair
    turns: Mapping[float, float]  # latencies by the turns in which they were measured
    converged: bool = False  # all values are as small as can be told

    @property
    def scheduler(self) -> str:
        return self.names[0]


@dataclass(frozen=True, slots=True)
class Unsound:
    """One scheduler at one number of steps of which images are flagged or failed, so that it cannot be an answer."""

    names: tuple[str, ...]
    steps: int
    bad: int
    images: int
    status: str  # of the first of them
    reason: str


def choose_metric(cells: Sequence[StoredCell], known: Mapping[str, Reading], name: str | None = None) -> Reading | None:
    """The metric of that name, else the first of `known` that the run has and that may decide; None if it has none.

    Raises:
        RequestError: the run has no such metric.
    """
    there = {n for stored in cells if stored.counts for n in stored.metrics}
    if name is None:
        return _of_more(cells, [m for m in known.values() if m.name in there and m.decides])
    ranked = [m.name for m in known.values() if m.name in there and m.higher is not None]
    if name not in ranked:
        why = "neither more nor less of it is better" if name in there else "the run has no such metric"
        raise RequestError(f"--metric {name}: {why}; those that rank: {', '.join(ranked) or 'none'}")
    return known[name]


def narrower(cells: Sequence[StoredCell], known: Mapping[str, Reading]) -> list[str]:
    """The metric that would decide if all schedulers had it, where another one does: it tells those that have it apart
    with fewer images."""
    first = next((m for m in known.values() if m.decides and any(m.name in c.metrics for c in cells if c.counts)), None)
    return [] if first is None or first is choose_metric(cells, known) else [first.name]


def _of_more(cells: Sequence[StoredCell], deciding: Sequence[Reading]) -> Reading | None:
    """The first, or a distance of all images at once that schedulers have which the first leaves out."""
    if not deciding:
        return None
    without = _leaves_out(cells, deciding[0])
    return next((m for m in deciding if m.whole and len(_leaves_out(cells, m)) < len(without)), deciding[0])


def _leaves_out(cells: Sequence[StoredCell], metric: Reading) -> set[str]:
    """Schedulers of which no image has it."""
    counting = [stored for stored in cells if stored.counts]
    having = {stored.cell.scheduler for stored in counting if metric.name in stored.metrics}
    return {stored.cell.scheduler for stored in counting} - having


def resolutions(references: Iterable[Reference]) -> dict[Task, float]:
    """The distances below which cells of a task cannot be told apart."""
    return {r.task: RESOLVED * r.uncertainty for r in references if r.uncertainty is not None}


def points(
    cells: Sequence[StoredCell], metric: Reading | None, resolved: Mapping[Task, float] = MappingProxyType({})
) -> dict[Setting, tuple[list[Point], list[Unsound]]]:
    """A point per scheduler and steps, in the sweep's order, of those of which every image counts; and the others.

    Args:
        resolved: see `resolutions`; a smaller distance counts as this, so that nothing is better by what is not known.
    """
    made = settings(cells)
    tried = (stored for stored in cells if stored.result.status != "unsupported")
    found = {}
    for setting, those in grouped(tried, lambda c: made[c.cell.setting]).items():
        groups = grouped(those, lambda c: (c.cell.scheduler, c.cell.steps))
        sound = {key: members for key, members in groups.items() if all(c.counts for c in members)}
        found[setting] = (
            [_point(names, sound[names[0], steps], metric, resolved) for names, steps in _distinct(sound)],
            [_unsound(members) for key, members in groups.items() if key not in sound],
        )
    return found


def settings(cells: Sequence[StoredCell]) -> dict[Setting, Setting]:
    """Each setting as asked for and as made, which has a size where the checkpoint's own was asked for."""
    asked = {c.cell.setting: c.cell.setting for c in cells}
    return asked | {c.cell.setting: c.setting for c in cells if c.image_path}


def _distinct(groups: Mapping[tuple[str, int], list[StoredCell]]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Names of what ran with the same class, options and timesteps."""
    same: dict[Any, list[str]] = defaultdict(list)
    for (name, steps), members in groups.items():
        ran = members[0].result
        known = "_class_name" in ran.scheduler_config
        what = to_json([ran.scheduler_config, ran.timesteps]) if known else name
        same[what, steps].append(name)
    yield from ((tuple(names), steps) for (_, steps), names in same.items())


def _unsound(members: Sequence[StoredCell]) -> Unsound:
    bad = [c for c in members if not c.counts]
    reason = (bad[0].result.error or "no reason given").partition("\n")[0]
    return Unsound((bad[0].cell.scheduler,), bad[0].cell.steps, len(bad), len(members), bad[0].result.status, reason)


def complete(points: Iterable[Point]) -> list[Point]:
    """The points that have every pair that any of them has, so that any two can be compared."""
    measured = [p for p in points if p.values]
    everything = {pair for p in measured for pair in p.values}
    return [p for p in measured if len(p.values) == len(everything)]


def front(points: Iterable[Point], metric: Reading, *, by_latency: bool) -> list[Point]:
    """The Pareto front by the estimates, cheapest first: nothing that costs as little is better.

    A latency that is no more than 5 % longer costs as little: few machines can tell.
    """
    slack = AS_FAST if by_latency else 1.0
    ordered = sorted(points, key=lambda p: cost(p, by_latency=by_latency))
    rated = [(cost(p, by_latency=by_latency), goodness(p, metric)) for p in ordered]
    return [p for p, kept in zip(ordered, undominated(rated, slack), strict=True) if kept]


def undominated(rated: Sequence[tuple[float, float]], slack: float = 1.0) -> list[bool]:
    """Of each (cost, goodness) whether it is on the Pareto front: nothing is better that costs up to `slack` times as
    much, and nothing as good costs less."""
    ordered = sorted(rated)
    prices = [price for price, _ in ordered]
    best = [-math.inf, *accumulate((good for _, good in ordered), max)]  # of so many that cost least
    return [
        best[bisect_right(prices, slack * price)] <= good > best[bisect_left(prices, price)] for price, good in rated
    ]


def cost(point: Point, *, by_latency: bool) -> float:
    return point.latency.value if by_latency and point.latency else point.nfe


def goodness(point: Point, metric: Reading) -> float:
    """The more the better: the estimate, or, where intervals may be of very different width, their worse end."""
    assert point.quality
    surely = point.quality.high if metric.whole and point.quality.high is not None else point.quality.value
    return surely if metric.higher else -surely


def common_turns(points: Iterable[Point]) -> list[float]:
    """Those in which all points were timed; their latencies are pairs."""
    found = [set(p.turns) for p in points]
    return sorted(set.intersection(*found)) if found else []


def _point(
    names: tuple[str, ...], members: Sequence[StoredCell], metric: Reading | None, resolved: Mapping[Task, float]
) -> Point:
    cell = members[0].cell
    timings = [t for m in members for t in m.result.timings]
    latencies = [t.latency_s for t in timings]
    floors = resolved if metric and metric.name == "reference_rmse" else {}
    values = {} if metric is None else dict(_values(members, metric, floors))
    if metric and metric.whole:
        values = _by_seed(values)
    return Point(
        names,
        cell.base,
        cell.steps,
        round(median(m.result.nfe or 0 for m in members)),
        estimate(latencies, "median") if latencies else None,
        estimate([*values.values()], "geometric mean" if metric and metric.ratio else "mean") if values else None,
        values,
        {t.turn: t.latency_s for t in timings if t.turn is not None},
        bool(floors and values)
        and all(m.metrics.get("reference_rmse", 0) <= floors.get(m.cell.task, 0) for m in members),
    )


def _by_seed(values: Mapping[Pair, float]) -> dict[Pair, float]:
    """The mean over prompts for each seed that all of them have: one seed's noise is in the images of all prompts."""
    contents = {pair.content for pair in values}
    seeds = grouped(values, lambda pair: pair.seed)
    whole = {seed: pairs for seed, pairs in seeds.items() if len(pairs) == len(contents)}
    return {Pair((), seed): fmean(values[pair] for pair in pairs) for seed, pairs in whole.items()}


def _values(
    members: Sequence[StoredCell], metric: Reading, floors: Mapping[Task, float]
) -> Iterator[tuple[Pair, float]]:
    for stored in members:
        cell, value = stored.cell, stored.metrics.get(metric.name)
        if value is not None:
            pair = Pair(values_of(cell, CONTENT), cell.seed)
            yield pair, max(value, floors.get(cell.task, 0.0), _SMALLEST) if metric.ratio else value
