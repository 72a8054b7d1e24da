"""Exponential Adams methods: the integral over a step of the polynomial through the last estimates.

With noise, over a step of length h in lambda = -log sigma, denoised is weighed by (1 + eta) exp(-(1 + eta) (h - s)),
and noise of variance sigma_next^2 (1 - exp(-2 eta h)) is added, as in SDE-DPM-Solver++: the marginal distributions stay
the same for every eta.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from torch import Tensor

from schedcmp.samplers.common import OwnNoise, decay, denoise, noise_for, renoise, steps, weighed
from schedcmp.samplers.contract import in_exploding_coordinates

_REACH = 1.5  # steps of the past
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@in_exploding_coordinates
def exponential_adams(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    order: int = 3,
    eta: float = 0.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Nørsett's exponential Adams-Bashforth method (1969) with the weights for the steps as they are, for the denoised
    estimate: DPM-Solver++ (arXiv:2211.01095) and RES (arXiv:2308.02157) multistep, of any order, and their SDE forms.

    It begins with lower orders, and takes lower ones where a step is more than half as long again as those before, as
    far as polynomials reach; the last step, to 0, is the last denoised estimate.
    """
    noise = noise_for(x, noise_sampler)
    past: list[tuple[float, Tensor]] = []  # lambda, estimate; the last first
    for sigma, to in steps(sigmas):
        denoised = denoise(model, x, sigma)
        if to == 0:
            return denoised
        past = [(-math.log(sigma), denoised), *past][:order]
        x = _adams(x, past[: _reaching(past, math.log(sigma / to))], sigma, to, eta)
        x = renoise(x, to * math.sqrt(decay(2 * eta * math.log(sigma / to))) * s_noise, noise, sigma, to)
    return x


@in_exploding_coordinates
def sa_solver(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    predictor_order: int = 3,
    corrector_order: int = 4,
    tau: float = 1.0,
    tau_from: float = math.inf,
    tau_to: float = 0.0,
    pece: bool = False,
    s_noise: float = 1.0,
) -> Tensor:
    """SA-Solver, the stochastic Adams method (Xue et al. 2023, arXiv:2309.05019), predictor and corrector of the orders
    given, with lower ones at both ends.

    There is noise, as much as `tau` says, in steps that end at levels below `tau_from` and above `tau_to`. The
    corrector goes the step again with the estimate at its end. `pece`: the model is evaluated once more after that.
    """
    noise = noise_for(x, noise_sampler)
    past: list[tuple[float, Tensor]] = []
    before, levels = None, steps(sigmas)
    for i, (sigma, to) in enumerate(levels):
        left = len(levels) - (i if levels[-1][1] == 0 else 0)
        past = [(-math.log(sigma), denoise(model, x, sigma)), *past][: max(predictor_order, corrector_order)]
        if before and (to > 0 or pece):
            x = before.again(past[: min(corrector_order, left)])
            if pece:
                past[0] = past[0][0], denoise(model, x, sigma)
        if to == 0:
            return past[0][1]
        eta = tau**2 if tau_from >= to > tau_to else 0.0
        before = _Corrected(x, sigma, to, eta)
        x = _adams(x, past[: min(predictor_order, max(1, left - 1))], sigma, to, eta)
        more = to * math.sqrt(decay(2 * eta * math.log(sigma / to))) * s_noise
        before.noise = more * noise(sigma, to) if more > 0 else 0.0
        x = x + before.noise
    return x


class _Corrected:
    """A step that is gone a second time, with the same noise, when the estimate at its end is known."""

    def __init__(self, x: Tensor, sigma: float, to: float, eta: float) -> None:
        self._step = x, sigma, to, eta
        self.noise: Tensor | float = 0.0

    def again(self, past: list[tuple[float, Tensor]]) -> Tensor:
        x, sigma, to, eta = self._step
        return _adams(x, past, sigma, to, eta) + self.noise


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
    s = h * (_NODES + 1) / 2
    density = h / 2 * _WEIGHTS * rate * np.exp(-rate * (h - s))
    weights = []
    for i, node in enumerate(nodes):
        others = np.delete(nodes, i)
        weights.append(float((density * np.prod((s - others[:, None]) / (node - others[:, None]), axis=0)).sum()))
    return tuple(weights)
