"""An answer in words: what to take, how sure that is, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

from schedcmp.readings import Reading
from schedcmp.report.answer import Answer, Budget, Choice
from schedcmp.report.enough import Enough, enough, oracle_order, told_order
from schedcmp.report.numbers import NONE, seconds
from schedcmp.report.quality import Pair, Point, Unsound, goodness
from schedcmp.truth.energy import FEWEST_SEEDS
from schedcmp.truth.statistics import FEWEST_OF_A_MEAN, Estimate

_NAMED = 4
_SEEDS = (
    f"With {FEWEST_SEEDS} seeds of each prompt or more, what draws noise is compared too, by all its images together"
)


def sentences(found: Answer) -> list[str]:
    """The answer, most useful first; plain text."""
    if not found.cheapest:
        return ["There is no answer: no image counts.", *_unsound(found)]
    return [*_speed(found), *_enough(found), *_budgets(found), *_missing(found)]


def markdown(
    answers: Sequence[Answer],
    seen: Sequence[str] = (),
    beside: Iterable[Answer] = (),
    orders: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    first: str = "",
) -> str:
    """`answer.md`: the sentences and the Pareto front, a section for each setting.

    Args:
        seen: sentences on what else was seen.
        beside: answers by a metric that not all schedulers have.
        orders: what the oracle says of schedulers, where the run has asked it.
        first: a section on all settings together, see `report.across`.
    """
    parts = ["# Which scheduler?", *([first] if first else [])]
    told = (*answers, *beside)
    for found, heading in zip(told, headings(told), strict=True):
        titles = [heading] if heading else []
        titles += [f"by {found.metric.label}"] if found.metric and found not in answers else []
        parts += [f"## {', '.join(titles)}"] if titles else []
        parts.append("\n".join(f"- {sentence}" for sentence in sentences(found)))
        if found.front and found.metric:
            parts.append(_front(found, found.metric))
        if found.choices and found.metric:
            parts.append(_ranking(found, found.metric, found.choices[-1]))
        if rows := enough(found):
            parts.append(_steps(found, rows, orders))
    if not answers:
        parts.append("- The run has no images yet.")
    if seen:
        parts += ["## What else was seen", "\n".join(f"- {sentence}" for sentence in seen)]
    return "\n\n".join(parts) + "\n"


def headings(answers: Sequence[Answer]) -> list[str]:
    """Of each answer its setting; nothing where all have the same."""
    settings = {found.setting for found in answers}
    return [", ".join(found.setting.words(settings)) if len(settings) > 1 else "" for found in answers]


def short(point: Point | Unsound) -> str:
    """ "euler at 10 steps"; "mine = euler at 10 steps" where one scheduler has two names."""
    return f"{' = '.join(point.names)} at {point.steps} step{'s' if point.steps != 1 else ''}"


def number(estimate: Estimate | None) -> str:
    """ "0.0831 [0.0702, 0.0987]": the estimate with its 95 % interval, if it has one."""
    if estimate is None:
        return NONE
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def quality(point: Point, metric: Reading) -> str:
    """ "RMSE 0.0831 [0.0702, 0.0987]"; "RMSE below 0.004" where the converged image is not known better."""
    if point.converged and point.quality:
        return f"{metric.brief} below {point.quality.value:.2g}, as far as the converged image is known"
    return f"{metric.brief} {number(point.quality)}"


def _cost(found: Answer, point: Point) -> str:
    latency = _latency(found, point)
    return ", ".join([f"{point.nfe} NFE", *([] if latency is None else [seconds(latency)])])


def _latency(found: Answer, point: Point) -> float | None:
    """Seconds, where they may be named."""
    return None if found.doubts or not point.latency else point.latency.value


def _speed(found: Answer) -> Iterator[str]:
    what, like = ("fastest", "as fast for all that is known") if found.by_latency else ("cheapest", "as cheap")
    as_fast = f"; {like}: {_names(found.as_fast)}" if found.as_fast else ""
    if found.metric is None and found.fastest:
        if not found.by_latency:
            yield f"The fewest evaluations: {_names([found.fastest, *found.as_fast])}, {found.fastest.nfe} NFE."
        elif as_fast:
            yield f"None is surely the fastest: {short(found.fastest)}, {_cost(found, found.fastest)}{as_fast}."
        else:
            yield f"The fastest is {short(found.fastest)}, {_cost(found, found.fastest)}."
    elif found.metric and found.limit is not None and found.measured:
        within = f"{found.metric.label} at most {found.limit:g}"
        if found.fastest:
            yield f"The {what} that has converged ({within}): {_told(found, found.fastest, found.metric)}{as_fast}."
        else:
            yield f"Nothing has surely converged ({within})."
        if found.hopeful:
            yield f"Perhaps {_told(found, found.hopeful, found.metric)}: its interval reaches beyond {found.limit:g}."


def _enough(found: Answer) -> Iterator[str]:
    """Where it was found out to the step."""
    rows = [row for row in enough(found) if row.tried and row.tried - (row.short or 0) == 1]
    if rows and found.metric:
        told = [f"{' = '.join(row.names)} {row.steps}{_to(row)}" for row in rows]
        yield f"The fewest steps for that, with 95 % intervals: {few(told)}."


def _to(row: Enough) -> str:
    return "" if row.low is None else f" [{row.low}, {row.high or '?'}]"


def _told(found: Answer, point: Point, metric: Reading) -> str:
    return f"{short(point)}, {_cost(found, point)}, {quality(point, metric)}"


def _budgets(found: Answer) -> Iterator[str]:
    for choice, before in zip(found.choices, (None, *found.choices), strict=False):
        if before and before.best is choice.best:
            yield f"Up to {budget_words(choice.budget)}: still {short(choice.best)}."
        else:
            yield _budget(found, choice)


def budget_words(budget: Budget) -> str:
    return f"{budget.limit:g} NFE" if budget.unit == "NFE" else seconds(budget.limit)


def _budget(found: Answer, choice: Choice) -> str:
    assert found.metric
    best = f"p to {budget_words(choice.budget)}: {short(choice.best)}, {quality(choice.best, found.metric)}"
    if not choice.others:
        return f"U{best}; nothing else to compare with."
    if not choice.alike:
        whom = f"all {len(choice.others)} others: the next, " if len(choice.others) > 1 else "the other: "
        return f"Best u{best}; better than {whom}{_lead(found.metric, choice)}."
    if len(found.pairs) < 2:
        return f"On one image each, u{best}; next {_ranked(found.metric, choice)}."
    alike = {id(p) for p, _ in choice.alike}
    told = [p for p, _ in choice.others if id(p) not in alike]
    rest = f"; better than {_names(told)}" if told else ""
    return f"U{best}; not told apart from {_names([p for p, _ in choice.alike])}{_needed(found, choice)}{rest}."


def _ranked(metric: Reading, choice: Choice) -> str:
    """The others, those first that are equal to the best."""
    others = [point for point, _ in choice.others]
    equal = [point for point in others if goodness(point, metric) == goodness(choice.best, metric)]
    return f"{_names(equal)}, equal; then {_names(others[len(equal) :])}" if equal else _names(others)


def _lead(metric: Reading, choice: Choice) -> str:
    point, difference = choice.others[0]
    size = number(difference.estimate)
    return f"{short(point)}, is {f'{size} times as far' if metric.ratio else f'at a difference of {size}'}"


def _needed(found: Answer, choice: Choice) -> str:
    """How many seeds would tell the first two apart, if that is known."""
    pairs = choice.alike[0][1].pairs_needed
    prompts = len({p.content for p in found.pairs})
    seeds = None if pairs is None else -(-pairs // prompts)
    if seeds is None or pairs is None or pairs <= len(found.pairs):
        return ""
    return f" (about {seeds} seeds would tell the first two, if they differ as much as they seem)"


def _missing(found: Answer) -> Iterator[str]:
    for note, count in found.withheld.items():
        yield f"{count} task{'s have' if count != 1 else ' has'} no converged image: {note}."
    yield from _unsound(found)
    for names in dict.fromkeys(p.names for p in found.cheapest if len(p.names) > 1):
        yield f"{' = '.join(names)}: one scheduler, whatever it is called; nothing tells them apart."
    if found.metric is None:
        yield "No quality was measured, so this is about cost only: give the sweep metrics."
        yield from _timing(found)
        return
    if len(found.pairs) == 1:
        yield "One prompt and one seed: there are no intervals, and the order may be luck."
    elif len(found.pairs) < FEWEST_OF_A_MEAN:
        yield "Two pairs of prompt and seed: too few for intervals, and the order may be luck. Take four seeds or more."
    elif found.pairs:
        yield f"Intervals are 95 %, over {_sample(found.metric, found.pairs)}."
    if found.unmeasured:
        other = found.metric.name.startswith("reference_")
        why = "; they draw noise, or solve another equation as CFG++ does, and head for other images" if other else ""
        if other and len({p.seed for p in found.pairs}) < FEWEST_SEEDS:
            why += f". {_SEEDS}"
        yield f"Without {found.metric.label}: {few(found.unmeasured)}{why}."
    if found.incomplete:
        yield f"Left out, as values are missing: {_names(found.incomplete)}."
    yield from _timing(found)


def _sample(metric: Reading, pairs: Sequence[Pair]) -> str:
    seeds = len({p.seed for p in pairs})
    if metric.whole:
        return f"{seeds} seeds, and hold for the prompts of the sweep; a distance below 0 is one of 0, but for chance"
    return f"{len(pairs)} pairs of prompt and seed ({seeds} seeds)"


def _timing(found: Answer) -> Iterator[str]:
    """What to think of the latencies."""
    if not all(p.latency for p in found.cheapest):
        yield "Not every scheduler was timed, so cost is counted in NFE."
    elif found.doubts:
        yield (
            f"The latencies must not be compared, so cost is counted in NFE: {'; '.join(found.doubts)}. "
            "Time again on a machine without other work: add `--fresh`."
        )
    elif not found.by_latency:
        yield (
            f"All were timed together {found.turns} time{'s' if found.turns != 1 else ''}, and fewer than six tell no "
            "latencies apart, so cost is counted in NFE: give the sweep `timing: {repeats: 6}`."
        )


def _unsound(found: Answer) -> Iterator[str]:
    """What is left out as its images cannot be trusted, by reason."""
    for (status, reason), members in groupby(
        sorted(found.unsound, key=lambda u: (u.status, u.reason)), lambda u: (u.status, u.reason)
    ):
        yield f"Left out, {status}: {few([_told_unsound(u) for u in members])}: {reason.rstrip('.')}."


def _told_unsound(point: Unsound) -> str:
    return f"{short(point)} ({point.bad} of {point.images} images)"


def _names(points: Sequence[Point]) -> str:
    return few([short(p) for p in points])


def few(names: Sequence[str]) -> str:
    """ "a, b, c, d and 3 more"."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _front(found: Answer, metric: Reading) -> str:
    what = "nothing as fast, to 5 %," if found.by_latency else "nothing of as few NFE"
    return _table(f"The Pareto front: {what} is better.", metric, [_row(found, p) for p in found.front])


