"""Multistep solvers of dx/dsigma = (x - denoised) / sigma, which remember earlier slopes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from torch import Tensor

from schedcmp.samplers.common import (
    GAUSS_NODES,
    GAUSS_WEIGHTS,
    Descent,
    exponential_euler,
    lagrange,
    solver,
    weighed,
)

# Adams-Bashforth's weights of the present slope and those before, for steps of equal length
_ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@solver()
def gradient_estimation(way: Descent, *, ge_gamma: float = 2.0) -> None:
    """Gradient estimation (Permenter and Yuan 2024, arXiv:2306.04848, algorithm 2): the slope is extrapolated by
    `ge_gamma` from the last one to the present; 1 is Euler's method."""
    _gradient_estimation(way, ge_gamma)


@solver(needs_unconditional=True)
def gradient_estimation_cfg_pp(way: Descent, *, ge_gamma: float = 2.0) -> None:
    """Gradient estimation of the slope without guidance, with CFG++ (Chung et al. 2024)."""
    _gradient_estimation(way, ge_gamma, cfg_pp=True)


@solver()
def ipndm(way: Descent, *, max_order: int = 4) -> None:
    """iPNDM (Zhang and Chen 2023, arXiv:2204.13902) on sigmas: Adams-Bashforth's weights for equal steps, whatever the
    steps are, so that the method is of second order."""
    slopes: list[Tensor] = []
    for x, denoised, sigma, to in way.estimates():
        slopes = [(x - denoised) / sigma, *slopes][:max_order]
        way.go(x + (to - sigma) * weighed(_ADAMS_BASHFORTH[len(slopes) - 1], slopes))


@solver()
def ipndm_v(way: Descent, *, max_order: int = 4, published: bool = False) -> None:
    """iPNDM with Adams-Bashforth's weights for the steps as they are: the polynomial through the slopes, integrated.

    `published`: the weights of its authors' code and ComfyUI's, which from order 3 on are others by a slip.
    """
    _adams_bashforth(way, max_order, _ipndm_v_as_published if published else _integrals)


@solver()
def lms(way: Descent, *, order: int = 4, denoise_last: bool = False) -> None:
    """Linear multistep, as in k-diffusion: Adams-Bashforth's method for the steps as they are, to the last one.

    `denoise_last`: the last step is the denoised estimate, as in ComfyUI.
    """
    _adams_bashforth(way, order, _integrals, denoise_last=denoise_last)


@solver()
def deis(way: Descent, *, max_order: int = 3) -> None:
    """tAB-DEIS (Zhang and Chen 2023, arXiv:2204.13902): the polynomial through the slopes is one in the time of a
    variance-preserving process whose noise grows linearly from sigma 0.002 to 80, and is integrated exactly."""
    _adams_bashforth(way, max_order, _integrals_in_time)


@solver()
def plms(way: Descent, *, max_order: int = 4, to_unit_variance: bool = False) -> None:
    """PNDM's linear multistep part (Liu et al. 2022, arXiv:2202.09778), as in CompVis's code, on sigmas: the first step
    is Heun's, and the last level above 0 is where it ends. Of order 1 it is DDIM.

    `to_unit_variance`: what it ends with is scaled as the latents of a variance-preserving process are.
    """
    slopes: list[Tensor] = []
    way.levels = [level for level in way.levels if level > 0]
    for x, sigma, to in way.steps():
        slopes = [way.slope(x, sigma), *slopes][:max_order]
        if len(slopes) == 1 < max_order:
            ahead = x + (to - sigma) * slopes[0]
            way.go(x + (to - sigma) / 2 * (slopes[0] + way.slope(ahead, to)))
        else:
            way.go(x + (to - sigma) * weighed(_ADAMS_BASHFORTH[len(slopes) - 1], slopes))
    if to_unit_variance:
        way.go(way.x / math.hypot(1, way.levels[-1]))


@solver()
def heunpp2(way: Descent) -> None:
    """Heun++ as ComfyUI has it: slopes at this level and the next two, weighed by their levels over the first level.

    No paper defines it. Towards the end of the schedule it has fewer slopes; its order is 1.
    """
    for i, (x, sigma, to) in enumerate(way.steps()):
        nodes = [level for level in way.levels[i + 1 : i + 3] if level > 0]
        slopes, at, ahead = [way.slope(x, sigma)], sigma, x
        for node in nodes:
            ahead, at = ahead + (node - at) * slopes[-1], node
            slopes.append(way.slope(ahead, at))
        weights = [node / (len(slopes) * way.levels[0]) for node in nodes]
        way.go(x + (to - sigma) * weighed([1 - sum(weights), *weights], slopes))


