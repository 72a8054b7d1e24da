"""`recommend`: which scheduler to take, from a run's store."""

from __future__ import annotations

import json
from collections.abc import Sequence

from schedcmp.cli.console import say
from schedcmp.cli.places import reading, tell_unreadable
from schedcmp.cli.process import UNFINISHED
from schedcmp.errors import RequestError, shown
from schedcmp.report.across import across, recommended_cell
from schedcmp.report.answer import Answer, Budget, answer
from schedcmp.report.answer_json import as_json
from schedcmp.report.paste import paste
from schedcmp.report.paste.subject import subject
from schedcmp.report.words.across import told
from schedcmp.report.words.sentences import under_headings
from schedcmp.store.several import opened


def recommend_scheduler(
    run: str, *, budget_s: float | None, budget_nfe: int | None, limit: float, metric: str | None, as_json_: bool
) -> int:
    """Say what a run answers; returns the exit code: 1 if nothing fits.

    Raises:
        RequestError: no run there, two budgets, or a metric that the run does not have.
    """
    budget = Budget.of(budget_s, budget_nfe)
    with reading(run, images=False) as folder, opened(folder) as store:
        cells, references, known = list(store.cells()), store.references().values(), store.readings()
        answers = answer(cells, references, metric=metric, budget=budget, limit=limit, known=known)
        tell_unreadable(store, run)
    settings = [] if budget else across(cells, known, metric)
    if as_json_:
        say(json.dumps([as_json(found, settings) for found in answers], indent=2))
    else:
        show(answers, first=[] if budget else told(settings, answers))
    return 0 if any(_fits(found, budget) for found in answers) else UNFINISHED


def show(answers: list[Answer], most: int | None = None, first: Sequence[str] = ()) -> None:
    """The sentences `under_headings`, after those on all."""
    for line in (*first, *(under_headings(answers, most) if answers else ["the run has no images yet"])):
        say(line)


def _fits(found: Answer, budget: Budget | None) -> bool:
    if found.metric is None:
        return any(budget is None or budget.allows(p) for p in found.cheapest)
    return bool(found.choices)


def paste_recommended(
    run: str,
    form: str,
    cell: str | None,
    *,
    budget: tuple[float | None, int | None],
    limit: float,
    metric: str | None,
) -> None:
    """Print the recommended cell, or another, as what is pasted elsewhere.

    Raises:
        RequestError: no run there, nothing that fits, no such cell, or nothing like it in that program.
    """
    with reading(run, images=False) as folder, opened(folder) as store:
        cells = list(store.cells())
        if cell is None:
            references, known = store.references().values(), store.readings()
            answers = answer(cells, references, metric=metric, budget=Budget.of(*budget), limit=limit, known=known)
            taken = recommended_cell(cells, answers, known, metric)
            if taken is None:
                raise RequestError(f"{run}: nothing fits; without a budget or a limit it may")
            chosen = [taken[0]]
        else:
            asked = (s for s in cells if cell in (s.cell.id, s.cell.scheduler, f"{s.cell.scheduler}:{s.cell.steps}"))
            chosen = [stored for stored in asked if stored.counts]
            if not chosen:
                raise RequestError(
                    f"{run}: has no finished cell {shown(cell)}; results.csv has their ids and schedulers"
                )
        say(paste(subject(store, chosen[0]), form).rstrip("\n"))
