"""How all plots look: legible in print, in grey and with any colour vision, with names beside the lines they name."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.errors import RequestError
from schedcmp.grouped import grouped
from schedcmp.readings import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

# Okabe & Ito 2008; their yellow is too pale for lines on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
GREY, PALE = "0.4", "0.82"
MOST = len(COLOURS)  # lines of one of several panels
_ALONE = 10  # lines of a panel that is alone, and larger
FORMATS = ("svg", "png", "pdf")
_OPTIONS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},
    "png": {"pil_kwargs": {"compress_level": 4}},  # zlib's default, 6, takes half as long again for 3 % less
}
_COLUMNS = 3
_LINE_INCHES = 0.15  # of a label


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of a panel; `band` is its interval, (low, high) per point."""

    name: str
    group: str  # lines of a group share a panel
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, float]] | None = None


def figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of so many inches, its title at the left."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11, wrap=True)
    return fig


def plot_format(path: Path) -> str:
    """The format that a file's suffix names. Raises RequestError if it is none of `FORMATS`."""
    found = path.suffix.lstrip(".").lower()
    if found not in FORMATS:
        raise RequestError(f"{path}: a plot is written as .{', .'.join(FORMATS)}; choose one of these suffixes")
    return found


def rendered(fig: Figure, file_format: str) -> bytes:
    """The file's content; equal figures give equal bytes."""
    import matplotlib as mpl

    file = io.BytesIO()
    place(fig)
    fig.set_layout_engine("none")  # else it is drawn once more to be placed, for each format
    with mpl.rc_context({"svg.hashsalt": "schedcmp"}):
        fig.savefig(file, format=file_format, dpi=150, **_OPTIONS.get(file_format, {}))
    return file.getvalue()


def place(fig: Figure) -> None:
    """Put panels where the layout wants them, drawing nothing."""
    if fig.axes and (engine := fig.get_layout_engine()):
        engine.execute(fig)


def line_figure(lines: Sequence[Line], title: str, x: str, y: str, prepare: Callable[[Axes], None]) -> Figure:
    """One panel for few lines; for many, a panel per group with all the others in grey behind it.

    Args:
        prepare: sets the scales of a panel before anything is drawn on it.
    """
    groups = panels(lines) if len(lines) > _ALONE else [list(lines)]
    columns = min(_COLUMNS, math.isqrt(len(groups) - 1) + 1)
    rows = -(-len(groups) // columns)
    fig = figure(8 if columns == 1 else 4.6 * columns, 5 if rows == 1 else 3.3 * rows + 0.4, title)
    axes = list(fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for ax, group in zip(axes, groups, strict=False):
        prepare(ax)
        _panel(ax, group, [line for line in lines if line not in group])
    for ax in axes[len(groups) :]:
        ax.set_axis_off()
    for i, ax in enumerate(axes[: len(groups)]):
        ax.set_xlabel(x if i + columns >= len(groups) else "")
        ax.set_ylabel(y if i % columns == 0 else "")
        ax.tick_params(labelbottom=i + columns >= len(groups))
        if len(groups) > 1:
            ax.set_title(", ".join(dict.fromkeys(line.group for line in groups[i])), loc="left", fontsize=9)
    place(fig)  # labels stand where the layout has put the panels
    for ax, group in zip(axes, groups, strict=False):
        ends = [(line.x[-1], line.y[-1], line.name, COLOURS[i % MOST]) for i, line in enumerate(group)]
        label(ax, ends, 1.03, left=True)
    return fig


def panels(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines by group, at most `MOST` together; small groups share a panel."""
    found: list[list[Line]] = []
    for group in grouped(lines, lambda line: line.group).values():
        for part in (group[i : i + MOST] for i in range(0, len(group), MOST)):
            if found and len(found[-1]) + len(part) <= MOST:
                found[-1] = found[-1] + part
            else:
                found.append(part)
    return found


def _panel(ax: Axes, group: Sequence[Line], others: Iterable[Line]) -> None:
    for other in others:
        ax.plot(other.x, other.y, color=PALE, linewidth=0.7, zorder=1)
    for i, line in enumerate(group):
        colour, marker = COLOURS[i % MOST], MARKERS[(i + i // MOST) % MOST]
        ax.plot(
            line.x, line.y, color=colour, linestyle=DASHES[i % len(DASHES)], linewidth=1.3, marker=marker, markersize=4,
            markeredgewidth=0, zorder=3,
        )  # fmt: skip
        for x, ends in zip(line.x, line.band or (), strict=False):
            ax.plot([x, x], ends, color=colour, alpha=0.5, linewidth=0.8, zorder=2)
    plain(ax)


def plain(ax: Axes) -> None:
    """No frame, small ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def label(ax: Axes, named: Sequence[tuple[float, float, str, str]], at: float, *, left: bool) -> None:
    """A column of names, spread so that none covers another, each with a thin line to its point.

    Args:
        named: x, y, name and colour of each.
        at: where the column is, as a share of the panel's width.
        left: whether names begin there, else they end there.
    """
    height = ax.get_window_extent().height / ax.figure.dpi
    to_panel = ax.transData + ax.transAxes.inverted()
    points = [tuple(map(float, to_panel.transform(item[:2]))) for item in named]
    order = sorted(range(len(named)), key=lambda i: points[i][1])
    heights = spread([points[i][1] for i in order], _LINE_INCHES / height)
    for i, place in zip(order, heights, strict=True):
        (x, y), (_, _, name, colour) = points[i], named[i]
        # No annotation with an arrow: clipping a hundred of them takes longer than drawing all else
        ax.plot([x, at], [y, place], transform=ax.transAxes, color=colour, linewidth=0.4, clip_on=False)
        ax.text(
            at, place, name, transform=ax.transAxes, color=colour, fontsize=8, va="center",
            ha="left" if left else "right",
        )  # fmt: skip


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Ascending heights at least so far apart, near those that are wanted and not above 1 if they all fit."""
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + apart) if heights else height)
    ceiling = max(1.0, apart * (len(heights) - 1))
    for i in range(len(heights) - 1, -1, -1):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - apart
    return heights


def log_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 2, 5 of each decade of a logarithmic axis."""
    from matplotlib.ticker import LogLocator

    _set_ticks(axis, LogLocator(subs=(1, 2, 5)))


def _set_ticks(axis: Axis, locator: Locator) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_major_locator(locator)
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def quality_axis(ax: Axes, metric: Reading) -> None:
    """By logarithm where values are compared as ratios; what chance may make negative is drawn evenly as far as it is
    near enough to nothing, and by logarithm beyond."""
    from matplotlib.ticker import FixedLocator

    if metric.ratio:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
    elif metric.near:
        ax.set_yscale("symlog", linthresh=metric.near)
        ticks = [m * decade for decade in (0.01, 0.1, 1, 10, 100) for m in (1, 2, 5)]
        _set_ticks(ax.yaxis, FixedLocator([0, *(tick for tick in ticks if tick >= metric.near)]))
        ax.axhline(metric.near, color="0.85", linewidth=0.8, zorder=0)


def nfe_axis(ax: Axes, values: Iterable[float]) -> None:
    """A logarithmic axis of whole numbers that doubles from tick to tick."""
    ax.set_xscale("log")
    low, high = min(values), max(values)
    ticks = [n for n in (1, 2, 3, 5, 10, 20, 40, 80, 160, 320, 640) if low / 1.1 <= n <= high * 1.1]
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()
