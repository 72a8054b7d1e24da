"""Extended reverse-time SDE solvers."""

from __future__ import annotations

import functools
import math

import numpy as np
from torch import Tensor

from schedcmp.samplers.common import GAUSS_NODES, GAUSS_WEIGHTS, Descent, solver


@solver(noisy=True)
def er_sde(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, max_stage: int = 3, rectangles: int = 0) -> None:
    """ER-SDE-Solver-1 to -3 (Cui et al. 2023, arXiv:2309.06169), in its variance-exploding form.

    The noise is set by phi(sigma) = sigma (exp(sigma^0.3) + 10)^eta, the paper's ER SDE 5 for eta 1, the ODE for 0.
    `rectangles`: so many, instead of an exact rule, for the integrals; the authors' code and ComfyUI's have 200.
    """
    past: list[tuple[float, Tensor, Tensor | None]] = []  # level, estimate, its slope; the last first
    for x, denoised, sigma, to in way.estimates():
        ratio = _phi(to, eta) / _phi(sigma, eta)
        first, second = _integrals(sigma, to, eta, rectangles)
        x = ratio * x + (1 - ratio) * denoised
        slope = None
        if past and max_stage >= 2:
            slope = (denoised - past[0][1]) / (sigma - past[0][0])
            x = x + first * slope
            before = past[0][2]
            if before is not None and max_stage >= 3:
                x = x + second * (slope - before) / ((sigma - past[1][0]) / 2)
        up = math.sqrt(max(0.0, to**2 - (sigma * ratio) ** 2)) if eta else 0.0
        way.go(x, up * s_noise)
        past = [(sigma, denoised, slope), *past[:1]]


def _phi(sigma: float, eta: float) -> float:
    return float(sigma * (np.exp(sigma**0.3) + 10) ** eta)


@functools.lru_cache(maxsize=4096)
def _integrals(sigma: float, to: float, eta: float, rectangles: int) -> tuple[float, float]:
    """The weights of the first and second derivative of denoised in sigma: integration by parts of the paper's
    equation 12 leaves integrals of 1 / phi and (s - sigma) / phi from `to` to sigma, here by Gauss' rule in log s, or
    by the values at the lower ends of rectangles in s."""
    if rectangles:
        s = to + np.arange(rectangles) * (sigma - to) / rectangles
        lengths = np.full(rectangles, (sigma - to) / rectangles)
    else:
        half = math.log(sigma / to) / 2
        s = np.exp(math.log(to) + half * (GAUSS_NODES + 1))
        lengths = half * GAUSS_WEIGHTS * s
    density = lengths / (s * (np.exp(s**0.3) + 10) ** eta)
    scale, step = _phi(to, eta), to - sigma
    return step + scale * float(density.sum()), step**2 / 2 + scale * float((density * (s - sigma)).sum())
