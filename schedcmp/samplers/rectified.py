"""Ancestral sampling for flow matching in its own coordinates: x = (1 - s) x0 + s noise.

A deterministic step to below the next level; then the latents are scaled so that x0 has its share of the next level,
and noise makes up what is missing, as in ComfyUI. At s = 1 that needs no exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from schedcmp.samplers.common import OwnNoise, denoise, exponential_euler, noise_for, steps
from schedcmp.samplers.contract import in_own_coordinates

_HIGHEST = 0.9999  # where the middle of a step from 1 is taken


@in_own_coordinates
def euler_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """Euler's method with ancestral noise; eta 0 is Euler."""
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, _euler)


@in_own_coordinates
def dpmpp_2s_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1, r = 1/2) with ancestral noise.

    The last step, to 0, evaluates once.
    """
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, _two_stages)


@in_own_coordinates
def dpm_2_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """The midpoint method with the midpoint in log s, as k-diffusion's DPM2, with ancestral noise; eta 0 is DPM2.

    The last step, to 0, evaluates once.
    """
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, _midpoint)


Advance = Callable[[Any, Tensor, Tensor, float, float], Tensor]


def _euler(model: Any, x: Tensor, denoised: Tensor, s: float, to: float) -> Tensor:
    """From s to `to`, above 0, with the denoised estimate at s."""
    return exponential_euler(x, denoised, s, to)


def _two_stages(model: Any, x: Tensor, denoised: Tensor, s: float, to: float) -> Tensor:
    """Its middle is half the way in log((1 - s) / s)."""
    sigma = math.sqrt(s / (1 - s) * to / (1 - to)) if s < 1 else math.inf
    middle = sigma / (1 + sigma) if s < 1 else _HIGHEST
    return exponential_euler(x, denoise(model, exponential_euler(x, denoised, s, middle), middle), s, to)


def _midpoint(model: Any, x: Tensor, denoised: Tensor, s: float, to: float) -> Tensor:
    middle = math.sqrt(s * to)
    ahead = exponential_euler(x, denoised, s, middle)
    return x + (to - s) * (ahead - denoise(model, ahead, middle)) / middle


def _ancestral(
    model: Any, x: Tensor, sigmas: Tensor, noise_sampler: OwnNoise, eta: float, s_noise: float, advance: Advance
) -> Tensor:
    noise = noise_for(x, noise_sampler)
    for s, to in steps(sigmas):
        denoised = denoise(model, x, s)
        down = to * (1 + (to / s - 1) * eta)
        x = advance(model, x, denoised, s, down) if down > 0 else denoised
        kept = (1 - to) / (1 - down)
        up = math.sqrt(max(0.0, to**2 - (down * kept) ** 2))
        if up > 0:
            x = kept * x + up * s_noise * noise(s, to)
    return x
