"""Sigma schedules as lists of noise levels, for what no diffusers option gives.

Each function takes the number of steps n and `sigmas`, the checkpoint's own noise levels, ascending over its training
timesteps, and returns n descending, positive levels. The final 0 is the scheduler's business. A ValueError says why
there is no such list; `listed` brings one into a scheduler, through its Karras option.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from schedcmp.spacing.written import read_levels

Levels = NDArray[np.float64]
Schedule = Callable[[int, Levels], Levels]

# Sabour et al. 2024, "Align Your Steps", lists for 10 steps from the paper's page; the last value is where they end.
_ALIGNED = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    # with more digits, as in ComfyUI
    "sd15_comfyui": (
        14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092, 0.9642583904, 0.6523686016,
        0.3977456272, 0.1515232662, 0.0291671582,
    ),
    "sdxl_comfyui": (
        14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141, 0.5550693289, 0.3798540708,
        0.2332364134, 0.1114188177, 0.0291671582,
    ),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}  # fmt: skip
_TURBO_STEPS = 10  # SD-Turbo was distilled at timesteps 99, 199, ..., 999


def normal(n: int, sigmas: Levels) -> Levels:
    """Even timesteps from the last to the first, as k-diffusion's `get_sigmas`."""
    return _at(sigmas, np.linspace(len(sigmas) - 1, 0, n))


def sgm_uniform(n: int, sigmas: Levels) -> Levels:
    """Even timesteps of which the last, 0, is left out, as in Stability's generative-models."""
    return _at(sigmas, np.linspace(len(sigmas) - 1, 0, n + 1)[:-1])


def simple(n: int, sigmas: Levels) -> Levels:
    """Every (T/n)-th level counted from the top (ComfyUI)."""
    return array(sigmas[-1 - (np.arange(n) * len(sigmas) / n).astype(int)])


