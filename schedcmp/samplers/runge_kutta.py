"""Runge-Kutta methods by table: explicit ones in sigma, exponential ones in log sigma.

No model is evaluated at level 0: the last step, to 0, is the denoised estimate at the level before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from schedcmp.samplers.common import OwnNoise, ancestral, denoise, noise_for, renoise, steps, weighed
from schedcmp.samplers.contract import in_exploding_coordinates
from schedcmp.samplers.tableaus import Tableau, explicit, exponential


def runge_kutta(model: Any, x: Tensor, sigmas: Tensor, *, tableau: str = "rk4") -> Tensor:
    """An explicit Runge-Kutta method for dx/dsigma = (x - denoised) / sigma, by the name of its tableau."""
    method = explicit(tableau)
    for sigma, to in steps(sigmas):
        if to == 0:
            return denoise(model, x, sigma)
        h = to - sigma
        levels = [sigma + place * h for place in method.c]
        x = _step(method, partial(_slope, model), x, h, levels, [1.0] * len(levels))
    return x


@in_exploding_coordinates
def exponential_rk(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    tableau: str = "krogstad",
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """An exponential Runge-Kutta method for dx/dlambda = denoised - x, lambda = -log sigma, by the name of its tableau.

    With ancestral noise for eta above 0: the method goes to below the next level, noise up to it.
    """
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        down, up = ancestral(sigma, to, eta)
        if down > 0:
            h = math.log(sigma / down)
            method = exponential(tableau, h)
            kept = [math.exp(-place * h) for place in (*method.c, 1.0)]
            x = _step(method, partial(denoise, model), x, h, [sigma * k for k in kept[:-1]], kept[1:])
        else:
            x = denoise(model, x, sigma)
        x = renoise(x, up * s_noise, noise, sigma, to)
    return x


def _slope(model: Any, x: Tensor, sigma: float) -> Tensor:
    return (x - denoise(model, x, sigma)) / sigma


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
