"""All settings of a run together, in words and as a section of answer.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from schedcmp.axes import Setting, is_guided
from schedcmp.readings import Reading
from schedcmp.report.across import Across, Contender
from schedcmp.report.answer import Answer
from schedcmp.report.numbers import NONE, markdown_table
from schedcmp.report.words.parts import budget_words, few, number, quality, seeds_needed, short

_MOST_COLUMNS = 8  # of a table
_ROWS = "Most pipelines guide by evaluating two rows at once, which NFE counts once: look at latencies too."


def told(found: Sequence[Across], answers: Sequence[Answer]) -> list[str]:
    """In words: what is best of all, and then of each setting. Nothing where there is one setting."""
    parts = overall(found, answers), _each(found, answers)
    return [line for part in (parts if found else reversed(parts)) for line in part]


def overall(found: Sequence[Across], answers: Sequence[Answer]) -> list[str]:
    """The best of all at each number of evaluations at which it is another setting's, and at the largest."""
    settings = [answer.setting for answer in answers]
    if len(settings) > 1 and not found and any(answer.metric for answer in answers):
        return [
            "Which setting is best of all cannot be told: what was measured is how near images are to the converged"
            " ones of their own setting. Give the sweep a metric of the images themselves, as `clip` is."
        ]
    shown = [one for one, after in zip_longest(found, found[1:]) if after is None or _winner(one) != _winner(after)]
    return [_best(one, settings) for one in shown]


def _winner(one: Across) -> Setting | None:
    return one.contenders[0].setting if one.contenders else None


def _best(one: Across, settings: Sequence[Setting]) -> str:
    first, *others = one.contenders
    alike = [c for c in others if not c.told_apart]
    unsure = "better than the best of every other"
    if alike and alike[0].behind:
        needed = seeds_needed(alike[0].behind, first.point.values)
        unsure = f"not told apart from the best of {few([_where(c.setting, settings) for c in alike])}{needed}"
    return f"Of all settings, up to {budget_words(one.budget)}: {_words(first, one.metric, settings)}; {unsure}."


def _each(found: Sequence[Across], answers: Sequence[Answer]) -> list[str]:
    """The best of each setting at the largest number of evaluations; by its own metric where nothing compares them."""
    settings = [answer.setting for answer in answers]
    if found:
        others = found[-1].contenders[1:]
        lines = [f"{_words(c, found[-1].metric, settings)}{_lead(c, found[-1].metric)}." for c in others]
        return [*lines, _ROWS] if len({*map(is_guided, settings)}) > 1 else lines
    best = [(a.setting, a.best, a.metric) for a in answers if len(settings) > 1]
    return [f"{short(p)} ({_where(s, settings)}), {quality(p, m)}." for s, p, m in best if p and p.quality and m]


def markdown(found: Sequence[Across], answers: Sequence[Answer]) -> str:
    """A section of answer.md."""
    lines = told(found, answers)
    if not lines:
        return ""
    title = f"## By {found[-1].metric.label}" if found else "## The best of each setting"
    parts = [title, "\n".join(f"- {line}" for line in lines)]
    if len(found) > 1:
        parts.append(_table(found[-_MOST_COLUMNS:], [answer.setting for answer in answers]))
    return "\n\n".join(parts)


def _table(found: Sequence[Across], settings: Sequence[Setting]) -> str:
    head = ["the best of", *(f"up to {budget_words(one.budget)}" for one in found)]
    lines = []
    for setting in dict.fromkeys(c.setting for c in found[-1].contenders):
        row = [_where(setting, settings)]
        for one in found:
            of = next((c for c in one.contenders if c.setting == setting), None)
            text = f"{short(of.point)}: {number(of.point.quality)}" if of else NONE
            row.append(f"**{text}**" if of is one.contenders[0] else text)
        lines.append(row)
    return markdown_table(head, lines)


def _where(setting: Setting, settings: Sequence[Setting]) -> str:
    return " and ".join(setting.words(settings))


def _words(contender: Contender, metric: Reading, settings: Sequence[Setting]) -> str:
    point = contender.point
    return f"{short(point)} ({_where(contender.setting, settings)}), {point.nfe} NFE, {quality(point, metric)}"


def _lead(contender: Contender, metric: Reading) -> str:
    if contender.behind is None:
        return ""
    if contender.behind.estimate.value == int(metric.ratio):
        return "; as good as the best"
    size = number(contender.behind.estimate)
    how = f"{size} times the best" if metric.ratio else f"{size} against the best"
    return f"; {how}" + ("" if contender.told_apart else ", which may be chance")
