"""An answer in words: what to take, how sure that is, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from schedcmp.readings import Reading
from schedcmp.report.answer import Answer, Choice
from schedcmp.report.enough import enough
from schedcmp.report.quality import Pair, Point, goodness
from schedcmp.report.words.parts import (
    budget_words,
    cost_of,
    few,
    interval,
    named,
    number,
    quality,
    seeds_needed,
    short,
)
from schedcmp.truth.energy import FEWEST_SEEDS
from schedcmp.truth.statistics import FEWEST_OF_A_MEAN

_SEEDS = (
    f"With {FEWEST_SEEDS} seeds of each prompt or more, what draws noise is compared too, by all its images together"
)


def sentences(found: Answer) -> list[str]:
    """The answer, most useful first; plain text."""
    if not found.cheapest:
        return ["There is no answer: no image counts.", *_unsound(found)]
    return [*_speed(found), *_enough(found), *_budgets(found), *_missing(found)]


def headings(answers: Sequence[Answer]) -> list[str]:
    """Of each answer its setting; nothing where all have the same."""
    settings = {found.setting for found in answers}
    return [", ".join(found.setting.words(settings)) for found in answers]


def under_headings(answers: Sequence[Answer], most: int | None = None) -> list[str]:
    """The sentences of each answer, or so many of the first, after its setting where there are several."""
    lines = []
    for found, heading in zip(answers, headings(answers), strict=True):
        lines += [*([f"{heading}:"] if heading else []), *sentences(found)[:most]]
    return lines


def _speed(found: Answer) -> Iterator[str]:
    what, like = ("fastest", "as fast for all that is known") if found.by_latency else ("cheapest", "as cheap")
    as_fast = f"; {like}: {named(found.as_fast)}" if found.as_fast else ""
    if found.metric is None and found.fastest:
        if not found.by_latency:
            yield f"The fewest evaluations: {named([found.fastest, *found.as_fast])}, {found.fastest.nfe} NFE."
        elif as_fast:
            yield f"None is surely the fastest: {short(found.fastest)}, {cost_of(found, found.fastest)}{as_fast}."
        else:
            yield f"The fastest is {short(found.fastest)}, {cost_of(found, found.fastest)}."
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
        told = [f"{' = '.join(row.names)} {row.steps}{interval(row)}" for row in rows]
        yield f"The fewest steps for that, with 95 % intervals: {few(told)}."


def _told(found: Answer, point: Point, metric: Reading) -> str:
    return f"{short(point)}, {cost_of(found, point)}, {quality(point, metric)}"


def _budgets(found: Answer) -> Iterator[str]:
    for choice, before in zip(found.choices, (None, *found.choices), strict=False):
        if before and before.best is choice.best:
            yield f"Up to {budget_words(choice.budget)}: still {short(choice.best)}."
        else:
            yield _budget(found, choice)


def _budget(found: Answer, choice: Choice) -> str:
    assert found.metric
    best = f"p to {budget_words(choice.budget)}: {short(choice.best)}, {quality(choice.best, found.metric)}"
    if not choice.others:
        return f"U{best}; nothing else to compare with."
    if not choice.alike:
        return f"Best u{best}; better than {_lead(found.metric, choice)}."
    if len(found.pairs) < 2:
        return f"On one image each, u{best}; next {_ranked(found.metric, choice)}."
    told = [p for p, d in choice.others if d.told_apart]
    rest = f"; better than {named(told)}" if told else ""
    needed = seeds_needed(choice.alike[0][1], found.pairs)
    return f"U{best}; not told apart from {named([p for p, _ in choice.alike])}{needed}{rest}."


def _ranked(metric: Reading, choice: Choice) -> str:
    """The others, those first that are equal to the best."""
    others = [point for point, _ in choice.others]
    equal = [point for point in others if goodness(point, metric) == goodness(choice.best, metric)]
    return f"{named(equal)}, equal; then {named(others[len(equal) :])}" if equal else named(others)


def _lead(metric: Reading, choice: Choice) -> str:
    point, difference = choice.others[0]
    size, others = number(difference.estimate), len(choice.others)
    whom = f"all {others} others: the next, {short(point)}," if others > 1 else f"the other: {short(point)}"
    return f"{whom} is {f'{size} times as far' if metric.ratio else f'at a difference of {size}'}"


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
        yield f"Left out, as values are missing: {named(found.incomplete)}."
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
    why = attrgetter("status", "reason")
    for (status, reason), members in groupby(sorted(found.unsound, key=why), why):
        told = few([f"{short(u)} ({u.bad} of {u.images} images)" for u in members])
        yield f"Left out, {status}: {told}: {reason.rstrip('.')}."
