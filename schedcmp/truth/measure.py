"""Measure a scheduler against the exact solution, at growing numbers of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from scipy.special import ndtri

from schedcmp.errors import RegistryError
from schedcmp.registry.build import Recipe
from schedcmp.truth.drive import Oracle, Solve, drive
from schedcmp.truth.mixture import PURE_NOISE, Array, Mixture
from schedcmp.truth.noise import NoiseSchedule, fits

# Mean 0 and std 1, as latents are scaled to be: an error of 0.01 is 1 % of the data's spread. Skewed, so that a
# scheduler that never hears the denoiser cannot be right, and of two modes, so that the solution is not linear.
DATA = Mixture(weights=(0.3, 0.7), means=(-1.4, 0.6), stds=(0.4, 0.4))
STEPS = (5, 7, 10, 14, 20, 28, 40, 57, 80, 160, 320)
STOCHASTIC_STEPS = (5, 10, 20, 40, 80)
_quantiles = cache(DATA.quantiles)
_PROBE_STEPS = 40  # some draw noise only when there are enough (Restart: from 20)
SAMPLES = 1_024
STOCHASTIC_SAMPLES = 16_384


@dataclass(frozen=True, slots=True)
class Point:
    """One number of steps. Errors are root mean squares in units of the data's standard deviation."""

    steps: int
    nfe: int
    rms: float | None  # from the exact solution of the same start; None where noise was drawn
    w1: float  # Wasserstein-1 distance of the output's distribution from the data's
    inner: float  # `rms`, but from its own end: the next line's
    limit: float  # how far from the exact solution exact steps would end: at a final noise level that is not 0, or
    # after the last evaluation, whose noise level most schedulers leave for 0 in one step
    last_sigma: float  # that noise level, sigma / alpha
    output: Array = field(repr=False)  # (samples,), in the order of the noise

    @property
    def error(self) -> float:
        """`rms`, or `w1` where noise was drawn."""
        return self.w1 if self.rms is None else self.rms


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen of one entry."""

    name: str
    stochastic: bool
    points: tuple[Point, ...]
    final_sigma: float = math.nan
    failed: tuple[int, ...] = ()  # numbers of steps that did not run
    failure: str = ""  # why, of the first


def measure(
    recipe: Recipe,
    schedule: NoiseSchedule,
    steps: Sequence[int] = STEPS,
    stochastic_steps: Sequence[int] = STOCHASTIC_STEPS,
    stochastic_samples: int = STOCHASTIC_SAMPLES,
) -> Measurement:
    """Run an entry from stratified noise: quantiles of N(0, 1) instead of draws, so that RMS has no sampling error.

    Whether it is stochastic is seen, not looked up: two seeds give two results.
    """
    name, noise, oracle = recipe.entry.name, stratified(SAMPLES), Oracle(DATA, schedule)
    try:
        tried, stochastic = _tried(recipe, oracle, noise, steps)
    except RegistryError as error:
        return Measurement(name, False, (), failure=str(error))
    if stochastic:
        noise, steps, tried = stratified(stochastic_samples), stochastic_steps, {}
    points, final, failures = [], math.nan, {}
    for n in steps:
        try:
            run = tried.get(n) or drive(recipe, oracle, noise, n)
        except RegistryError as error:
            failures[n] = str(error)
            continue
        final = run.final.ratio
        points.append(_point(run, noise, n, foreign=not fits(recipe, schedule), stochastic=stochastic))
    return Measurement(name, stochastic, tuple(points), final, tuple(failures), next(iter(failures.values()), ""))


def _tried(recipe: Recipe, oracle: Oracle, noise: torch.Tensor, steps: Sequence[int]) -> tuple[dict[int, Solve], bool]:
    """A run, by its number of steps, and whether seeds matter. Raises RegistryError when it runs at none."""
    n = max((n for n in steps if n <= _PROBE_STEPS), default=min(steps))
    try:
        run, other = (drive(recipe, oracle, noise, n, seed) for seed in (0, 1))
    except RegistryError:
        n = min(steps)
        run, other = (drive(recipe, oracle, noise, n, seed) for seed in (0, 1))
    return {n: run}, not torch.equal(run.latents, other.latents)


def stratified(count: int) -> torch.Tensor:
    """Standard normal quantiles at (i + 1/2) / count, as latents (1, 4, count / 64, 16)."""
    return torch.from_numpy(ndtri((np.arange(count) + 0.5) / count)).view(1, 4, -1, 16)


def wasserstein(x: Array) -> float:
    """Wasserstein-1 from samples to DATA: in one dimension the mean distance of sorted samples from quantiles."""
    return float(np.mean(np.abs(np.sort(x) - _quantiles(x.size))))


@cache
def sampling_floor(count: int = STOCHASTIC_SAMPLES, draws: int = 32) -> tuple[float, float]:
    """Mean and std of the Wasserstein-1 distance that `count` exact samples have from DATA."""
    rng = np.random.default_rng(0)
    found = [wasserstein(DATA.sample(count, rng)) for _ in range(draws)]
    return float(np.mean(found)), float(np.std(found))


def _point(run: Solve, noise: torch.Tensor, steps: int, *, foreign: bool, stochastic: bool) -> Point:
    """A scheduler that mistakes the noise schedule starts from noise that means nothing; what was asked of it is
    the solution from pure noise."""
    output = run.latents.flatten().numpy()
    w1 = wasserstein(output)
    if stochastic:
        return Point(steps, run.nfe, None, w1, math.nan, math.nan, run.last.ratio, output)
    start, level = (noise, PURE_NOISE) if foreign else (run.start, run.level)
    x = start.flatten().numpy()
    before = torch.from_numpy(DATA.transport(x, level, run.last).x)
    exact = DATA.transport(x, level).x
    end = DATA.transport(x, level, run.final).x if run.final.sigma > 0 else DATA.denoise(before, run.last).numpy()
    pairs = (output, exact), (output, end), (end, exact)
    rms, inner, limit = (float(np.sqrt(np.mean((a - b) ** 2))) for a, b in pairs)
    return Point(steps, run.nfe, rms, w1, inner, limit, run.last.ratio, output)
