"""Where one image's time goes, and what memory it needs: a bar per scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schedcmp.drawing import COLOURS, GREY, figure, plain
from schedcmp.report.numbers import mebibytes, seconds
from schedcmp.report.tables import TimingRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = ("text encoder", "denoiser", "scheduler", "VAE", "the rest")
_PART_COLOURS = (COLOURS[4], COLOURS[0], COLOURS[1], COLOURS[2], "0.75")
_MIB = 2**20
_ALIKE = 1.05


@dataclass(frozen=True, slots=True)
class Bar:
    """A scheduler's bar: lengths in the order of its parts, and what is written at its end."""

    name: str
    parts: tuple[float, ...]
    text: str


def usual_steps(rows: Sequence[TimingRow]) -> int:
    """The number of steps that most schedulers were timed at; the largest of several."""
    counts = Counter(row.steps for row in rows)
    return max(counts, key=lambda n: (counts[n], n))


def breakdown_data(rows: Sequence[TimingRow]) -> list[Bar]:
    """Seconds per part at the usual number of steps, or a scheduler's own nearest to it; fastest first."""
    steps = usual_steps(rows)
    nearest: dict[str, TimingRow] = {}
    for row in rows:
        there = nearest.get(row.scheduler)
        if there is None or abs(row.steps - steps) < abs(there.steps - steps):
            nearest[row.scheduler] = row
    return [_bar(row, steps) for row in sorted(nearest.values(), key=lambda row: row.latency_s)]


def memory_data(rows: Sequence[TimingRow]) -> list[Bar]:
    """Peak memory in MiB, the most over all numbers of steps; least first.

    None where all need the same to 5 %: on a CPU it is the process's, which grows by a few percent as a run goes on.
    """
    peaks: dict[str, int] = {}
    for row in rows:
        if row.peak_memory_bytes is not None:
            peaks[row.scheduler] = max(row.peak_memory_bytes, peaks.get(row.scheduler, 0))
    if max(peaks.values(), default=0) <= _ALIKE * min(peaks.values(), default=0):
        return []
    ordered = sorted(peaks.items(), key=lambda item: item[1])
    return [Bar(name, (peak / _MIB,), mebibytes(peak)) for name, peak in ordered]


def draw_breakdown(bars: Sequence[Bar], title: str) -> Figure:
    fig, ax = _bars(bars, title, _PART_COLOURS)
    ax.set_xlabel("latency of one image alone (s), median")
    handles = [ax.patches[i * len(bars)] for i in range(len(PARTS))]
    ax.legend(
        handles, PARTS, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(PARTS), frameon=False, fontsize=8,
        handlelength=1, handleheight=1, columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
    return fig


def draw_memory(bars: Sequence[Bar], title: str) -> Figure:
    fig, ax = _bars(bars, title, COLOURS)
    ax.set_xlabel("peak memory (MiB)")
    return fig


def _bars(bars: Sequence[Bar], title: str, colours: Sequence[str]) -> tuple[Figure, Axes]:
    fig = figure(8, 1.1 + 0.22 * len(bars), title)
    ax = fig.subplots()
    left = [0.0] * len(bars)
    for i in range(len(bars[0].parts)):
        widths = [bar.parts[i] for bar in bars]
        ax.barh(range(len(bars)), widths, 0.72, left, color=colours[i], edgecolor="white", linewidth=0.4)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for y, (end, bar) in enumerate(zip(left, bars, strict=True)):
        ax.annotate(bar.text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5, color=GREY)
    ax.set_yticks(range(len(bars)), [bar.name for bar in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.margins(x=0.22)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    plain(ax)
    return fig, ax


def _bar(row: TimingRow, steps: int) -> Bar:
    parts = (row.text_s, row.denoiser_s, row.scheduler_overhead_s, row.vae_s)
    own = "" if row.steps == steps else f" ({row.steps} steps)"
    rest = max(0.0, row.latency_s - sum(parts))
    spread = f" (IQR {seconds(row.latency_iqr_s)})" if row.latency_iqr_s is not None else ""
    return Bar(f"{row.scheduler}{own}", (*parts, rest), f"{seconds(row.latency_s)}{spread}, {row.nfe} NFE")
