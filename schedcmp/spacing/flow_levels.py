"""Sigma schedules on flow matching, x = (1 - s) x0 + s noise: lists of levels s from 1 down.

Each function takes the number of steps n and the levels that the checkpoint was trained on, and returns n falling,
positive levels; the final 0 is the scheduler's business. A ValueError says why there is no such list. Those that have
ComfyUI's names are ComfyUI's: where it takes a level that is shifted for a timestep, and shifts it again, so do they.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedcmp.spacing import levels as lists

Levels = NDArray[np.float64]

# LTX-Video's (arXiv:2501.00103): mu of 4,096 latent tokens, and the level that its list is stretched to end at
_LTX_MU, _LTX_TERMINAL = 2.05, 0.1
# Ideogram 4's default preset: of the normal distribution of log(s / (1 - s)) at 512 x 512, and the size taken here
_IDEOGRAM_STD, _IDEOGRAM_SIZE, _IDEOGRAM_BASE = 1.75, 1024, 512
_IDEOGRAM_ENDS = (-7.5, 9.0)
# Optimal Stepsize for Diffusion Sampling (Pei et al. 2025, arXiv:2503.21774), lists of its repository and of ComfyUI
_OPTIMAL = {
    "flux": (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),
    "wan": (
        1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973, 0.968, 0.96, 0.946, 0.927, 0.902,
        0.864, 0.776, 0.539, 0.208, 0.001,
    ),
}  # fmt: skip


_FLUX2_LARGE = 4300  # tokens, from which on the number of steps does not matter


@dataclass(frozen=True)
class Trained:
    """The levels that a checkpoint was trained on: t = i / count, shifted to factor t / (1 + (factor - 1) t)."""

    factor: float
    count: int
    tokens: float | None = None  # of the image's latents, where the pipeline tells

    @cached_property
    def sigmas(self) -> Levels:
        """(count,), ascending."""
        return self.shifted(np.arange(1, self.count + 1) / self.count)

    def shifted(self, t: Any) -> Levels:
        """The level of an unshifted one."""
        return np.asarray(self.factor * t / (1 + (self.factor - 1) * t), dtype=np.float64)


Schedule = Callable[[int, Trained], Levels]


def normal(n: int, trained: Trained) -> Levels:
    """Even from 1 down to the smallest level, then shifted (ComfyUI). diffusers' class for Euler has this by itself."""
    return trained.shifted(np.linspace(1, trained.sigmas[0], n))


def sgm_uniform(n: int, trained: Trained) -> Levels:
    """`normal` of one step more, without the last (ComfyUI)."""
    return normal(n + 1, trained)[:-1]


def trailing(n: int, trained: Trained) -> Levels:
    """Even from 1 by 1 / n, then shifted: what the pipelines of Flux hand over."""
    return trained.shifted(1 - np.arange(n) / n)


def linspace(n: int, trained: Trained) -> Levels:
    """Even over the timesteps from the last to the first, then shifted."""
    return trained.shifted(np.linspace(1, 1 / trained.count, n))


def karras(n: int, trained: Trained, rho: float = 7.0) -> Levels:
    """Karras et al. 2022, equation 5, from 1 to the smallest level (ComfyUI)."""
    low, high = trained.sigmas[[0, -1]] ** (1 / rho)
    return np.asarray(np.linspace(high, low, n) ** rho)


def exponential(n: int, trained: Trained) -> Levels:
    """Even steps in log s from 1 to the smallest level (ComfyUI)."""
    return np.asarray(np.geomspace(trained.sigmas[-1], trained.sigmas[0], n))


def lu(n: int, trained: Trained) -> Levels:
    """Even steps in log((1 - s) / s), from just below 1 to the smallest level."""
    low, high = np.array([trained.sigmas[0], trained.shifted(1 - 1e-4)])
    ratios = np.geomspace(high / (1 - high), low / (1 - low), n)
    return np.asarray(ratios / (1 + ratios))


def beta(n: int, trained: Trained, alpha: float = 0.6) -> Levels:
    """Quantiles of a beta distribution over the levels themselves, as diffusers and A1111 have it."""
    from scipy import stats

    low, high = trained.sigmas[[0, -1]]
    return np.asarray(low + (high - low) * stats.beta.ppf(np.linspace(1, 0, n), alpha, alpha))


def ltxv(n: int, trained: Trained) -> Levels:
    """LTX-Video's own, of 4,096 latent tokens, whatever the checkpoint's shift; stretched to end at 0.1."""
    shifted = Trained(math.exp(_LTX_MU), trained.count).shifted(1 - np.arange(n) / n)
    if n == 1:
        return shifted
    return np.asarray(1 - (1 - shifted) * (1 - _LTX_TERMINAL) / (1 - shifted[-1]))


def ideogram4(n: int, trained: Trained) -> Levels:
    """Ideogram 4's own at 1024 x 1024: quantiles of a normal distribution of log(s / (1 - s)), whose ends are cut."""
    from scipy.special import expit, ndtri

    mean = math.log(_IDEOGRAM_SIZE / _IDEOGRAM_BASE)
    quantiles = mean + _IDEOGRAM_STD * ndtri(np.linspace(1, 0, n + 1)[:-1])
    return np.asarray(expit(np.clip(quantiles, *_IDEOGRAM_ENDS)))


def flux2(n: int, trained: Trained) -> Levels:
    """FLUX.2's own: `trailing`, with a shift that its authors fitted to the number of tokens and of steps."""
    if trained.tokens is None:
        raise ValueError("FLUX.2's levels depend on the image's size, which this checkpoint's pipeline does not tell")
    many = 0.00016927 * trained.tokens + 0.45666666  # of 200 steps
    few = 8.73809524e-05 * trained.tokens + 1.89833333  # of 10
    mu = many if trained.tokens > _FLUX2_LARGE else many + (few - many) * (200 - n) / 190
    return trailing(n, Trained(math.exp(mu), trained.count))


def _between(published: tuple[float, ...]) -> Schedule:
    """At other numbers of steps than a published list's own log-linear in between, as its authors do."""
    return lambda n, trained: lists.interpolated(published, n)


def schedule_called(name: str) -> Schedule:
    """By its name here; those of `spacing.levels` run over the shifted levels; or the list that the name is."""
    if name in _SCHEDULES:
        return _SCHEDULES[name]
    schedule = lists.schedule_called(name)
    return lambda n, trained: schedule(n, trained.sigmas)


_SCHEDULES: dict[str, Schedule] = {
    **{
        f.__name__: f
        for f in (
            normal, sgm_uniform, trailing, linspace, karras, exponential, lu, beta, ltxv, ideogram4, flux2,
        )
    },
    **{f"optimal_steps_{which}": _between(published) for which, published in _OPTIMAL.items()},
}  # fmt: skip
