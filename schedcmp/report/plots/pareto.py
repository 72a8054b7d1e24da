"""Cost against quality: which points nothing beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedcmp.drawing import COLOURS, GREY, figure, label, log_ticks, nfe_axis, place, plain, quality_axis
from schedcmp.readings import Reading
from schedcmp.report.answer import Answer
from schedcmp.report.quality import cost
from schedcmp.report.words.parts import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = 0.34  # of the panel's width, for the front's names


@dataclass(frozen=True, slots=True)
class Spot:
    """A point on the plane of cost and quality."""

    name: str
    x: float  # s, or NFE
    y: float
    band: tuple[float, float] | None
    on_front: bool


def pareto_data(found: Answer) -> list[Spot]:
    """All points that can be compared, cheapest first."""
    spots = []
    for p in sorted(found.measured, key=lambda p: cost(p, by_latency=found.by_latency)):
        assert p.quality
        x, y = cost(p, by_latency=found.by_latency), p.quality.value
        spots.append(Spot(short(p), x, y, p.quality.ends, p in found.front))
    return spots


def draw_pareto(places: list[Spot], metric: Reading, title: str, *, by_latency: bool) -> Figure:
    fig = figure(8, 5.5, title)
    ax = fig.subplots()
    if by_latency:
        ax.set_xscale("log")
        log_ticks(ax.xaxis)
        ax.set_xlabel("latency of one image alone (s)")
    else:
        nfe_axis(ax, [p.x for p in places])
        ax.set_xlabel("denoiser evaluations (NFE)")
    ax.set_ylabel(f"{metric.title}: {'more' if metric.higher else 'less'} is better")
    quality_axis(ax, metric)
    rest = [p for p in places if not p.on_front]
    ax.plot([p.x for p in rest], [p.y for p in rest], "o", color="0.7", markersize=3.5, markeredgewidth=0, zorder=1)
    front = [p for p in places if p.on_front]
    _front(ax, front)
    _make_room(ax)
    ax.annotate(
        "grey: something as cheap is better", (1, 1), xycoords="axes fraction", ha="right", fontsize=8, color=GREY
    )
    plain(ax)
    place(fig)
    label(ax, [(p.x, p.y, p.name, "black") for p in front], _NAMES - 0.02, left=False)
    return fig


def _front(ax: Axes, front: list[Spot]) -> None:
    x, y = [p.x for p in front], [p.y for p in front]
    ax.plot(x, y, "o-", color=COLOURS[0], drawstyle="steps-post", linewidth=1.2, markersize=5)
    for p in front:
        if p.band:
            ax.plot([p.x, p.x], p.band, color=COLOURS[0], linewidth=0.8)


def _make_room(ax: Axes) -> None:
    """Move the points to the right: left of the front there is nothing, so its names stand there, and no axis."""
    low, high = ax.get_xlim()  # of a logarithmic axis
    ax.set_xticks([at for at in ax.get_xticks() if low <= at <= high])
    ax.spines["bottom"].set_bounds(low, high)
    ax.set_xlim(high * (low / high) ** (1 / (1 - _NAMES)), high)
