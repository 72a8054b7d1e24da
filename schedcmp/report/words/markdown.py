"""`answer.md`: the sentences of each answer, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from schedcmp.readings import Reading
from schedcmp.report.answer import Answer, Choice
from schedcmp.report.enough import Enough, enough, oracle_order, told_order
from schedcmp.report.numbers import markdown_table, seconds
from schedcmp.report.quality import Point
from schedcmp.report.words.parts import budget_words, interval, latency_of, number
from schedcmp.report.words.sentences import headings, sentences


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


def _front(found: Answer, metric: Reading) -> str:
    what = "nothing as fast, to 5 %," if found.by_latency else "nothing of as few NFE"
    return _table(f"The Pareto front: {what} is better.", metric, [_row(found, p) for p in found.front])


def _ranking(found: Answer, metric: Reading, choice: Choice) -> str:
    """All schedulers of a budget in one table, the best first."""
    rows = [[*_row(found, choice.best), "the best"]]
    rows += [[*_row(found, p), "worse" if d.told_apart else "not told apart"] for p, d in choice.others]
    return _table(
        f"All up to {budget_words(choice.budget)}, each with the most steps.", metric, rows, "against the best"
    )


def _row(found: Answer, p: Point) -> list[str]:
    return [" = ".join(p.names), str(p.steps), str(p.nfe), seconds(latency_of(found, p)), number(p.quality)]


def _steps(found: Answer, rows: Sequence[Enough], orders: Mapping[str, Mapping[str, Any]]) -> str:
    assert found.metric
    head = ["scheduler", "steps", "95 %", "too few", "enough", "NFE", "order", *(["the oracle's"] if orders else [])]
    lines = []
    for row in rows:
        tried = [str(n or "–") for n in (row.short, row.tried, row.nfe)]
        told = [str(row.steps or "–"), interval(row).strip() or "–", *tried, told_order(row.order)]
        oracle = [oracle_order(orders.get(row.names[0], {}))] if orders else []
        lines.append([" = ".join(row.names), *told, *oracle])
    title = f"How many steps are enough: {found.metric.label} at most {found.limit:g}; beside it what was tried."
    return f"{title}\n\n{markdown_table(head, lines, range(1, len(head)))}"


def _table(title: str, metric: Reading, rows: Sequence[Sequence[str]], *more: str) -> str:
    head = ["scheduler", "steps", "NFE", "latency", metric.label, *more]
    return f"{title}\n\n{markdown_table(head, rows, range(1, 5))}"
