"""The points of the page's plots: a scheduler at a number of steps in one setting, and which of them nothing beats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean, median
from typing import Any

from schedcmp.grouped import grouped
from schedcmp.records import StoredCell
from schedcmp.report.answer import Answer
from schedcmp.report.quality import undominated
from schedcmp.report.steadiness import timed_group

Better = Mapping[str, bool | None]  # by measure: whether more is better; None: neither
COSTS: Better = {"latency": False, "nfe": False}


def plotted(
    cells: Sequence[StoredCell],
    latency: Mapping[tuple[Any, ...], float],
    metrics: Better,
    answers: Sequence[Answer],
    whole: Collection[str] = (),
) -> list[dict[str, Any]]:
    """A point for all counted images of a scheduler, steps and setting.

    Its values are the answer's estimates, with the ends of their intervals, where there are some; else medians.
    `front` has the pairs of measures in which no point of the setting is better at as low a cost, or in both.

    Args:
        latency: seconds by `timed_group`.
        metrics: the run's.
        whole: those of all images together, of which cells have shares.
    """
    counted = (i for i, stored in enumerate(cells) if stored.counts and stored.image_path)
    groups = grouped(counted, lambda i: timed_group(cells[i]))
    estimates = {
        (name, p.steps, *a.setting): (a.metric.name, p.quality)
        for a in answers
        for p in a.measured
        for name in p.names
        if a.metric
    }
    points = {}
    for key, places in groups.items():
        members = [cells[i] for i in places]
        values = {"latency": latency.get(key), "nfe": _median(c.result.nfe for c in members)}
        for metric in metrics:
            values[metric] = _median((c.metrics.get(metric) for c in members), fmean if metric in whole else median)
        points[key] = {"cell": places[0], "count": len(places), "values": values, "ends": {}, "front": []}
        name, quality = estimates.get(key, ("", None))
        if quality:
            values[name] = quality.value
            points[key]["ends"] = {name: [quality.low, quality.high]}
    _mark_fronts(points, {**COSTS, **metrics}, answers)
    return [*points.values()]


def _median(values: Iterable[float | None], statistic: Callable[[Sequence[float]], float] = median) -> float | None:
    found = [value for value in values if value is not None]
    return statistic(found) if found else None


def _mark_fronts(points: Mapping[tuple[Any, ...], dict[str, Any]], better: Better, answers: Sequence[Answer]) -> None:
    decided: dict[tuple[Any, ...], tuple[str, str]] = {
        a.setting: ("latency" if a.by_latency else "nfe", a.metric.name) for a in answers if a.metric
    }
    for setting, keys in grouped(points, lambda key: key[2:]).items():
        for pair in combinations([name for name, more in better.items() if more is not None], 2):
            if decided.get(setting) != pair:
                _mark([points[key] for key in keys], pair, better)
    for a in answers:
        for key in ((name, p.steps, *a.setting) for p in a.front for name in p.names):
            points[key]["front"].append(" ".join(decided[a.setting]))


def _mark(points: Sequence[dict[str, Any]], pair: tuple[str, str], better: Better) -> None:
    known = [p for p in points if all(p["values"][name] is not None for name in pair)]
    x, y = ([p["values"][name] * (1 if better[name] else -1) for p in known] for name in pair)
    for point, kept in zip(known, undominated([(-a, b) for a, b in zip(x, y, strict=True)]), strict=True):
        if kept:
            point["front"].append(" ".join(pair))
