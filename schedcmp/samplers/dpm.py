"""DPM-Solver (Lu et al. 2022, arXiv:2206.00927): exponential integrators for the noise, singlestep.

On sigmas alone, t = -log sigma and noise = (x - denoised) / sigma. Both samplers end at the smallest level with one
more evaluation that denoises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from schedcmp.samplers.common import denoise


def dpm_fast(model: Any, x: Tensor, sigma_min: float, sigma_max: float, n: int, *, denoise_last: bool = True) -> Tensor:
    """DPM-Solver-fast (section 3.4): steps of order 3, and of 2 or 1 for what is left of n evaluations.

    Of the n evaluations the last denoises; without `denoise_last` it stops at sigma_min and leaves its noise in, as
    k-diffusion's.
    """
    budget = n - 1 if denoise_last else n
    orders = _orders(budget)
    start, end = -math.log(sigma_max), -math.log(sigma_min)
    times = [start + (end - start) * i / max(1, len(orders)) for i in range(len(orders) + 1)]
    for order, (t, to) in zip(orders, pairwise(times), strict=True):
        x = Stages(model, x, t, to).solve(order)
    return denoise(model, x, sigma_min) if denoise_last else x


def dpm_adaptive(
    model: Any,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    *,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    denoise_last: bool = True,
    round_steps: bool = True,
) -> Tensor:
    """DPM-Solver-12 or -23 (appendix C): steps as long as two embedded orders agree to `rtol` and `atol`.

    The step sizes are those of a PID controller (Söderlind 2003), with `round_steps` rounded to a sixteenth of an
    octave, so that they do not follow the last bits of the model's answers, which a batch changes. How often it
    evaluates depends on the data. k-diffusion's rounds nothing, and ends at sigma_min, as without `denoise_last`.
    """
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, not {order}")
    t, end = -math.log(sigma_max), -math.log(sigma_min)
    control = StepSize(h_init, order, (pcoeff, icoeff, dcoeff), accept_safety, rounds=round_steps)
    lower = x
    while t < end - 1e-5:
        to = min(end, t + control.h)
        stages = Stages(model, x, t, to)
        low, high = stages.solve(order - 1, r1=1 / order), stages.solve(order, r1=1 / order)
        scale = torch.maximum(low.abs(), lower.abs()).mul(rtol).clamp(min=atol)
        error = float(((low - high) / scale).square().mean().sqrt())
        if math.isnan(error):
            return high  # which nobody takes for an image
        if control.accepts(error):
            x, lower, t = high, low, to
    return denoise(model, x, math.exp(-t)) if denoise_last else x


@dataclass
class StepSize:
    """Chooses step sizes in -log sigma so that each step's error is about 1, in units of the tolerance."""

    h: float
    order: int
    pid: tuple[float, float, float]
    safety: float
    rounds: bool = True
    inverse_errors: list[float] = field(default_factory=list)  # of this step and the two before

    def accepts(self, error: float) -> bool:
        """Whether the step was good enough; adapts `h` in either case."""
        p, i, d = self.pid
        inverse = 1 / (error + 1e-8)
        present = [inverse, *(self.inverse_errors or [inverse, inverse])]
        powers = (p + i + d, -(p + 2 * d), d)
        raw = math.prod(e ** (power / self.order) for e, power in zip(present, powers, strict=True))
        factor = 1 + math.atan(raw - 1)
        self.h *= factor
        if self.rounds:
            self.h = float(2 ** (round(16 * math.log2(self.h)) / 16))
        if factor < self.safety:
            return False
        self.inverse_errors = present[:2]
        return True


class Stages:
    """One step from t to `to` in -log sigma; stages that several orders need are evaluated once."""

    def __init__(self, model: Any, x: Tensor, t: float, to: float) -> None:
        self._model, self._x, self._t, self._h = model, x, t, to - t
        self._known: dict[float, Tensor] = {}

    def solve(self, order: int, r1: float | None = None) -> Tensor:
        """The x at `to`, by DPM-Solver of order 1, 2 or 3; `r1` is where the first inner stage lies."""
        grown = math.expm1(self._h)
        x = self._ahead(1.0)
        if order == 1:
            return x
        if order == 2:
            r = r1 or 1 / 2
            return x - self._sigma(1.0) * grown / (2 * r) * self._change(r)
        r, r2 = r1 or 1 / 3, 2 / 3
        grown2 = math.expm1(r2 * self._h)
        bend = self._sigma(r2) * (r2 / r) * (grown2 / (r2 * self._h) - 1)
        change = self._noise(r2, self._ahead(r2) - bend * self._change(r)) - self._noise(0.0, self._x)
        return x - self._sigma(1.0) / r2 * (grown / self._h - 1) * change

    def _sigma(self, r: float) -> float:
        return math.exp(-(self._t + r * self._h))

    def _ahead(self, r: float) -> Tensor:
        """First order: the noise stays as it is at t."""
        return self._x - self._sigma(r) * math.expm1(r * self._h) * self._noise(0.0, self._x)

    def _change(self, r: float) -> Tensor:
        return self._noise(r, self._ahead(r)) - self._noise(0.0, self._x)

    def _noise(self, r: float, x: Tensor) -> Tensor:
        if r not in self._known:
            self._known[r] = (x - denoise(self._model, x, self._sigma(r))) / self._sigma(r)
        return self._known[r]


def _orders(budget: int) -> list[int]:
    """Of the steps that use `budget` evaluations."""
    if budget <= 0:
        return []
    if budget % 3:
        return [3] * (budget // 3) + [budget % 3]
    return [3] * (budget // 3 - 1) + [2, 1]
