"""What each scheduler costs and gives at each number of steps: the numbers that answers and plots share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from schedcmp.errors import RequestError
from schedcmp.records import Reference, StoredCell, Task
from schedcmp.report.tables import interquartile_range
from schedcmp.truth.metrics import RESOLVED
from schedcmp.truth.statistics import Estimate, estimate

_AS_FAST = 1.05
_STEADY = 0.1  # interquartile range over median; a machine that has nothing else to do stays below it
_SMALLEST = 1e-6  # a distance below single precision's rounding of latents is none


@dataclass(frozen=True, slots=True)
class Metric:
    """How to read a number that was measured of images."""

    name: str
    label: str
    brief: str
    higher: bool = True  # more is better
    ratio: bool = False  # compared as ratios
    unit: str = ""

    @property
    def title(self) -> str:
        """The label with its unit, for an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS = {
    m.name: m
    for m in (
        Metric("reference_rmse", "RMSE to the converged image", "RMSE", False, True, "standard deviations"),
        Metric("reference_psnr_db", "PSNR to the converged image", "PSNR", unit="dB"),
        Metric("reference_ssim", "SSIM to the converged image", "SSIM"),
        Metric("adherence", "prompt adherence", "adherence"),
        Metric("clip", "CLIP score", "CLIP score"),
    )
}


class Setting(NamedTuple):
    """What images that are compared must have in common."""

    guidance_scale: float
    width: int | None
    height: int | None


class Pair(NamedTuple):
    """What two schedulers' images share when they are compared: the prompts and the initial noise."""

    prompt: str
    negative_prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Point:
    """One scheduler at one number of steps."""

    scheduler: str
    base: str
    steps: int
    nfe: int
    latency: Estimate | None  # s, median of solo images
    quality: Estimate | None  # mean over the pairs, or geometric mean where the metric is compared by ratios
    values: Mapping[Pair, float]  # the metric of each pair that has it, none below what is known of the pair
    scatter: float | None = None  # of the latencies: interquartile range over median
    converged: bool = False  # all values are as small as can be told


@dataclass(frozen=True, slots=True)
class Unsound:
    """One scheduler at one number of steps of which images are flagged or failed, so that it cannot be an answer."""

    scheduler: str
    steps: int
    bad: int
    images: int
    status: str  # of the first of them
    reason: str


def choose_metric(cells: Sequence[StoredCell], name: str | None = None) -> Metric | None:
    """The metric of that name, else the first of `METRICS` that the run has; None if it has none.

    Raises:
        RequestError: the run has no such metric.
    """
    there = {n for stored in cells if stored.counts for n in stored.metrics}
    if name is None:
        return next((m for m in METRICS.values() if m.name in there), None)
    if name not in METRICS or name not in there:
        has = ", ".join(n for n in METRICS if n in there) or "none"
        raise RequestError(f"--metric {name}: the run has no such metric; it has: {has}")
    return METRICS[name]


def resolutions(references: Iterable[Reference]) -> dict[Task, float]:
    """The distances below which cells of a task cannot be told apart."""
    return {r.task: RESOLVED * r.uncertainty for r in references if r.uncertainty is not None}


def points(
    cells: Sequence[StoredCell], metric: Metric | None, resolved: Mapping[Task, float] = MappingProxyType({})
) -> dict[Setting, tuple[list[Point], list[Unsound]]]:
    """A point per scheduler and steps, in the sweep's order, of those of which every image counts; and the others.

    Args:
        resolved: see `resolutions`; a smaller distance counts as this, so that nothing is better by what is not known.
    """
    groups: dict[Setting, dict[tuple[str, int], list[StoredCell]]] = defaultdict(lambda: defaultdict(list))
    made = {_asked(c): Setting(c.cell.guidance_scale, c.result.width, c.result.height) for c in cells if c.image_path}
    for stored in cells:
        if stored.result.status != "unsupported":
            groups[made.get(_asked(stored), _asked(stored))][stored.cell.scheduler, stored.cell.steps].append(stored)
    return {
        setting: (
            [_point(g, metric, resolved) for g in found.values() if all(c.counts for c in g)],
            [_unsound(g) for g in found.values() if not all(c.counts for c in g)],
        )
        for setting, found in groups.items()
    }


def _asked(stored: StoredCell) -> Setting:
    return Setting(stored.cell.guidance_scale, stored.cell.width, stored.cell.height)


def _unsound(members: Sequence[StoredCell]) -> Unsound:
    bad = [c for c in members if not c.counts]
    reason = (bad[0].result.error or "no reason given").partition("\n")[0]
    return Unsound(bad[0].cell.scheduler, bad[0].cell.steps, len(bad), len(members), bad[0].result.status, reason)


def complete(points: Iterable[Point]) -> list[Point]:
    """The points that have every pair that any of them has, so that any two can be compared."""
    measured = [p for p in points if p.values]
    everything = {pair for p in measured for pair in p.values}
    return [p for p in measured if len(p.values) == len(everything)]


def front(points: Iterable[Point], metric: Metric, *, by_latency: bool) -> list[Point]:
    """The Pareto front by the estimates, cheapest first: nothing that costs as little is better.

    A latency that is no more than 5 % longer costs as little: few machines can tell.
    """
    slack = _AS_FAST if by_latency else 1.0
    ordered = sorted(points, key=lambda p: cost(p, by_latency=by_latency))
    rated = [(p, cost(p, by_latency=by_latency), goodness(p, metric)) for p in ordered]
    return [
        p
        for p, price, good in rated
        if not any((g > good and c <= slack * price) or (g == good and c < price) for _, c, g in rated)
    ]


def cost(point: Point, *, by_latency: bool) -> float:
    return point.latency.value if by_latency and point.latency else point.nfe


def goodness(point: Point, metric: Metric) -> float:
    assert point.quality
    return point.quality.value if metric.higher else -point.quality.value


def timed(points: Sequence[Point]) -> bool:
    """Whether seconds can be the points' cost: all have a latency, and something like the same each time."""
    return all(p.latency for p in points) and (scatter(points) or 0.0) <= _STEADY


def scatter(points: Iterable[Point]) -> float | None:
    """The median of the points' scatter; None if no point was timed twice."""
    found = [p.scatter for p in points if p.scatter is not None]
    return median(found) if found else None


def _point(members: Sequence[StoredCell], metric: Metric | None, resolved: Mapping[Task, float]) -> Point:
    cell = members[0].cell
    latencies = [t.latency_s for m in members for t in m.result.timings]
    floors = resolved if metric and metric.name == "reference_rmse" else {}
    values = {} if metric is None else dict(_values(members, metric, floors))
    spread = interquartile_range(latencies)
    return Point(
        cell.scheduler,
        cell.base,
        cell.steps,
        round(median(m.result.nfe or 0 for m in members)),
        estimate(latencies, "median") if latencies else None,
        estimate([*values.values()], "geometric mean" if metric and metric.ratio else "mean") if values else None,
        values,
        None if spread is None else spread / median(latencies),
        bool(floors and values)
        and all(m.metrics.get("reference_rmse", 0) <= floors.get(m.cell.task, 0) for m in members),
    )


def _values(
    members: Sequence[StoredCell], metric: Metric, floors: Mapping[Task, float]
) -> Iterator[tuple[Pair, float]]:
    for stored in members:
        cell, value = stored.cell, stored.metrics.get(metric.name)
        if value is not None:
            pair = Pair(cell.prompt, cell.negative_prompt, cell.seed)
            yield pair, max(value, floors.get(cell.task, 0.0), _SMALLEST) if metric.ratio else value
