"""UniPC (Zhao et al. 2023, arXiv:2302.04867): a multistep predictor, and a corrector that needs no more evaluations."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from torch import Tensor

from schedcmp.samplers.common import Descent, exponential_euler, solver, weighed

Variant = Literal["bh1", "bh2"]


@solver(coordinates="exploding")
def uni_pc(way: Descent, *, order: int = 3, variant: Variant = "bh2", end: float = 0.0) -> None:
    """UniPC-p for the denoised estimate with B(h) = h (`bh1`) or exp(h) - 1 (`bh2`), with lower orders at both ends.

    The last step is of first order, to 0 or, as in ComfyUI, to the level `end` in its place.
    """
    _uni_pc(way, order, variant, end)


@solver(coordinates="own")
def uni_pc_in_sigma(way: Descent, *, order: int = 3, variant: Variant = "bh2", end: float = 0.0) -> None:
    """`uni_pc` with lambda = -log sigma on flow matching too, as ComfyUI has it."""
    _uni_pc(way, order, variant, end)


def _uni_pc(way: Descent, order: int, variant: Variant, end: float) -> None:
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"variant must be bh1 or bh2, not {variant!r}")
    levels = way.levels
    levels[-1] = levels[-1] or end
    total = len(levels) - 1
    order = min(order, max(1, total - 1))
    past: list[tuple[float, Tensor]] = []  # lambda = -log sigma, and the estimate; the last first
    step = None
    for i, (ahead, sigma, to) in enumerate(way.steps()):
        denoised = way.denoise(ahead, sigma)
        x = step.corrected(denoised) if step else ahead
        past = [(-math.log(sigma), denoised), *past][:order]
        if i < total - 1:
            step = _Step(x, past[: total - i], sigma, to, variant)
            way.go(step.predicted())
        else:
            way.go(exponential_euler(x, denoised, sigma, to))


class _Step:
    """A step from sigma to `to`, of the order that there are estimates."""

    def __init__(self, x: Tensor, past: list[tuple[float, Tensor]], sigma: float, to: float, variant: Variant) -> None:
        (start, self._present), *earlier = past
        h = math.log(sigma / to)
        self._base = exponential_euler(x, self._present, sigma, to)
        self._scale = -h if variant == "bh1" else math.expm1(-h)  # B(h), as it is for the denoised estimate
        places = [(place - start) / h for place, _ in earlier]
        self._slopes = [(d - self._present) / r for (_, d), r in zip(earlier, places, strict=True)]
        self._powers = np.vander([*places, 1.0], increasing=True).T
        self._moments = _moments(h, len(past)) / self._scale

    def predicted(self) -> Tensor:
        """x at the end, by the estimates so far."""
        if not self._slopes:
            return self._base
        rhos = [0.5] if len(self._slopes) == 1 else np.linalg.solve(self._powers[:-1, :-1], self._moments[:-1])
        return self._base - self._scale * weighed(list(map(float, rhos)), self._slopes)

    def corrected(self, denoised: Tensor) -> Tensor:
        """x at the end, by the estimate there too."""
        rhos = np.linalg.solve(self._powers, self._moments) if self._slopes else [0.5]
        return self._base - self._scale * weighed(list(map(float, rhos)), [*self._slopes, denoised - self._present])


def _moments(h: float, number: int) -> np.ndarray[Any, Any]:
    """k! (-h) phi_{k+1}(-h) for k from 1 to `number`."""
    term, moments = math.expm1(-h), []
    for k in range(1, number + 1):
        term = term / -h - 1 / math.factorial(k)
        moments.append(term * math.factorial(k))
    return np.array(moments)
