"""Errors against evaluations, on logarithms: a straight line is an order of convergence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schedcmp.errors import RequestError
from schedcmp.truth.measure import sampling_floor

if TYPE_CHECKING:
    from schedcmp.truth.verdict import Verdict

# Okabe & Ito 2008, told apart with any colour vision; their yellow is too pale for lines on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)))
_FORMATS = ("svg", "png", "pdf")
_GREY = "0.6"
_LINE = 0.034  # height of a label, as a share of the axes


def plot_format(path: Path) -> str:
    """The format that a file's suffix names. Raises RequestError if it is none of svg, png, pdf."""
    found = path.suffix.lstrip(".").lower()
    if found not in _FORMATS:
        raise RequestError(f"{path}: a plot is written as .{', .'.join(_FORMATS)}; choose one of these suffixes")
    return found


def convergence_plot(verdicts: Sequence[Verdict], file_format: str, title: str) -> bytes:
    """RMS error of deterministic entries and Wasserstein-1 of stochastic ones; those that equal another share its
    line. The file's content, in a format that `plot_format` gives."""
    from matplotlib.figure import Figure

    panels = [p for s in (False, True) if (p := [v for v in verdicts if _drawn(v) and v.measured.stochastic is s])]
    figure = Figure(figsize=(7.5 * max(len(panels), 1), 7), layout="constrained")
    figure.suptitle(f"Against the exact solution, noise schedule of {title}")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=False):
        _panel(ax, panel, _names(verdicts))
    file = io.BytesIO()
    figure.savefig(file, format=file_format, dpi=150, metadata={"Date": None} if file_format == "svg" else None)
    return file.getvalue()


def _drawn(v: Verdict) -> bool:
    return bool(v.measured.points) and v.kind != "same as"


def _names(verdicts: Sequence[Verdict]) -> dict[str, str]:
    names = {v.name: v.name for v in verdicts}
    for v in verdicts:
        if v.kind == "same as":
            names[v.detail] += f" = {v.name}"
    return names


def _panel(ax: Any, panel: Sequence[Verdict], names: dict[str, str]) -> None:
    stochastic = panel[0].measured.stochastic
    curves = [([p.nfe for p in v.measured.points], [p.error for p in v.measured.points]) for v in panel]
    colours, widths = cycle(_COLOURS), len(_COLOURS)
    ax.set(xscale="log", yscale="log", xlabel="denoiser evaluations (NFE)")
    ax.set_title("Wasserstein-1 distance to the data" if stochastic else "RMS error", loc="left", fontsize=10)
    ends = []
    for i, (v, (x, y), colour) in enumerate(zip(panel, curves, colours, strict=False)):
        ax.plot(x, y, color=colour, linestyle=_DASHES[i // widths % len(_DASHES)], marker=".", linewidth=1.2)
        ends.append((x[-1], y[-1], names[v.name], colour))
    if stochastic:
        mean, std = sampling_floor()
        ax.axhspan(mean - std, mean + std, color="0.9", zorder=0)
        ax.annotate("exact samples", (0.01, mean), xycoords=("axes fraction", "data"), va="center", color="0.4")
    else:
        _slopes(ax, min(min(x) for x, _ in curves))
    _label(ax, ends)
    ax.spines[["top", "right"]].set_visible(False)
    low, high = min(min(x) for x, _ in curves), max(max(x) for x, _ in curves)
    ticks = [n for n in (5, 10, 20, 40, 80, 160, 320, 640) if low / 1.1 <= n <= high * 1.1]
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()


def _slopes(ax: Any, left: float) -> None:
    """Grey guides of order 1 and 2, in the corner that no curve reaches."""
    low, high = np.log(ax.get_ylim())
    y = float(np.exp(low + 0.3 * (high - low)))
    for order in (1, 2):
        ax.plot([left, 4 * left], [y, y / 4**order], color=_GREY, linewidth=0.8, zorder=0)
        ax.annotate(f" order {order}", (4 * left, y / 4**order), color="0.4", fontsize=8, va="center")


def _label(ax: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right edge, spread so that none covers another, each with a thin line to its curve."""
    ends = sorted(ends, key=lambda end: end[1])
    low, high = np.log(ax.get_ylim())
    wanted = [(np.log(y) - low) / (high - low) for _, y, _, _ in ends]
    for (x, y, name, colour), height in zip(ends, _spread(wanted), strict=True):
        line = {"arrowstyle": "-", "relpos": (0, 0.5), "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        text = {"color": colour, "fontsize": 8, "va": "center"}
        ax.annotate(name, (x, y), (1.03, height), textcoords="axes fraction", arrowprops=line, **text)


def _spread(wanted: Sequence[float]) -> list[float]:
    """Ascending heights at least a line apart, near those that are wanted."""
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + _LINE) if heights else height)
    for i in range(len(heights) - 1, -1, -1):
        ceiling = heights[i + 1] - _LINE if i + 1 < len(heights) else max(1.0, _LINE * (len(heights) - 1))
        heights[i] = min(heights[i], ceiling)
    return heights
