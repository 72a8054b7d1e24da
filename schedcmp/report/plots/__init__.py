"""Plots of a run, as SVG and PNG. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schedcmp.drawing import rendered
from schedcmp.files import slug
from schedcmp.records import StoredCell
from schedcmp.report.answer import Answer
from schedcmp.report.plots.breakdown import breakdown_data, draw_breakdown, draw_memory, memory_data, usual_steps
from schedcmp.report.plots.convergence import convergence_data, draw_convergence
from schedcmp.report.plots.pareto import draw_pareto, pareto_data
from schedcmp.report.plots.sigmas import draw_sigmas, sigma_data
from schedcmp.report.tables import TimingRow
from schedcmp.report.tried import tried
from schedcmp.report.words.sentences import headings
from schedcmp.store.several import Shown
from schedcmp.store.written import Written, mark_of

FOLDER = "plots"
_FORMATS = ("svg", "png")
Draw = partial[Any]  # makes a figure


def write_plots(
    store: Shown,
    cells: Sequence[StoredCell],
    answers: Sequence[Answer],
    rows: Sequence[TimingRow],
    name: str,
    missing: list[str],
) -> list[Path]:
    """Write `plots/*.svg` and `*.png`, those that there are data for; those of an earlier report go, but for those that
    would come out the same.

    Args:
        missing: takes those that cannot be drawn or written, with why.
    """
    drawn, files = Written(store.folder, FOLDER), []
    for plot, draw in _plots(store, cells, answers, rows, name):
        with tried(f"{FOLDER}/{plot}", missing):
            _write(drawn, plot, draw)
            files += [store.folder / FOLDER / f"{plot}.{suffix}" for suffix in _FORMATS]
    with tried(FOLDER, missing):
        drawn.close()
    return files


def _write(drawn: Written, plot: str, draw: Draw) -> None:
    mark = mark_of(version("matplotlib"), draw.func.__name__, draw.args, draw.keywords)
    names = {suffix: f"{plot}.{suffix}" for suffix in _FORMATS}
    if all(drawn.holds(name, mark) for name in names.values()):
        for name in names.values():
            drawn.keep(name)
        return
    figure = draw()
    for suffix, name in names.items():
        drawn.write(name, rendered(figure, suffix), mark)


def _plots(
    store: Shown, cells: Sequence[StoredCell], answers: Sequence[Answer], rows: Sequence[TimingRow], name: str
) -> Iterator[tuple[str, Draw]]:
    orders = store.meta("orders") or {}
    for found, heading in zip(answers, headings(answers), strict=True):
        where, suffix = (f" · {heading}", f"-{slug(heading.replace('×', 'x'))}") if heading else ("", "")
        beside = found.metric is not answers[0].metric
        if beside and found.metric:
            suffix += f"-{slug(found.metric.brief.lower())}"
        own = [] if beside else rows
        yield from ((f"{plot}{suffix}", draw) for plot, draw in _of_setting(found, own, f"{name}{where}", orders))
    if levels := sigma_data(store.meta("trajectories") or (), {c.cell.scheduler: c.cell.base for c in cells}):
        yield "sigmas", partial(draw_sigmas, levels, f"{name}: noise levels")
    if memory := memory_data(rows):
        yield "memory", partial(draw_memory, memory, f"{name}: peak memory of one image alone")


def _of_setting(
    found: Answer, rows: Sequence[TimingRow], name: str, orders: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Draw]]:
    if found.metric:
        title = f"{name}: {found.metric.label}"
        if lines := convergence_data(found, orders):
            yield "convergence", partial(draw_convergence, lines, found.metric, f"{title} against cost")
        if len(places := pareto_data(found)) > 1:
            draw = partial(draw_pareto, by_latency=found.by_latency)
            yield "pareto", partial(draw, places, found.metric, f"{title}, the front")
    own = [row for row in rows if row.setting == found.setting]
    if own:
        doubt = " (latencies must not be compared)" if own[0].doubt else ""
        title = f"{name}: where one image's time goes, {usual_steps(own)} steps{doubt}"
        yield "breakdown", partial(draw_breakdown, breakdown_data(own), title)
