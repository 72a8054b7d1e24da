"""The noise levels that each scheduler visits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schedcmp.drawing import Line, line_figure, log_ticks
from schedcmp.grouped import grouped
from schedcmp.registry.table import builtin_registry
from schedcmp.report.words.parts import few

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Levels:
    """Noise levels at the number of steps that most schedulers have."""

    steps: int
    lines: tuple[Line, ...]  # those that visit the same levels share one
    without: tuple[str, ...]  # schedulers that keep no sigmas


def sigma_data(trajectories: Iterable[Mapping[str, Any]], bases: Mapping[str, str]) -> Levels | None:
    """The positive noise levels that schedulers visit; None if none keeps sigmas.

    Args:
        trajectories: the store's, with `scheduler`, `steps` and `sigmas` (which may be empty).
        bases: scheduler → registry entry.
    """
    rows = [row for row in trajectories if row["scheduler"] in bases]
    longest = max((row.get("strength") or 1.0 for row in rows), default=1.0)  # the others are parts of these
    rows = [row for row in rows if (row.get("strength") or 1.0) == longest]
    if not any(map(_positive, rows)):
        return None
    counts = Counter(row["steps"] for row in rows if _positive(row))
    steps = max(counts, key=lambda n: (counts[n], n))
    those = (row for row in rows if row["steps"] == steps)
    alike = grouped(those, lambda row: tuple(f"{s:.3g}" for s in _positive(row)))
    without = [row["scheduler"] for row in alike.pop((), [])]
    return Levels(steps, tuple(_line(found, bases) for found in alike.values()), tuple(without))


def draw_sigmas(levels: Levels, title: str) -> Figure:
    without = f" ({few(levels.without)} keep none)" if levels.without else ""
    return line_figure(levels.lines, f"{title}, {levels.steps} steps{without}", "step", "noise level σ", _scales)


def _line(rows: Sequence[Mapping[str, Any]], bases: Mapping[str, str]) -> Line:
    names = [row["scheduler"] for row in rows]
    shown = names if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    sigmas = _positive(rows[0])
    return Line(" = ".join(shown), builtin_registry().family(bases[names[0]]), range(len(sigmas)), sigmas)


def _positive(row: Mapping[str, Any]) -> list[float]:
    """Each level once, though Heun and DPM2 have them twice; without the final 0, which a logarithm does not have."""
    return list(dict.fromkeys(s for s in row["sigmas"] if s > 0))


def _scales(ax: Axes) -> None:
    ax.set_yscale("log")
    log_ticks(ax.yaxis)
    ax.locator_params(axis="x", integer=True)
