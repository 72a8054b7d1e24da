"""Multistep exponential integrators for the denoised estimate, with ancestral noise and CFG++."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from schedcmp.samplers.common import Descent, ancestral, decay, exponential_euler, phi2, solver

CfgPp = Literal["", "renoise", "authors", "comfyui"]


@solver()
def res_multistep(way: Descent) -> None:
    """RES, the refined exponential solver, multistep, second order (Zhang et al. 2023, arXiv:2308.02157)."""
    _second_order(way, phi2)


@solver(noisy=True)
def res_multistep_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """RES multistep with ancestral noise; eta 0 is `res_multistep`."""
    _second_order(way, phi2, eta, s_noise)


@solver(needs_unconditional=True)
def res_multistep_cfg_pp(way: Descent, *, comfyui: bool = False) -> None:
    """RES multistep with CFG++ (Chung et al. 2024), following the estimate without guidance.

    `comfyui`: steps of second order go towards the estimate without guidance, which is in x alone.
    """
    _second_order(way, phi2, cfg_pp="comfyui" if comfyui else "renoise")


@solver(noisy=True, needs_unconditional=True)
def res_multistep_ancestral_cfg_pp(
    way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, comfyui: bool = False
) -> None:
    """RES multistep with ancestral noise and CFG++; `comfyui` as in `res_multistep_cfg_pp`."""
    _second_order(way, phi2, eta, s_noise, cfg_pp="comfyui" if comfyui else "renoise")


@solver(needs_unconditional=True)
def dpmpp_2m_cfg_pp(way: Descent) -> None:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095) with CFG++, as its authors have it (Chung et al. 2024): the
    correction is from the last estimate without guidance to the present one with it."""
    _second_order(way, _half, cfg_pp="authors")


@solver()
def dpmpp_2m(way: Descent) -> None:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2); the last step, to 0, is of first order."""
    _second_order(way, _half)


def _half(h: float) -> float:
    return decay(h) / 2


def _second_order(
    way: Descent, weight: Callable[[float], float], eta: float = 0.0, s_noise: float = 1.0, cfg_pp: CfgPp = ""
) -> None:
    """`weight`: of h times the derivative of denoised, over a step of length h: exactly `phi2`, to second order
    (1 - exp(-h)) / 2."""
    last = None
    last_h = math.nan
    for x, denoised, sigma, to in way.estimates(cfg_pp=bool(cfg_pp)):
        followed = way.model.unconditional if cfg_pp else denoised  # the estimate whose changes it follows
        down, up = ancestral(sigma, to, eta)
        h = math.log(sigma / down) if down else math.inf
        second = last is not None and down > 0
        x = exponential_euler(x, followed if second and cfg_pp == "comfyui" else denoised, sigma, down)
        if last is not None and second:
            x = x + weight(h) * h / last_h * ((denoised if cfg_pp == "authors" else followed) - last)
        way.go(x, up * s_noise)
        last, last_h = followed, h  # to `down`: what the noise adds is no part of the derivative
