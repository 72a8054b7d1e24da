"""Ancestral sampling: a deterministic step to below the next level, then noise up to it."""

from __future__ import annotations

import math

from schedcmp.samplers.common import Descent, ancestral, exponential_euler, solver


@solver(noisy=True)
def euler_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """Euler's method with ancestral noise (Song et al. 2021, DDIM, in k-diffusion's form); eta 0 is Euler."""
    _ancestral(way, eta, s_noise)


@solver(noisy=True, needs_unconditional=True)
def euler_ancestral_cfg_pp(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """Ancestral Euler with CFG++ (Chung et al. 2024)."""
    _ancestral(way, eta, s_noise, cfg_pp=True)


@solver(needs_unconditional=True)
def euler_cfg_pp(way: Descent) -> None:
    """DDIM with CFG++ (Chung et al. 2024, algorithm 1)."""
    _ancestral(way, 0.0, 0.0, cfg_pp=True)


@solver(noisy=True)
def lcm(way: Descent) -> None:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): the estimate, noised anew to the next level."""
    for x, sigma, to in way.steps():
        way.go(way.denoise(x, sigma), to)


@solver(noisy=True)
def dpm_2_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """The midpoint method with the midpoint in log sigma, as k-diffusion's DPM2, with ancestral noise; eta 0 is DPM2.

    The last step, to 0, evaluates once.
    """
    for x, sigma, to in way.steps():
        down, up = ancestral(sigma, to, eta)
        slope = way.slope(x, sigma)
        if down > 0:
            middle = math.sqrt(sigma * down)
            slope = way.slope(x + (middle - sigma) * slope, middle)
        way.go(x + (down - sigma) * slope, up * s_noise)


@solver(noisy=True)
def dpmpp_2s_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1, r = 1/2) with ancestral noise.

    The last step, to 0, evaluates once.
    """
    _ancestral(way, eta, s_noise, two_stages=True)


@solver(noisy=True, needs_unconditional=True)
def dpmpp_2s_ancestral_cfg_pp(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, comfyui: bool = False) -> None:
    """DPM-Solver++(2S) with ancestral noise and CFG++, as CFG++'s authors have it (Chung et al. 2024): the first stage
    without guidance, the second denoises with it and renoises without.

    `comfyui`: guidance in both stages, renoised from the first estimate with it and the second without.
    """
    for x, sigma, to in way.steps():
        denoised, alone = way.denoise(x, sigma), way.model.unconditional
        down, up = ancestral(sigma, to, eta)
        middle = math.sqrt(sigma * down)
        if down == 0:
            x = denoised
        elif comfyui:
            stage = exponential_euler(x + denoised - alone, denoised, sigma, middle)
            second = way.denoise(stage, middle)
            x = exponential_euler(x + denoised - way.model.unconditional, second, sigma, down)
        else:
            second = way.denoise(exponential_euler(x, alone, sigma, middle), middle)
            x = second + (x - way.model.unconditional) * (down / sigma)
        way.go(x, up * s_noise)


def _ancestral(way: Descent, eta: float, s_noise: float, *, two_stages: bool = False, cfg_pp: bool = False) -> None:
    for x, denoised, sigma, to in way.estimates(cfg_pp=cfg_pp, denoise_last=False):
        down, up = ancestral(sigma, to, eta)
        if two_stages and down > 0:
            middle = math.sqrt(sigma * down)
            denoised = way.denoise(exponential_euler(x, denoised, sigma, middle), middle)
        way.go(exponential_euler(x, denoised, sigma, down), up * s_noise)
