"""Ancestral sampling: a deterministic step to below the next level, then noise up to it."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from schedcmp.samplers.common import (
    OwnNoise,
    ancestral,
    denoise,
    exponential_euler,
    guided,
    noise_for,
    renoise,
    steps,
)
from schedcmp.samplers.contract import needs_unconditional


def euler_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """Euler's method with ancestral noise (Song et al. 2021, DDIM, in k-diffusion's form); eta 0 is Euler."""
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise)


@needs_unconditional
def euler_ancestral_cfg_pp(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """Ancestral Euler with CFG++ (Chung et al. 2024)."""
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, cfg_pp=True)


@needs_unconditional
def euler_cfg_pp(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """DDIM with CFG++ (Chung et al. 2024, algorithm 1)."""
    return _ancestral(model, x, sigmas, None, 0.0, 0.0, cfg_pp=True)


def lcm(model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): the estimate, noised anew to the next level."""
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        x = renoise(denoise(model, x, sigma), to, noise, sigma, to)
    return x


def dpm_2_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """The midpoint method with the midpoint in log sigma, as k-diffusion's DPM2, with ancestral noise; eta 0 is DPM2.

    The last step, to 0, evaluates once.
    """
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        down, up = ancestral(sigma, to, eta)
        slope = (x - denoise(model, x, sigma)) / sigma
        if down > 0:
            middle = math.sqrt(sigma * down)
            ahead = x + (middle - sigma) * slope
            slope = (ahead - denoise(model, ahead, middle)) / middle
        x = renoise(x + (down - sigma) * slope, up * s_noise, noise, sigma, to)
    return x


def dpmpp_2s_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1, r = 1/2) with ancestral noise.

    The last step, to 0, evaluates once.
    """
    return _ancestral(model, x, sigmas, noise_sampler, eta, s_noise, two_stages=True)


@needs_unconditional
def dpmpp_2s_ancestral_cfg_pp(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    comfyui: bool = False,
) -> Tensor:
    """DPM-Solver++(2S) with ancestral noise and CFG++, as CFG++'s authors have it (Chung et al. 2024): the first stage
    without guidance, the second denoises with it and renoises without.

    `comfyui`: guidance in both stages, renoised from the first estimate with it and the second without.
    """
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        denoised, alone = denoise(model, x, sigma), model.unconditional
        down, up = ancestral(sigma, to, eta)
        if down == 0:
            x = denoised
        elif comfyui:
            middle = math.sqrt(sigma * down)
            stage = exponential_euler(x + denoised - alone, denoised, sigma, middle)
            second = denoise(model, stage, middle)
            x = exponential_euler(x + denoised - model.unconditional, second, sigma, down)
        else:
            middle = math.sqrt(sigma * down)
            second = denoise(model, exponential_euler(x, alone, sigma, middle), middle)
            x = second + (x - model.unconditional) * (down / sigma)
        x = renoise(x, up * s_noise, noise, sigma, to)
    return x


def _ancestral(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    noise_sampler: OwnNoise,
    eta: float,
    s_noise: float,
    *,
    two_stages: bool = False,
    cfg_pp: bool = False,
) -> Tensor:
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        x, denoised, _ = guided(model, x, sigma, cfg_pp)
        down, up = ancestral(sigma, to, eta)
        if two_stages and down > 0:
            middle = math.sqrt(sigma * down)
            denoised = denoise(model, exponential_euler(x, denoised, sigma, middle), middle)
        x = renoise(exponential_euler(x, denoised, sigma, down), up * s_noise, noise, sigma, to)
    return x
