"""What the sampler functions share: evaluating the model, steps in log sigma, ancestral noise.

With lambda = -log sigma, the probability-flow ODE is dx/dlambda = denoised - x. Over a step of length h it is solved
for a constant denoised by exp(-h) x + (1 - exp(-h)) denoised; higher orders add phi functions times its derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

NoiseSampler = Callable[[Any, Any], Tensor]
OwnNoise = NoiseSampler | None  # None: of torch's global generator


def steps(sigmas: Tensor) -> list[tuple[float, float]]:
    """(sigma, next sigma) of each step."""
    return list(pairwise(sigmas.tolist()))


def denoise(model: Any, x: Tensor, sigma: float) -> Tensor:
    """The denoised estimate of x, (B, ...). The rows' levels stay on the CPU: reading them costs no wait."""
    denoised: Tensor = model(x, torch.full((len(x),), sigma, dtype=torch.float64))
    return denoised


def noise_for(x: Tensor, sampler: OwnNoise) -> NoiseSampler:
    """The noise sampler; torch's global generator if there is none."""
    return sampler or (lambda sigma, sigma_next: torch.randn_like(x))


def decay(h: float) -> float:
    """1 - exp(-h)."""
    return -math.expm1(-h)


def phi2(h: float) -> float:
    """The weight of h times the derivative of denoised, over a step of length h: 1 - (1 - exp(-h)) / h."""
    return 1 - decay(h) / h


def phi3(h: float) -> float:
    """The weight of h^2 times the second derivative of denoised: 1/2 - phi2 / h."""
    return 0.5 - phi2(h) / h


def exponential_euler(x: Tensor, denoised: Tensor, sigma: float, to: float) -> Tensor:
    """x at level `to` for a constant denoised: Euler's step, as it is for any parametrisation of time."""
    return denoised + (x - denoised) * (to / sigma)


def ancestral(sigma: float, to: float, eta: float) -> tuple[float, float]:
    """How far to go down, and how much noise to add there, to arrive at level `to`; eta 1 is as much as DDPM's."""
    up = min(to, eta * to * math.sqrt(max(0.0, 1 - (to / sigma) ** 2)))
    return math.sqrt(to**2 - up**2), up


def renoise(x: Tensor, up: float, sampler: NoiseSampler, sigma: float, to: float) -> Tensor:
    """Add noise of standard deviation `up`; none is drawn where that is 0."""
    return x + up * sampler(sigma, to) if up > 0 else x


def weighed(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    """The sum of the parts, each with its weight."""
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total + weight * part if weight else total
    return total


def guided(model: Any, x: Tensor, sigma: float, cfg_pp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """x, its denoised estimate, and the estimate whose changes the solver follows.

    CFG++ (Chung et al. 2024, algorithm 1) denoises with guidance and renoises without: the noise is
    (x - unconditional) / sigma. That is the plain step from x + denoised - unconditional.
    """
    denoised = denoise(model, x, sigma)
    if not cfg_pp:
        return x, denoised, denoised
    return x + denoised - model.unconditional, denoised, model.unconditional
