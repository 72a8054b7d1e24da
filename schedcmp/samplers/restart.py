"""Restart: up again with fresh noise, and down a second time, to shed the errors of the way so far."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from schedcmp.samplers.common import Descent, solver


@solver(noisy=True)
def restart(
    way: Descent,
    *,
    s_noise: float = 1.0,
    restart_min: float = 0.1,
    restart_max: float = 2.0,
    restarts: int | None = None,
    karras: bool = False,
) -> None:
    """Restart (Xu et al. 2023, arXiv:2306.14878, algorithm 2) with Heun's method, for N steps in all.

    Like A1111's it has no restart below 20 steps, one of 9 steps from 20, two of N/4 from 36, unless `restarts` says
    otherwise. The steps of the restarts are taken from the schedule, which is thinned out evenly, so that the number of
    evaluations is that of Heun's method. `karras`: its fewer steps are Karras' instead, as A1111's.
    """
    total = len(way.levels) - 1
    times = restarts if restarts is not None else (total >= 20) + (total >= 36)
    inner = min(total // 4 if total >= 36 else 9, total // (times + 1))
    if times and total < times + 2:
        raise ValueError(f"{times} restarts need {times + 2} steps or more")
    if times:
        outer = (_karras if karras else _thinned)(way.levels[:-1], total - inner * times)
        way.levels = [*_with_restarts(outer, inner, times, restart_min, restart_max), way.levels[-1]]
    for x, sigma, to in way.steps():
        if to > sigma:
            way.go(x, math.sqrt(to**2 - sigma**2) * s_noise)
        else:
            way.go(_heun(way, x, sigma, to))


def _heun(way: Descent, x: Tensor, sigma: float, to: float) -> Tensor:
    """Heun's step (Karras et al. 2022, algorithm 1); Euler's where it ends at 0."""
    slope = way.slope(x, sigma)
    ahead = x + (to - sigma) * slope
    if to == 0:
        return ahead
    return x + (to - sigma) / 2 * (slope + way.slope(ahead, to))


def _with_restarts(outer: list[float], inner: int, times: int, low: float, high: float) -> list[float]:
    """`outer`, and at its level nearest to `low` so often up to the one nearest to `high` and down in `inner` steps
    (Karras' spacing, as A1111's)."""
    bottom = min(range(1, len(outer)), key=lambda i: abs(outer[i] - low), default=0)
    top = min(range(len(outer)), key=lambda i: abs(outer[i] - high))
    if top >= bottom:
        raise ValueError(f"{len(outer)} noise levels are too few for a restart from {low} to {high}")
    again = _karras([outer[top], outer[bottom]], inner + 1)
    return [*outer[: bottom + 1], *again * times, *outer[bottom + 1 :]]


def _karras(levels: list[float], number: int) -> list[float]:
    """So many from the first to the last (Karras et al. 2022, equation 5)."""
    ramp = np.linspace(levels[0] ** (1 / 7), levels[-1] ** (1 / 7), number) ** 7
    return [levels[0], *ramp[1:-1].tolist(), levels[-1]]


def _thinned(levels: list[float], number: int) -> list[float]:
    """So many of the positive levels, ends kept, even in log sigma between neighbours."""
    places = np.linspace(0, len(levels) - 1, number)
    logs = np.interp(places, np.arange(len(levels)), np.log(levels))
    return [levels[0], *np.exp(logs[1:-1]).tolist(), levels[-1]]
