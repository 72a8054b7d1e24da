"""Runge-Kutta methods by table: explicit ones in sigma, exponential ones in log sigma.

No model is evaluated at level 0: the last step, to 0, is the denoised estimate at the level before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from schedcmp.samplers.common import Descent, ancestral, solver, weighed
from schedcmp.samplers.tableaus import Tableau, explicit, exponential


@solver()
def runge_kutta(way: Descent, *, tableau: str = "rk4") -> None:
    """An explicit Runge-Kutta method for dx/dsigma = (x - denoised) / sigma, by the name of its tableau."""
    method = explicit(tableau)
    for x, sigma, to in way.steps():
        if to > 0:
            h = to - sigma
            levels = [sigma + place * h for place in method.c]
            way.go(_step(method, way.slope, x, h, levels, [1.0] * len(levels)))
        else:
            way.go(way.denoise(x, sigma))


@solver(noisy=True, coordinates="exploding")
def exponential_rk(way: Descent, *, tableau: str = "krogstad", eta: float = 0.0, s_noise: float = 1.0) -> None:
    """An exponential Runge-Kutta method for dx/dlambda = denoised - x, lambda = -log sigma, by the name of its tableau.

    With ancestral noise for eta above 0: the method goes to below the next level, noise up to it.
    """
    for x, sigma, to in way.steps():
        down, up = ancestral(sigma, to, eta)
        if down > 0:
            h = math.log(sigma / down)
            method = exponential(tableau, h)
            kept = [math.exp(-place * h) for place in (*method.c, 1.0)]
            x = _step(method, way.denoise, x, h, [sigma * k for k in kept[:-1]], kept[1:])
        else:
            x = way.denoise(x, sigma)
        way.go(x, up * s_noise)


def _step(
    method: Tableau,
    evaluate: Callable[[Tensor, float], Tensor],
    x: Tensor,
    h: float,
    levels: list[float],
    kept: list[float],
) -> Tensor:
    """One step of length h. `levels`: of the stages; `kept`: how much of x is left at each after the first, and at the
    end."""
    known = [evaluate(x, levels[0])]
    for row, level, left in zip(method.a, levels[1:], kept[:-1], strict=True):
        known.append(evaluate(left * x + h * weighed(row, known), level))
    return kept[-1] * x + h * weighed(method.b, known)
