"""SEEDS: stochastic exponential Runge-Kutta methods, and their deterministic limits.

Stages share one Brownian path: what is drawn on the way to a stage is damped, and added to what is drawn beyond it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from schedcmp.samplers.common import NoiseSampler, OwnNoise, decay, denoise, noise_for, phi2, steps
from schedcmp.samplers.contract import in_exploding_coordinates


@in_exploding_coordinates
def seeds_2(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
    solver_type: Literal["phi_1", "phi_2"] = "phi_1",
) -> Tensor:
    """SEEDS-2 (Gonzalez et al. 2023, arXiv:2305.14267): two stages, the second at `r` of the step in log sigma.

    Without noise (eta 0), `phi_1` with r = 1/2 is DPM-Solver++(2S), `phi_2` with r = 1 is the exponential Heun method.
    """
    if solver_type not in ("phi_1", "phi_2"):
        raise ValueError(f"solver_type must be phi_1 or phi_2, not {solver_type!r}")
    noise = noise_for(x, noise_sampler)
    for sigma, to in steps(sigmas):
        denoised = denoise(model, x, sigma)
        if to == 0:
            return denoised
        step = _Step(x, denoised, sigma, to, eta, s_noise, noise)
        change = denoise(model, step.ahead(r), step.sigma(r)) - denoised
        wide = (1 + eta) * step.h
        weight = phi2(wide) if solver_type == "phi_2" else decay(wide) / 2
        x = step.ahead(1.0) + weight / r * change
    return x


@in_exploding_coordinates
def seeds_3(
    model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: OwnNoise = None, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """SEEDS-3 (Gonzalez et al. 2023): three stages, at thirds of the step; without noise DPM-Solver++(3S)."""
    noise = noise_for(x, noise_sampler)
    r1, r2 = 1 / 3, 2 / 3
    for sigma, to in steps(sigmas):
        denoised = denoise(model, x, sigma)
        if to == 0:
            return denoised
        step = _Step(x, denoised, sigma, to, eta, s_noise, noise)
        wide = (1 + eta) * step.h
        change = denoise(model, step.ahead(r1), step.sigma(r1)) - denoised
        second = step.ahead(r2) + r2 / r1 * phi2(r2 * wide) * change
        x = step.ahead(1.0) + phi2(wide) / r2 * (denoise(model, second, step.sigma(r2)) - denoised)
    return x


@in_exploding_coordinates
def exp_heun_2_x0(model: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """The exponential Heun method for the denoised estimate: SEEDS-2 without noise, its second stage at the end."""
    return seeds_2(model, x, sigmas, eta=0.0, r=1.0, solver_type="phi_2")


@in_exploding_coordinates
def exp_heun_2_x0_sde(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: OwnNoise = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    draw_twice: bool = False,
) -> Tensor:
    """The exponential Heun method with SEEDS' noise.

    `draw_twice`: each step draws once more and throws that away, as ComfyUI's, so that the same draws make its image.
    """
    draw = noise_for(x, noise_sampler)

    def noise(sigma: float, to: float) -> Tensor:
        drawn = draw(sigma, to)
        if draw_twice:
            draw(to, to)
        return drawn

    return seeds_2(model, x, sigmas, noise_sampler=noise, eta=eta, s_noise=s_noise, r=1.0, solver_type="phi_2")


class _Step:
    """A step from sigma to `to` along one path of noise, for a constant denoised; stages are asked for in order."""

    def __init__(
        self, x: Tensor, denoised: Tensor, sigma: float, to: float, eta: float, s_noise: float, noise: NoiseSampler
    ) -> None:
        self.h = math.log(sigma / to)
        self._x, self._denoised, self._sigma = x, denoised, sigma
        self._eta, self._s_noise, self._noise = eta, s_noise, noise
        self._at = 0.0
        self._path: Tensor | float = 0.0  # noise so far, in units of the level where it stands

    def sigma(self, r: float) -> float:
        """The level at r of the step."""
        return self._sigma * math.exp(-r * self.h)

    def ahead(self, r: float) -> Tensor:
        """x at r of the step, r not before the last one."""
        wide = r * (1 + self._eta) * self.h
        kept: Tensor = math.exp(-wide) * self._x + decay(wide) * self._denoised
        if self._eta * self._s_noise == 0:
            return kept
        more = (r - self._at) * self._eta * self.h
        if more > 0:
            drawn = self._noise(self.sigma(self._at), self.sigma(r))
            self._path = math.exp(-more) * self._path + math.sqrt(decay(2 * more)) * drawn
            self._at = r
        return kept + self.sigma(r) * self._s_noise * self._path
