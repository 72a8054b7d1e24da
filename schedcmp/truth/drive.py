"""Run a scheduler as diffusers' pipelines do, on a denoiser that knows the data."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from schedcmp.errors import RegistryError
from schedcmp.guard.foreign import contained
from schedcmp.pipelines.beginning import begun
from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.registry.build import Recipe
from schedcmp.truth.mixture import PURE_NOISE, Level, Mixture
from schedcmp.truth.noise import Flow, NoiseSchedule

T = TypeVar("T")


@dataclass(slots=True)
class Oracle:
    """The optimal denoiser of a mixture, called as a pipeline calls its network. Counts its evaluations."""

    data: Mixture
    schedule: NoiseSchedule
    nfe: int = 0
    start: tuple[torch.Tensor, Level] | None = None  # its first input, and the noise level of that
    last: Level = PURE_NOISE  # of its latest input

    def __call__(self, x: torch.Tensor, t: float) -> torch.Tensor:
        """x: its input at timestep t, any shape; returns what a network trained on the data would."""
        level = self.schedule.level(t)
        if self.start is None:
            self.start = x, level
        self.nfe, self.last = self.nfe + 1, level
        return self.schedule.prediction(x, self.data.denoise(x, level), level)


@dataclass(frozen=True, slots=True)
class Solve:
    """One run of a scheduler."""

    latents: torch.Tensor  # float64
    nfe: int
    start: torch.Tensor  # the denoiser's first input, float64
    level: Level  # of `start`
    last: Level  # of the last evaluation
    final: Level  # of `latents`, by the scheduler's own account


def drive(
    recipe: Recipe,
    oracle: Oracle,
    noise: torch.Tensor,
    steps: int,
    seed: int = 0,
    image: tuple[torch.Tensor, float] | None = None,
) -> Solve:
    """A fresh scheduler from `noise` (float64, unit variance, any shape) to its last latents; with an image, as `loop`
    has it, from there.

    In float64 where the class can, else in float32 (UniPC solves in the coefficients' dtype).

    Raises:
        RegistryError: the scheduler fails in both, or ends in numbers that are not finite.
    """
    flow = isinstance(oracle.schedule, Flow)

    def run(noise: torch.Tensor) -> Solve:
        oracle.nfe, oracle.start = 0, None
        latents, scheduler = loop(recipe, oracle, noise, steps, seed, flow=flow, image=image)
        assert oracle.start is not None
        start, level = oracle.start
        return Solve(latents.double(), oracle.nfe, start.double(), level, oracle.last, _final(scheduler, flow=flow))

    return in_float64_if_possible(run, recipe, noise, steps)


def in_float64_if_possible(run: Callable[[torch.Tensor], T], recipe: Recipe, noise: torch.Tensor, steps: int) -> T:
    """`run` of the noise in float64, or else in float32. Raises RegistryError if it fails in both, or raises that."""
    try:
        with contained(recipe.patience(steps)):
            try:
                return run(noise)
            except RegistryError:
                raise
            except Exception:  # third-party code raises what it likes
                return run(noise.float())
    except RegistryError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RegistryError(f"{recipe.entry.name}: {recipe.cls.__name__} fails at {steps} steps: {reason}") from error


@torch.no_grad()
def loop(
    recipe: Recipe,
    denoiser: Callable[[torch.Tensor, float], torch.Tensor],
    noise: torch.Tensor,
    steps: int,
    seed: int = 0,
    *,
    flow: bool = False,
    image: tuple[torch.Tensor, float] | None = None,
) -> tuple[torch.Tensor, Any]:
    """A pipeline's loop, from unit noise to the last latents; and the scheduler that has done it.

    Args:
        denoiser: from its input and a timestep to its prediction.
        flow: the pipeline is one for flow matching, which scales neither the noise nor the denoiser's input.
        image: latents in the shape of the noise, and the strength with which the pipeline begins from them.

    Raises:
        RegistryError: the latents are not finite numbers.
    """
    scheduler = recipe.build(seed)
    scheduler.set_timesteps(steps, device="cpu", **timestep_arguments(recipe.pipeline, scheduler, steps))
    extra = _extra(scheduler, torch.Generator().manual_seed(seed))
    latents, timesteps = noise if flow else noise * scheduler.init_noise_sigma, scheduler.timesteps
    if image is not None:
        timesteps = begun(recipe.pipeline, scheduler, steps, image[1])
        data, first = image[0].to(noise.dtype), timesteps[:1]
        latents = scheduler.scale_noise(data, first, noise) if flow else scheduler.add_noise(data, noise, first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsde about rounding, scipy's quadrature in LMS at hundreds of steps
        for t in timesteps:
            x = latents if flow else scheduler.scale_model_input(latents, t)
            latents = scheduler.step(denoiser(x, float(t)), t, latents, **extra, return_dict=False)[0]
    if not latents.isfinite().all():
        raise RegistryError(f"{recipe.entry.name}: at {steps} steps its latents are not finite numbers")
    return latents, scheduler


def _extra(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What diffusers' pipelines pass to `step` where it takes it; eta is 0 unless a user asks for more."""
    takes = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in {"eta": 0.0, "generator": generator}.items() if name in takes}


def _final(scheduler: Any, *, flow: bool) -> Level:
    if len(getattr(scheduler, "sigmas", ())):
        sigma = float(scheduler.sigmas[-1])
    else:
        sigma = math.sqrt(1 / float(getattr(scheduler, "final_alpha_cumprod", 1.0)) - 1)
    if flow:
        return Level(1 - sigma, sigma)
    alpha = 1 / math.hypot(1, sigma) if float(scheduler.init_noise_sigma) == 1 else 1.0  # variance preserving or not
    return Level(alpha, alpha * sigma)
