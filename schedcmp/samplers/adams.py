"""Exponential Adams methods: the integral over a step of the polynomial through the last estimates.

With noise, over a step of length h in lambda = -log sigma, denoised is weighed by (1 + eta) exp(-(1 + eta) (h - s)),
and noise of variance sigma_next^2 (1 - exp(-2 eta h)) is added, as in SDE-DPM-Solver++: the marginal distributions stay
the same for every eta.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from torch import Tensor

from schedcmp.samplers.common import GAUSS_NODES, GAUSS_WEIGHTS, Descent, lagrange, solver, stochastic, weighed

_REACH = 1.5  # steps of the past


@solver(noisy=True, coordinates="exploding")
def exponential_adams(way: Descent, *, order: int = 3, eta: float = 0.0, s_noise: float = 1.0) -> None:
    """Nørsett's exponential Adams-Bashforth method (1969) with the weights for the steps as they are, for the denoised
    estimate: DPM-Solver++ (arXiv:2211.01095) and RES (arXiv:2308.02157) multistep, of any order, and their SDE forms.

    It begins with lower orders, and takes lower ones where a step is more than half as long again as those before, as
    far as polynomials reach; the last step, to 0, is the last denoised estimate.
    """
    past: list[tuple[float, Tensor]] = []  # lambda, estimate; the last first
    for x, denoised, sigma, to in way.estimates():
        past = [(-math.log(sigma), denoised), *past][:order]
        x = _adams(x, past[: _reaching(past, math.log(sigma / to))], sigma, to, eta)
        way.go(x, stochastic(sigma, to, eta) * s_noise)


@solver(noisy=True, coordinates="exploding")
def sa_solver(
    way: Descent,
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    tau: float = 1.0,
    tau_from: float = math.inf,
    tau_to: float = 0.0,
    pece: bool = False,
    s_noise: float = 1.0,
) -> None:
    """SA-Solver, the stochastic Adams method (Xue et al. 2023, arXiv:2309.05019), predictor and corrector of the orders
    given, with lower ones at both ends.

    There is noise, as much as `tau` says, in steps that end at levels below `tau_from` and above `tau_to`. The
    corrector goes the step again with the estimate at its end. `pece`: the model is evaluated once more after that.
    """
    past: list[tuple[float, Tensor]] = []
    step = None
    drawn: Tensor | float = 0.0
    total = len(way.levels) - 1
    for i, (x, sigma, to) in enumerate(way.steps()):
        left = total - (i if way.levels[-1] == 0 else 0)
        past = [(-math.log(sigma), way.denoise(x, sigma)), *past][: max(predictor_order, corrector_order)]
        if step and (to > 0 or pece):
            x = step(past[: min(corrector_order, left)]) + drawn
            if pece:
                past[0] = past[0][0], way.denoise(x, sigma)
        if to == 0:
            way.go(past[0][1])
            break
        eta = tau**2 if tau_from >= to > tau_to else 0.0
        # Gone a second time, with the same noise, when the estimate at its end is known
        step = functools.partial(_adams, x, sigma=sigma, to=to, eta=eta)
        up = stochastic(sigma, to, eta) * s_noise
        drawn = up * way.noise(sigma, to) if up > 0 else 0.0
        way.go(step(past[: min(predictor_order, max(1, left - 1))]) + drawn)


def _reaching(past: list[tuple[float, Tensor]], h: float) -> int:
    """How many of the last estimates to put a polynomial through for a step of length h."""
    means = ((past[0][0] - past[n - 1][0]) / (n - 1) for n in range(2, len(past) + 1))  # of the steps between n of them
    return max((n for n, mean in enumerate(means, 2) if h <= _REACH * mean), default=1)


def _adams(x: Tensor, past: list[tuple[float, Tensor]], sigma: float, to: float, eta: float) -> Tensor:
    """The step from sigma to `to` by the polynomial through these estimates, without its noise."""
    h = math.log(sigma / to)
    nodes = tuple(place + math.log(sigma) for place, _ in past)
    kept: Tensor = math.exp(-(1 + eta) * h) * x
    return kept + weighed(_integrals(nodes, h, 1 + eta), [estimate for _, estimate in past])


@functools.lru_cache(maxsize=4096)
def _integrals(nodes: tuple[float, ...], h: float, rate: float) -> tuple[float, ...]:
    """Integrals from 0 to h of rate exp(-rate (h - s)) times the Lagrange polynomials on `nodes`, by Gauss' rule."""
    s = h * (GAUSS_NODES + 1) / 2
    density = h / 2 * GAUSS_WEIGHTS * rate * np.exp(-rate * (h - s))
    return tuple(float((density * values).sum()) for values in lagrange(nodes, s))
