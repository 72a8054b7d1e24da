"""Ancestral sampling for flow matching in its own coordinates: x = (1 - s) x0 + s noise.

A deterministic step to below the next level; then the latents are scaled so that x0 has its share of the next level,
and noise makes up what is missing, as in ComfyUI. At s = 1 that needs no exception.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from schedcmp.samplers.common import NoiseSampler, denoise, exponential_euler, noise_for, steps
from schedcmp.samplers.contract import in_own_coordinates

_HIGHEST = 0.9999  # where the middle of a step from 1 is taken


@in_own_coordinates
def euler_ancestral(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """Euler's method with ancestral noise; eta 0 is Euler."""
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise)


@in_own_coordinates
def dpmpp_2s_ancestral(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    noise_sampler: NoiseSampler | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1, r = 1/2) with ancestral noise.

    The last step, to 0, evaluates once.
    """
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, two_stages=True)


def _ancestral(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    noise_sampler: NoiseSampler | None,
    eta: float,
    s_noise: float,
    *,
    two_stages: bool = False,
) -> torch.Tensor:
    noise = noise_for(x, noise_sampler)
    for s, to in steps(sigmas):
        denoised = denoise(model, x, s)
        down = to * (1 + (to / s - 1) * eta)
        if two_stages and down > 0:
            middle = _middle(s, down)
            denoised = denoise(model, exponential_euler(x, denoised, s, middle), middle)
        x = exponential_euler(x, denoised, s, down)
        kept = (1 - to) / (1 - down)
        up = math.sqrt(max(0.0, to**2 - (down * kept) ** 2))
        if up > 0:
            x = kept * x + up * s_noise * noise(s, to)
    return x


def _middle(s: float, to: float) -> float:
    """Half the way in log((1 - s) / s)."""
    if s >= 1:
        return _HIGHEST
    sigma = math.sqrt(s / (1 - s) * to / (1 - to))
    return sigma / (1 + sigma)
