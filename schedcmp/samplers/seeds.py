"""SEEDS: stochastic exponential Runge-Kutta methods, and their deterministic limits.

Stages share one Brownian path: what is drawn on the way to a stage is damped, and added to what is drawn beyond it.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from schedcmp.samplers.common import Descent, decay, phi2, solver

Weights = Literal["phi_1", "phi_2"]


@solver(noisy=True, coordinates="exploding")
def seeds_2(
    way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, r: float = 0.5, solver_type: Weights = "phi_1"
) -> None:
    """SEEDS-2 (Gonzalez et al. 2023, arXiv:2305.14267): two stages, the second at `r` of the step in log sigma.

    Without noise (eta 0), `phi_1` with r = 1/2 is DPM-Solver++(2S), `phi_2` with r = 1 is the exponential Heun method.
    """
    _two_stages(way, eta, s_noise, r, solver_type)


@solver(noisy=True, coordinates="exploding")
def seeds_3(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0) -> None:
    """SEEDS-3 (Gonzalez et al. 2023): three stages, at thirds of the step; without noise DPM-Solver++(3S)."""
    r1, r2 = 1 / 3, 2 / 3
    for x, denoised, sigma, to in way.estimates():
        step = _Step(way, x, denoised, sigma, to, eta, s_noise)
        wide = (1 + eta) * step.h
        change = way.denoise(step.ahead(r1), step.sigma(r1)) - denoised
        second = step.ahead(r2) + r2 / r1 * phi2(r2 * wide) * change
        way.go(step.ahead(1.0) + phi2(wide) / r2 * (way.denoise(second, step.sigma(r2)) - denoised))


@solver(coordinates="exploding")
def exp_heun_2_x0(way: Descent) -> None:
    """The exponential Heun method for the denoised estimate: SEEDS-2 without noise, its second stage at the end."""
    _two_stages(way, eta=0.0, s_noise=1.0, r=1.0, solver_type="phi_2")


@solver(noisy=True, coordinates="exploding")
def exp_heun_2_x0_sde(way: Descent, *, eta: float = 1.0, s_noise: float = 1.0, draw_twice: bool = False) -> None:
    """The exponential Heun method with SEEDS' noise.

    `draw_twice`: each step draws once more and throws that away, as ComfyUI's, so that the same draws make its image.
    """
    draw = way.noise

    def noise(sigma: float, to: float) -> Tensor:
        drawn = draw(sigma, to)
        if draw_twice:
            draw(to, to)
        return drawn

    way.noise = noise
    _two_stages(way, eta, s_noise, r=1.0, solver_type="phi_2")


def _two_stages(way: Descent, eta: float, s_noise: float, r: float, solver_type: Weights) -> None:
    if solver_type not in ("phi_1", "phi_2"):
        raise ValueError(f"solver_type must be phi_1 or phi_2, not {solver_type!r}")
    for x, denoised, sigma, to in way.estimates():
        step = _Step(way, x, denoised, sigma, to, eta, s_noise)
        change = way.denoise(step.ahead(r), step.sigma(r)) - denoised
        wide = (1 + eta) * step.h
        weight = phi2(wide) if solver_type == "phi_2" else decay(wide) / 2
        way.go(step.ahead(1.0) + weight / r * change)


class _Step:
    """A step from sigma to `to` along one path of noise, for a constant denoised; stages are asked for in order."""

    def __init__(
        self, way: Descent, x: Tensor, denoised: Tensor, sigma: float, to: float, eta: float, s_noise: float
    ) -> None:
        self.h = math.log(sigma / to)
        self._x, self._denoised, self._sigma = x, denoised, sigma
        self._eta, self._s_noise, self._noise = eta, s_noise, way.noise
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
