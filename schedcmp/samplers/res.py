"""Multistep exponential integrators for the denoised estimate, with ancestral noise and CFG++."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from schedcmp.samplers.common import (
    OwnNoise,
    ancestral,
    decay,
    exponential_euler,
    guided,
    noise_for,
    phi2,
    renoise,
    steps,
)
from schedcmp.samplers.contract import needs_unconditional

CfgPp = Literal["", "renoise", "authors", "comfyui"]


def res_multistep(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """RES, the refined exponential solver, multistep, second order (Zhang et al. 2023, arXiv:2308.02157)."""
    return _second_order(model, x, sigmas, phi2)


def res_multistep_ancestral(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """RES multistep with ancestral noise; eta 0 is `res_multistep`."""
    return _second_order(model, x, sigmas, phi2, noise_sampler, eta, s_noise)


@needs_unconditional
def res_multistep_cfg_pp(model: Any, x: Tensor, sigmas: Tensor, *, comfyui: bool = False) -> Tensor:
    """RES multistep with CFG++ (Chung et al. 2024), following the estimate without guidance.

    `comfyui`: steps of second order go towards the estimate without guidance, which is in x alone.
    """
    return _second_order(model, x, sigmas, phi2, cfg_pp="comfyui" if comfyui else "renoise")


@needs_unconditional
def res_multistep_ancestral_cfg_pp(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    comfyui: bool = False,
) -> Tensor:
    """RES multistep with ancestral noise and CFG++; `comfyui` as in `res_multistep_cfg_pp`."""
    cfg_pp: CfgPp = "comfyui" if comfyui else "renoise"
    return _second_order(model, x, sigmas, phi2, noise_sampler, eta, s_noise, cfg_pp=cfg_pp)


@needs_unconditional
def dpmpp_2m_cfg_pp(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095) with CFG++, as its authors have it (Chung et al. 2024): the
    correction is from the last estimate without guidance to the present one with it."""
    return _second_order(model, x, sigmas, _half, cfg_pp="authors")


def dpmpp_2m(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2); the last step, to 0, is of first order."""
    return _second_order(model, x, sigmas, _half)


def _half(h: float) -> float:
    return decay(h) / 2


def _second_order(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    weight: Any,
    noise_sampler: OwnNoise = None,
    eta: float = 0.0,
    s_noise: float = 1.0,
    cfg_pp: CfgPp = "",
) -> Tensor:
    """`weight`: of h times the derivative of denoised, over a step of length h: exactly `phi2`, to second order
    (1 - exp(-h)) / 2."""
    noise = noise_for(x, noise_sampler)
    last = None
    last_h = math.nan
    for sigma, to in steps(sigmas):
        x, denoised, followed = guided(model, x, sigma, bool(cfg_pp))
        if to == 0:
            return denoised
        down, up = ancestral(sigma, to, eta)
        h = math.log(sigma / down) if down else math.inf
        second = last is not None and down > 0
        x = exponential_euler(x, followed if second and cfg_pp == "comfyui" else denoised, sigma, down)
        if last is not None and second:
            x = x + weight(h) * h / last_h * ((denoised if cfg_pp == "authors" else followed) - last)
        x = renoise(x, up * s_noise, noise, sigma, to)
        last, last_h = followed, h  # to `down`: what the noise adds is no part of the derivative
    return x
