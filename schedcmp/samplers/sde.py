"""DPM-Solver++ for the diffusion SDE: multistep, of two or three steps, and of two stages.

With noise, over a step of length h in lambda = -log sigma, denoised is weighed as over (1 + eta) h, and noise of
variance sigma_next^2 (1 - exp(-2 eta h)) is added: the marginal distributions stay the same for every eta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from schedcmp.samplers.common import Descent, ancestral, decay, exponential_euler, phi2, phi3, solver, stochastic


@solver(noisy=True, coordinates="exploding")
def dpmpp_sde(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5) -> None:
    """SDE-DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095), as in k-diffusion: a stage at `r` of the step in log
    sigma, whose noise is the beginning of the whole step's, as they are increments of one Brownian path."""
    for x, denoised, sigma, to in way.estimates():
        middle = sigma ** (1 - r) * to**r
        down, up = ancestral(sigma, middle, eta)
        stage = way.renoised(exponential_euler(x, denoised, sigma, down), up * s_noise, sigma, middle)
        denoised = denoised + (way.denoise(stage, middle) - denoised) / (2 * r)
        down, up = ancestral(sigma, to, eta)
        way.go(exponential_euler(x, denoised, sigma, down), up * s_noise)


@solver(noisy=True, coordinates="exploding")
def dpmpp_2m_sde(
    way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, solver_type: Literal["midpoint", "heun"] = "midpoint"
) -> None:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095), as in k-diffusion: the derivative of the estimate is
    weighed exactly (`heun`) or to second order (`midpoint`)."""
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"solver_type must be midpoint or heun, not {solver_type!r}")
    _multistep(way, eta, s_noise, phi2 if solver_type == "heun" else lambda h: decay(h) / 2)


@solver(noisy=True, coordinates="exploding")
def dpmpp_3m_sde(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, corrected: bool = False) -> None:
    """SDE-DPM-Solver++ with three steps (Lu et al. 2022, arXiv:2211.01095), with k-diffusion's coefficients.

    They weigh the second divided difference of the estimates, which is half a second derivative, as if it were a whole
    one, so that the method is of second order even without noise. `corrected` weighs it as Taylor's theorem does,
    which makes it of third.
    """
    _multistep(way, eta, s_noise, phi2, lambda h: phi3(h) * (2 if corrected else 1))


Weight = Callable[[float], float]


def _multistep(way: Descent, eta: float, s_noise: float, first: Weight, second: Weight | None = None) -> None:
    """`first`, `second`: of h D' and h^2 D'' / 2, over a step of length (1 + eta) h."""
    past: list[tuple[Tensor, float]] = []  # the last two estimates, each with the length of the step from it
    for x, denoised, sigma, to in way.estimates():
        h = math.log(sigma / to)
        wide = (1 + eta) * h
        slope, bend = _differences(denoised, h, past)
        x = math.exp(-wide) * x + decay(wide) * denoised + first(wide) * slope
        x = x + second(wide) * bend if second else x
        way.go(x, stochastic(sigma, to, eta) * s_noise)
        past = [(denoised, h), *past[:1]] if second else [(denoised, h)]


def _differences(denoised: Tensor, h: float, past: list[tuple[Tensor, float]]) -> tuple[Tensor, Tensor]:
    """h D' and h^2 D'' / 2 at the present level, from divided differences; 0 where the past does not reach."""
    if not past:
        return torch.zeros_like(denoised), torch.zeros_like(denoised)
    (last, h1), *earlier = past
    slope = (denoised - last) / h1
    if not earlier:
        return h * slope, torch.zeros_like(denoised)
    before, h2 = earlier[0]
    bend = (slope - (last - before) / h2) / (h1 + h2)
    return h * (slope + h1 * bend), h**2 * bend
