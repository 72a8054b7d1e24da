"""Ancestral sampling for flow matching in its own coordinates: x = (1 - s) x0 + s noise.

A deterministic step to below the next level; then the latents are scaled so that x0 has its share of the next level,
and noise makes up what is missing, as in ComfyUI. At s = 1 that needs no exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from schedcmp.samplers.common import Descent, exponential_euler, solver

_HIGHEST = 0.9999  # where the middle of a step from 1 is taken


@solver(noisy=True, coordinates="own")
def euler_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """Euler's method with ancestral noise; eta 0 is Euler."""
    _ancestral(way, eta, s_noise, lambda x, denoised, s, to: exponential_euler(x, denoised, s, to))


@solver(noisy=True, coordinates="own")
def dpmpp_2s_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, algorithm 1, r = 1/2) with ancestral noise.

    The last step, to 0, evaluates once. A step's middle is half the way in log((1 - s) / s).
    """

    def advance(x: Tensor, denoised: Tensor, s: float, to: float) -> Tensor:
        sigma = math.sqrt(s / (1 - s) * to / (1 - to)) if s < 1 else math.inf
        middle = sigma / (1 + sigma) if s < 1 else _HIGHEST
        return exponential_euler(x, way.denoise(exponential_euler(x, denoised, s, middle), middle), s, to)

    _ancestral(way, eta, s_noise, advance)


@solver(noisy=True, coordinates="own")
def dpm_2_ancestral(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """The midpoint method with the midpoint in log s, as k-diffusion's DPM2, with ancestral noise; eta 0 is DPM2.

    The last step, to 0, evaluates once.
    """

    def advance(x: Tensor, denoised: Tensor, s: float, to: float) -> Tensor:
        middle = math.sqrt(s * to)
        ahead = exponential_euler(x, denoised, s, middle)
        return x + (to - s) * (ahead - way.denoise(ahead, middle)) / middle

    _ancestral(way, eta, s_noise, advance)


def _ancestral(
    way: Descent, eta: float, s_noise: float, advance: Callable[[Tensor, Tensor, float, float], Tensor]
) -> None:
    """`advance`: x, with its denoised estimate, from its level to another one above 0."""
    for x, s, to in way.steps():
        denoised = way.denoise(x, s)
        down = to * (1 + (to / s - 1) * eta)
        x = advance(x, denoised, s, down) if down > 0 else denoised
        kept = (1 - to) / (1 - down)
        way.go(kept * x, math.sqrt(max(0.0, to**2 - (down * kept) ** 2)) * s_noise)
