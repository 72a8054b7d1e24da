"""How fast errors fall: the order of convergence, its interval, and the floor where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_POINTS = 3  # of a line with scatter about it
_FLAT = 0.3  # an error that falls with less than this order has met its floor
_ABOVE = 1.5  # and points this close to the floor say nothing of the order any more
_POINTS = 5  # the order is that of many steps, so only the last points above the floor count


@dataclass(frozen=True, slots=True)
class Fit:
    """error ∝ NFE^-order, by least squares on logarithms.

    The interval is Student's for the slope, 95 %, with (points - 2) degrees of freedom. It treats what bends the
    curve as scatter, so it is wide where the curve is no straight line.
    """

    order: float
    low: float
    high: float
    points: int

    @property
    def told(self) -> str:
        """ "2.1 ± 0.2"; "–" where the interval says nothing."""
        half = (self.high - self.low) / 2
        return f"{self.order:.1f} ± {half:.1f}" if half < 1 else "–"


def floor_of(nfe: Sequence[int], errors: Sequence[float]) -> float | None:
    """The error at the end, if it hardly falls there any more."""
    if len(nfe) < 2 or nfe[-1] == nfe[-2] or min(errors) <= 0:
        return None
    flat = -math.log(errors[-1] / errors[-2]) / math.log(nfe[-1] / nfe[-2]) < _FLAT
    return errors[-1] if flat else None


def fit(nfe: Sequence[int], errors: Sequence[float], *, first: int = 0, above: float = 0.0) -> Fit | None:
    """The order over the last points above the floor; None with fewer than three of them.

    Args:
        nfe: denoiser evaluations, ascending.
        errors: one each.
        first: NFE below which points are not used: few steps are not yet in the asymptotic range.
        above: use the points before the first error that is no greater than this.
    """
    bar = max(above, _ABOVE * (floor_of(nfe, errors) or 0.0))
    stop = next((i for i, e in enumerate(errors) if e <= bar), len(errors))
    used = [(math.log(n), math.log(e)) for n, e in zip(nfe[:stop], errors, strict=False) if n >= first][-_POINTS:]
    if len({n for n, _ in used}) < FEWEST_POINTS:
        return None
    from scipy.stats import linregress
    from scipy.stats import t as student

    line = linregress(*np.transpose(used))
    order, half = -float(line.slope), float(student.ppf(0.975, len(used) - 2) * line.stderr)
    return Fit(order, order - half, order + half, len(used))
