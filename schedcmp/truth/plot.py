"""Errors against evaluations, on logarithms: a straight line is an order of convergence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from schedcmp.drawing import COLOURS, DASHES, figure, label, nfe_axis, place, rendered
from schedcmp.truth.measure import sampling_floor

if TYPE_CHECKING:
    from schedcmp.truth.verdict import Verdict

_GREY = "0.6"


def convergence_plot(verdicts: Sequence[Verdict], file_format: str, title: str) -> bytes:
    """RMS error of deterministic entries and Wasserstein-1 of stochastic ones; those that equal another share its
    line. The file's content, in a format that `drawing.plot_format` gives."""
    panels = [p for s in (False, True) if (p := [v for v in verdicts if _drawn(v) and v.measured.stochastic is s])]
    fig = figure(7.5 * max(len(panels), 1), 7, f"Against the exact solution, noise schedule of {title}")
    axes = fig.subplots(1, max(len(panels), 1), squeeze=False)[0]
    ends = [_panel(ax, panel, _names(verdicts)) for ax, panel in zip(axes, panels, strict=False)]
    place(fig)  # names stand where the layout has put the panels
    for ax, named in zip(axes, ends, strict=False):
        label(ax, named, 1.03, left=True)
    return rendered(fig, file_format)


def _drawn(v: Verdict) -> bool:
    return bool(v.measured.points) and v.kind != "same as"


def _names(verdicts: Sequence[Verdict]) -> dict[str, str]:
    names = {v.name: v.name for v in verdicts}
    for v in verdicts:
        if v.kind == "same as":
            names[v.detail] += f" = {v.name}"
    return names


def _panel(ax: Any, panel: Sequence[Verdict], names: dict[str, str]) -> list[tuple[float, float, str, str]]:
    """Draws it; returns the ends of its curves, with their names and colours."""
    stochastic = panel[0].measured.stochastic
    curves = [([p.nfe for p in v.measured.points], [p.error for p in v.measured.points]) for v in panel]
    colours, widths = cycle(COLOURS), len(COLOURS)
    nfe_axis(ax, [n for x, _ in curves for n in x])
    ax.set(yscale="log", xlabel="denoiser evaluations (NFE)")
    ax.set_title("Wasserstein-1 distance to the data" if stochastic else "RMS error", loc="left", fontsize=10)
    ends: list[tuple[float, float, str, str]] = []
    for i, (v, (x, y), colour) in enumerate(zip(panel, curves, colours, strict=False)):
        ax.plot(x, y, color=colour, linestyle=DASHES[i // widths % len(DASHES)], marker=".", linewidth=1.2)
        ends.append((x[-1], y[-1], names[v.name], colour))
    if stochastic:
        mean, std = sampling_floor()
        ax.axhspan(mean - std, mean + std, color="0.9", zorder=0)
        ax.annotate("exact samples", (0.01, mean), xycoords=("axes fraction", "data"), va="center", color="0.4")
    else:
        _slopes(ax, min(min(x) for x, _ in curves))
    ax.spines[["top", "right"]].set_visible(False)
    return ends


def _slopes(ax: Any, left: float) -> None:
    """Grey guides of order 1 and 2, in the corner that no curve reaches."""
    low, high = np.log(ax.get_ylim())
    y = float(np.exp(low + 0.3 * (high - low)))
    for order in (1, 2):
        ax.plot([left, 4 * left], [y, y / 4**order], color=_GREY, linewidth=0.8, zorder=0)
        ax.annotate(f" order {order}", (4 * left, y / 4**order), color="0.4", fontsize=8, va="center")
