"""The parts of sentences and tables: a scheduler at a number of steps, what it costs, how good it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from schedcmp.readings import Reading
from schedcmp.report.answer import Answer, Budget
from schedcmp.report.enough import Enough
from schedcmp.report.numbers import NONE, seconds
from schedcmp.report.quality import Pair, Point, Unsound
from schedcmp.truth.statistics import Difference, Estimate

_NAMED = 4


def short(point: Point | Unsound) -> str:
    """ "euler at 10 steps"; "mine = euler at 10 steps" where one scheduler has two names."""
    return f"{' = '.join(point.names)} at {point.steps} step{'s' if point.steps != 1 else ''}"


def number(estimate: Estimate | None) -> str:
    """ "0.0831 [0.0702, 0.0987]": the estimate with its 95 % interval, if it has one."""
    if estimate is None:
        return NONE
    ends = f" [{estimate.low:.3g}, {estimate.high:.3g}]" if estimate.ends else ""
    return f"{estimate.value:.3g}{ends}"


def quality(point: Point, metric: Reading) -> str:
    """ "RMSE 0.0831 [0.0702, 0.0987]"; "RMSE below 0.004" where the converged image is not known better."""
    if point.converged and point.quality:
        return f"{metric.brief} below {point.quality.value:.2g}, as far as the converged image is known"
    return f"{metric.brief} {number(point.quality)}"


def cost_of(found: Answer, point: Point) -> str:
    latency = latency_of(found, point)
    return ", ".join([f"{point.nfe} NFE", *([] if latency is None else [seconds(latency)])])


def latency_of(found: Answer, point: Point) -> float | None:
    """Seconds, where they may be named."""
    return None if found.doubts or not point.latency else point.latency.value


def interval(row: Enough) -> str:
    return "" if row.low is None else f" [{row.low}, {row.high or '?'}]"


def budget_words(budget: Budget) -> str:
    return f"{budget.limit:g} NFE" if budget.unit == "NFE" else seconds(budget.limit)


def named(points: Sequence[Point]) -> str:
    return few([short(p) for p in points])


def few(names: Sequence[str]) -> str:
    """ "a, b, c, d and 3 more"."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def seeds_needed(difference: Difference, pairs: Collection[Pair]) -> str:
    """How many seeds would tell two apart that these pairs do not, in brackets, if that is known."""
    needed, prompts = difference.pairs_needed, len({pair.content for pair in pairs})
    if needed is None or needed <= len(pairs):
        return ""
    return f" (about {-(-needed // prompts)} seeds would tell the first two, if they differ as much as they seem)"