@solver(needs_unconditional=True)
def ddim_cfg_pp(way: Descent) -> None:
    """DDIM with CFG++ (Chung et al. 2024, algorithm 1), which ends as `plms` does, scaled to unit variance."""
    way.levels = [level for level in way.levels if level > 0]
    for x, denoised, sigma, to in way.estimates(cfg_pp=True):
        way.go(exponential_euler(x, denoised, sigma, to))
    way.go(way.x / math.hypot(1, way.levels[-1]))


def _adams_bashforth(
    way: Descent,
    order: int,
    weights: Callable[[tuple[float, ...], float], tuple[float, ...]],
    *,
    denoise_last: bool = True,
) -> None:
    """`weights`: of the slopes at the last levels, for the step from the first of these to another level."""
    slopes: list[Tensor] = []
    levels: list[float] = []
    for x, denoised, sigma, to in way.estimates(denoise_last=denoise_last):
        slopes, levels = [(x - denoised) / sigma, *slopes][:order], [sigma, *levels][:order]
        way.go(x + weighed(weights(tuple(levels), to), slopes))


def _gradient_estimation(way: Descent, gamma: float, cfg_pp: bool = False) -> None:
    last = None
    for x, denoised, sigma, to in way.estimates(cfg_pp=cfg_pp):
        slope = (x - denoised) / sigma
        way.go(x + (to - sigma) * (slope if last is None else gamma * slope + (1 - gamma) * last))
        last = slope


@functools.lru_cache(maxsize=4096)
def _integrals(levels: tuple[float, ...], to: float) -> tuple[float, ...]:
    """Integrals from levels[0] to `to` of the Lagrange polynomials on `levels`."""
    scale = abs(levels[0] - to)
    nodes = (np.array(levels) - levels[0]) / scale
    weights = []
    for i, node in enumerate(nodes):
        others = np.delete(nodes, i)
        basis = Polynomial.fromroots(others) / np.prod(node - others) if len(others) else Polynomial([1.0])
        weights.append(float(basis.integ()((to - levels[0]) / scale)) * scale)
    return tuple(weights)


@functools.lru_cache(maxsize=4096)
def _integrals_in_time(levels: tuple[float, ...], to: float) -> tuple[float, ...]:
    """Integrals over sigma from levels[0] to `to` of the Lagrange polynomials in time on the times of `levels`."""
    half = (to - levels[0]) / 2
    t = _time((levels[0] + to) / 2 + half * GAUSS_NODES)
    basis = lagrange(_time(np.array(levels)), t)
    return tuple(float(half * (GAUSS_WEIGHTS * values).sum()) for values in basis)


def _time(sigma: Any) -> Any:
    """When a variance-preserving process with these betas has this sigma / alpha: log(1 + sigma^2) is the integral of
    beta."""
    low, high, start = 0.002, 80.0, 1e-3  # sigma at the start and at time 1
    slope = 2 * (math.log1p(low**2) / start - math.log1p(high**2)) / (start - 1)
    first = math.log1p(high**2) - slope / 2
    return (np.sqrt(first**2 + 2 * slope * np.log1p(sigma**2)) - first) / slope


def _ipndm_v_as_published(levels: tuple[float, ...], to: float) -> tuple[float, ...]:
    """The weights of zju-pi/diff-sampler, with a product beyond its parenthesis and a ratio of the wrong steps."""
    h, *past = (later - earlier for later, earlier in pairwise((to, *levels)))
    a, b, c = (*past, math.inf, math.inf, math.inf)[:3]  # the steps before
    third = fourth = q = 0.0
    if len(levels) > 2:
        third = (1 - h / (3 * (h + a)) * (h * (h + a)) / (a * (a + b))) / 2
    if len(levels) > 3:
        bracket = (1 - h / (3 * (h + a))) / 2 + (1 - h / (2 * (h + a))) * h / (6 * (h + a + b))
        fourth = bracket * (h * (h + a) * (h + a + b)) / (a * (a + b) * (a + b + c))
        q = a * (a + b) / (b * (b + c))
    p = a / b if len(levels) > 2 else 0.0
    weights = (
        1 + h / (2 * a) + third + fourth,
        -h / (2 * a) - (1 + p) * third - (1 + p + q) * fourth,
        third * p + (p + q * (1 + b / c)) * fourth,
        -fourth * q * p,
    )
    return tuple(h * weight for weight in weights[: len(levels)])
