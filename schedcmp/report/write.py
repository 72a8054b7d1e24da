"""Everything that a run's folder shows, in one go."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import NamedTuple

from schedcmp.guard.texts import visible
from schedcmp.report.across import across
from schedcmp.report.altered import altered, resized
from schedcmp.report.answer import Answer, answer, tolerance
from schedcmp.report.grid import GridAxes, write_grids
from schedcmp.report.inert import repeats
from schedcmp.report.latex import timings_latex
from schedcmp.report.page import write_page
from schedcmp.report.plots import write_plots
from schedcmp.report.quality import narrower
from schedcmp.report.tables import (
    csv_rows,
    result_rows,
    timing_rows,
    timings_csv,
    timings_json,
    timings_markdown,
    with_group_timings,
)
from schedcmp.report.tried import tried
from schedcmp.report.words.across import markdown as section
from schedcmp.report.words.across import overall
from schedcmp.report.words.markdown import markdown
from schedcmp.report.words.plain import from_plain
from schedcmp.report.words.plain import markdown as plain_section
from schedcmp.store.several import Shown


class Reports(NamedTuple):
    """What was written, tables first, with the answers among it, what is best of all settings, and what else was seen:
    settings without effect, options and sizes that changed; what is missing, with why; what was left out on purpose;
    and answers by a metric that not all schedulers have."""

    files: list[Path]
    answers: list[Answer]
    settings: list[str]
    seen: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]
    beside: tuple[Answer, ...]


def write_reports(store: Shown) -> Reports:
    """Write results.csv, timings.*, answer.md, plots, report.html and grids of a run; the pictures that cannot be drawn
    or written are `missing`.

    Raises:
        RunFolderError: the run has not begun, or its database is damaged.
        RunError: the folder cannot be written.
    """
    sweep = store.sweep()
    cells = list(store.cells())
    rows = timing_rows(cells)
    references, known = store.references().values(), store.readings()
    limit = tolerance(sweep)
    answers = answer(cells, references, known=known, limit=limit)
    narrow = [answer(cells, references, metric=name, known=known, limit=limit) for name in narrower(cells, known)]
    beside = tuple(chain(*narrow))
    settings = across(cells, known)
    repeated = repeats(cells, store.folder, store.fingerprints())
    trajectories = store.trajectories()
    environment = store.meta("environment") or {}
    distilled = map(str, environment.get("distilled", ()))
    seen = (*distilled, *repeated.sentences, *altered(cells, trajectories), *resized(cells))
    first = "\n\n".join(filter(None, [section(settings, answers), plain_section(cells)]))
    texts = {
        "results.csv": csv_rows(result_rows(cells, trajectories, repeated.cells)),
        "timings.csv": timings_csv(rows),
        "timings.md": visible(timings_markdown(rows)),
        "timings.json": timings_json(rows, store.meta("environment")),
        "timings.tex": visible(timings_latex(rows)),
        "answer.md": visible(markdown(answers, seen, beside, store.meta("orders") or {}, first)),
    }
    if distribution := store.meta("distribution"):
        texts["distribution.csv"] = csv_rows(distribution["rows"])
    files = [store.write_text(name, text) for name, text in texts.items()]
    axes = GridAxes.asked(sweep["grid"], cells)
    missing: list[str] = []
    left_out: list[str] = []
    files += write_plots(store, cells, [*answers, *beside], rows, sweep["name"], missing)
    with tried("grids", missing):
        files += write_grids(with_group_timings(cells), store.folder, axes, sweep["name"], left_out.append)
    with tried("report.html", missing):
        files.append(write_page(store, inert=repeated.cells, answers=answers))
    told = [*overall(settings, answers), *from_plain(cells)]
    return Reports(files, answers, told, seen, tuple(missing), tuple(left_out), beside)