def ddim_uniform(n: int, sigmas: Levels) -> Levels:
    """Every (T//n)-th level counted from timestep 1, Song et al. 2021 as CompVis wrote it."""
    return sigmas[np.minimum(1 + np.arange(n)[::-1] * (len(sigmas) // n), len(sigmas) - 1)]


def polyexponential(n: int, sigmas: Levels, rho: float = 1.0) -> Levels:
    """A polynomial of degree `rho` in log sigma (k-diffusion)."""
    low, high = np.log(sigmas[[0, -1]])
    return array(np.exp(low + np.linspace(1, 0, n) ** rho * (high - low)))


def kl_optimal(n: int, sigmas: Levels) -> Levels:
    """Even steps in the angle arctan sigma: Sabour et al. 2024, the optimum for data of unit variance."""
    low, high = np.arctan(sigmas[[0, -1]])
    return array(np.tan(np.linspace(high, low, n)))


def linear_quadratic(n: int, sigmas: Levels, threshold: float = 0.025) -> Levels:
    """Linear for half of the steps, down by `threshold`; then a parabola to 0 that starts at the same slope (Mochi)."""
    half = n // 2
    step = np.arange(n)
    if not half:
        return sigmas[-1:]
    slope = threshold / half
    later = np.maximum(step - half, 0)
    curve = (1 - slope * n) / (n - half) ** 2
    return array(sigmas[-1] * (1 - slope * step - curve * later**2))


def beta_timesteps(n: int, sigmas: Levels, alpha: float = 0.6, beta: float = 0.6) -> Levels:
    """Quantiles of a beta distribution over timesteps: Lee et al. 2024, as in ComfyUI."""
    from scipy import stats

    quantiles = stats.beta.ppf(1 - np.arange(n) / n, alpha, beta)
    return array(sigmas[np.rint(quantiles * (len(sigmas) - 1)).astype(int)])


def bong_tangent(n: int, sigmas: Levels) -> Levels:
    """Two pieces of an arctangent, from the largest level to its half and on to 0, as RES4LYF has it.

    The curve bends at 0.6 of the way, the less sharply the more steps there are.
    """
    if n == 1:
        return sigmas[-1:]
    bend, slope = int(0.6 * (n + 2)), 8 / (n + 2)
    upper = _arctangent(np.arange(-bend, 0) * slope, 1.0, 0.5)
    lower = _arctangent(np.arange(n + 2 - bend) * slope, 0.5, 0.0)
    return array(sigmas[-1] * np.concatenate([upper[:-1], lower[:-1]]))


def _arctangent(x: NDArray[Any], start: float, end: float) -> Levels:
    """An arctangent over ascending x, scaled to fall from `start` to `end`."""
    curve = np.arctan(x)
    return array(end + (start - end) * (curve[-1] - curve) / np.ptp(curve))


def turbo(n: int, sigmas: Levels) -> Levels:
    """The first n of the ten timesteps that SD-Turbo was distilled at: Sauer et al. 2023, as in ComfyUI."""
    if n > _TURBO_STEPS:
        raise ValueError(f"SD-Turbo was distilled at {_TURBO_STEPS} timesteps; ask for {_TURBO_STEPS} steps or fewer")
    return sigmas[len(sigmas) * (_TURBO_STEPS - np.arange(n)) // _TURBO_STEPS - 1]


def lcm_grid(n: int, sigmas: Levels) -> Levels:
    """Even steps among the 50 timesteps that latent consistency models were distilled at, as in A1111."""
    grid = sigmas[len(sigmas) // 50 - 1 :: len(sigmas) // 50]
    return _at(grid, np.linspace(len(grid) - 1, 0, n))


def gits(n: int, sigmas: Levels) -> Levels:
    """The published list for n steps; beyond 20, log-linear in between (ComfyUI)."""
    if n == 1:
        return sigmas[-1:]
    lists = _gits()
    return _starting(lists[min(n, max(lists))], n, sigmas)


@cache
def _gits() -> dict[int, tuple[float, ...]]:
    text = files("schedcmp.spacing").joinpath("gits.yaml").read_text(encoding="utf-8")
    return {n: tuple(values) for n, values in yaml.safe_load(text).items()}


def given(values: tuple[float, ...], n: int, sigmas: Levels) -> Levels:
    """A list of the user's own, for as many steps as it has levels."""
    if n != len(values):
        raise ValueError(f"the list has {len(values)} noise levels, so it goes with steps: {len(values)}")
    if values[0] > sigmas[-1] * 1.01:
        raise ValueError(f"the list starts at {values[0]:g}, above the model's largest noise level, {sigmas[-1]:.4g}")
    return array(values)


def _starting(published: tuple[float, ...], n: int, sigmas: Levels) -> Levels:
    """n levels of a list for models whose noise levels start where it does: at other numbers of steps than its own
    log-linear in between, as its authors advise. Raises ValueError for other models."""
    if not math.isclose(published[0], sigmas[-1], rel_tol=0.01):
        raise ValueError(
            f"the list starts at sigma {published[0]:g}, and this checkpoint's noise levels at {sigmas[-1]:.4g}"
        )
    return interpolated(published, n)


def interpolated(published: tuple[float, ...], n: int) -> Levels:
    """n levels of a published list, log-linear in between; its last value, where it ends, is left out."""
    places = np.linspace(0, 1, len(published))
    return array(np.exp(np.interp(np.linspace(0, 1, n + 1), places, np.log(published))))[:-1]


def _at(sigmas: Levels, timesteps: Levels) -> Levels:
    """Noise levels at fractional timesteps, linear in log sigma, as k-diffusion's `t_to_sigma`."""
    return array(np.exp(np.interp(timesteps, np.arange(len(sigmas)), np.log(sigmas))))


def array(values: Any) -> Levels:
    return np.asarray(values, dtype=np.float64)


SCHEDULES: dict[str, Schedule] = {
    **{
        f.__name__: f
        for f in (
            normal, sgm_uniform, simple, ddim_uniform, polyexponential, kl_optimal, linear_quadratic, beta_timesteps,
            turbo, bong_tangent, gits, lcm_grid,
        )
    },
    "beta57": partial(beta_timesteps, alpha=0.5, beta=0.7),  # as RES4LYF has it
    **{f"ays_{name}": partial(_starting, published) for name, published in _ALIGNED.items()},
}  # fmt: skip


@dataclass(frozen=True)
class ListedLevels:
    """What stands in for a scheduler's `_convert_to_karras`: it answers with the levels of a schedule instead.

    The schedulers that have `use_karras_sigmas` all take their noise levels from that method, find the timesteps that
    belong to them and add their final level. Holds no reference to the scheduler, so that this can be copied.
    """

    schedule: Schedule
    sigmas: Levels

    def __call__(self, in_sigmas: Any, num_inference_steps: int | None = None) -> Levels:
        """n levels; some classes tell n only by the length of `in_sigmas`. Raises ValueError where there are none."""
        n = num_inference_steps or len(in_sigmas)
        levels = self.schedule(n, self.sigmas)
        if not (np.diff(levels) < 0).all():
            raise ValueError(f"{n} steps have equal noise levels among them; ask for fewer steps")
        return levels


def listed(name: str, scheduler: Any) -> ListedLevels:
    """The schedule called `name`, for an unused scheduler's own noise levels. Raises ValueError."""
    return ListedLevels(schedule_called(name), own_sigmas(scheduler))


def schedule_called(name: str) -> Schedule:
    """By its name here, or the list that the name is. Raises ValueError."""
    values = read_levels(name)
    return partial(given, values) if values else SCHEDULES[name]


def own_sigmas(scheduler: Any) -> Levels:
    """The noise levels that the model was trained on, ascending, of a scheduler for betas that has not been used."""
    config = scheduler.config
    if config.get("timestep_type") == "continuous" and config.get("sigma_max"):  # Stable Video Diffusion
        return array(np.geomspace(config["sigma_min"], config["sigma_max"], config["num_train_timesteps"]))
    alphas = array(scheduler.alphas_cumprod.double().cpu())
    return array(np.sqrt(1 / alphas - 1))