def _ranking(found: Answer, metric: Reading, choice: Choice) -> str:
    """All schedulers of a budget in one table, the best first."""
    alike = {id(p) for p, _ in choice.alike}
    rows = [[*_row(found, choice.best), "the best"]]
    rows += [[*_row(found, p), "not told apart" if id(p) in alike else "worse"] for p, _ in choice.others]
    return _table(
        f"All up to {budget_words(choice.budget)}, each with the most steps.", metric, rows, "against the best"
    )


def _row(found: Answer, p: Point) -> list[str]:
    return [" = ".join(p.names), str(p.steps), str(p.nfe), seconds(_latency(found, p)), number(p.quality)]


def _steps(found: Answer, rows: Sequence[Enough], orders: Mapping[str, Mapping[str, Any]]) -> str:
    assert found.metric
    head = ["scheduler", "steps", "95 %", "too few", "enough", "NFE", "order", *(["the oracle's"] if orders else [])]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        tried = [str(n or "–") for n in (row.short, row.tried, row.nfe)]
        told = [str(row.steps or "–"), _to(row).strip() or "–", *tried, told_order(row.order)]
        oracle = [oracle_order(orders.get(row.names[0], {}))] if orders else []
        lines.append([" = ".join(row.names), *told, *oracle])
    title = f"How many steps are enough: {found.metric.label} at most {found.limit:g}; beside it what was tried."
    return f"{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(title: str, metric: Reading, rows: Sequence[Sequence[str]], *more: str) -> str:
    head = ["scheduler", "steps", "NFE", "latency", metric.label]
    lines = [[*head, *more], ["---", *["---:"] * 4, *["---"] * len(more)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{title}\n\n{table}"
