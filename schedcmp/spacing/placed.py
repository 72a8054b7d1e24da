"""Schedulers whose noise levels on flow matching are handed to them, instead of being their class's own.

Some classes take no list of levels, some no shift by the image's size, some end above 0. They solve from level to level
all the same: here a list is put in place after `set_timesteps` of the class, and the step to 0 is the estimate of x0.
"""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.spacing.flow import FlowSpacing
from schedcmp.spacing.flow_levels import Levels, Trained, schedule_called

_PURE_NOISE = 1e-4
_FINER = 10  # with dynamic shifting, ComfyUI's table of levels has 10,000


class Placed:
    """Mixed into a scheduler class. Takes whatever pipelines hand to `set_timesteps`."""

    spacing: FlowSpacing | None = None
    takes_mu: ClassVar[bool] = True
    shift_factor: float = 1.0  # s of the unshifted level t is shift_factor t / (1 + (shift_factor - 1) t)

    config: Any
    sigmas: torch.Tensor
    timesteps: Any

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """Raises ValueError: there are no such levels."""
        given = {"sigmas": sigmas, "mu": mu, "timesteps": timesteps}
        given = {name: value for name, value in given.items() if value is not None}
        self.shift_factor = _factor(self.config, mu)
        parent: Any = super()
        if self.spacing is None:
            parent.set_timesteps(num_inference_steps, device=device, **given)
            return
        levels, visited = _levels(self.spacing, num_inference_steps, given, self.shift_factor)
        if self.config.get("use_flow_sigmas"):
            levels, visited = _below_one(levels, visited, self.shift_factor)
        by_size = mu is not None and self.takes_mu and self.config.get("use_dynamic_shifting")
        parent.set_timesteps(len(levels), device=device, **({"mu": mu} if by_size else {}))
        twice = len(self.timesteps) > len(levels)  # Heun's, which evaluates at both ends of a step
        self.timesteps = torch.from_numpy(_repeated(visited) if twice else visited).float().to(device)
        ends = torch.from_numpy(_repeated(levels) if twice else levels).float()
        self.sigmas = torch.cat([ends, torch.zeros(1)])


def highest_level(factor: float) -> float:
    """The level where solvers begin that step in log((1 - s) / s), which is infinite at 1: an unshifted 1 - 1e-4, with
    the shift, as in ComfyUI."""
    return 1 - _PURE_NOISE / (factor + (1 - factor) * _PURE_NOISE)


def placed(scheduler: Any, spacing: FlowSpacing) -> Any:
    """The scheduler, unused, as one that visits these levels."""
    scheduler.__class__ = _placed_class(scheduler.__class__)
    scheduler.spacing = spacing
    return scheduler


@functools.cache
def _placed_class(cls: Any) -> Any:
    if issubclass(cls, Placed):
        return cls
    like = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    takes_mu = "mu" in inspect.signature(cls.set_timesteps).parameters
    scale_noise = getattr(cls, "scale_noise", _scale_noise)
    own = {"takes_mu": takes_mu, "step": _mended(cls.step), "scale_noise": scale_noise}
    return type(cls.__name__, (Placed, cls), like | own)


def _scale_noise(self: Any, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> Any:
    """As FlowMatchEulerDiscreteScheduler's, for image-to-image: the latents at the level where a pipeline begins."""
    begins = self._begin_index if self._step_index is None else self._step_index
    index = self.index_for_timestep(timestep.flatten()[0]) if begins is None else begins
    sigma = self.sigmas[index].to(sample.dtype)
    return sigma * noise + (1 - sigma) * sample


def _mended(step: Any) -> Any:
    """A class's `step`, with the one to 0 as every solver has it that ends at 0: the estimate of x0.

    And with DEIS' first one, which is Euler's, written as such: as the class writes it, it is the difference of two
    numbers that are 1 / (1 - s) times as large.
    """

    @functools.wraps(step)  # pipelines inspect its signature
    def mended(self: Any, model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        if self._step_index is None:
            self._init_step_index(timestep)
        sigma, to = self.sigmas[self._step_index : self._step_index + 2]
        first = self._step_index == (self._begin_index or 0) and self.config.get("algorithm_type") == "deis"
        last = bool(to == 0) and self.config.get("use_flow_sigmas")
        if not last:
            result = step(self, model_output, timestep, sample, *args, **kwargs)
            if not first:
                return result
        else:
            self._step_index += 1
        wide = torch.promote_types(sample.dtype, torch.float32)
        ahead = (sample.to(wide) + (to - sigma) * model_output.to(wide)).to(model_output.dtype)
        return SchedulerOutput(ahead) if kwargs.get("return_dict", True) else (ahead,)

    return mended


def _factor(config: Any, mu: float | None) -> float:
    if mu is None or not config.get("use_dynamic_shifting"):
        return float(config.get("shift", config.get("flow_shift", 1.0)))
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def _levels(spacing: FlowSpacing, n: int | None, given: dict[str, Any], factor: float) -> tuple[Levels, Levels]:
    """n falling levels, and their timesteps. Raises ValueError."""
    own = FlowMatchEulerDiscreteScheduler(**spacing.options)
    trained = own.config.num_train_timesteps
    if not spacing.schedule:
        if n is not None and not given.keys() & {"sigmas", "timesteps"}:
            given = timestep_arguments(spacing.pipeline, own, n) | given
        own.set_timesteps(n, device="cpu", **given)
        return own.sigmas[:-1].double().numpy(), own.timesteps.double().numpy()
    if "timesteps" in given:
        raise ValueError(f"{spacing.pipeline} has timesteps of its own for its noise levels")
    dynamic = bool(own.config.use_dynamic_shifting)
    if dynamic and "mu" not in given:
        raise ValueError("the checkpoint's noise levels depend on the image's size, which its pipeline does not tell")
    count = n or len(given["sigmas"])
    table = Trained(factor, trained * (_FINER if dynamic else 1), _tokens(own.config, given.get("mu")))
    levels = schedule_called(spacing.schedule)(count, table)
    if not (np.diff(levels) < 0).all():
        raise ValueError(f"{count} steps have equal noise levels among them; ask for fewer steps")
    return levels, levels * trained


def _tokens(config: Any, mu: float | None) -> float | None:
    """How many latent tokens a pipeline had in mind that gives this mu, as Flux' does: linear in them."""
    if mu is None or config.max_shift == config.base_shift:
        return None
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_image_seq_len + (mu - config.base_shift) / slope)


def _below_one(levels: Levels, timesteps: Levels, factor: float) -> tuple[Levels, Levels]:
    """With a first level at which a solver can begin that steps in log((1 - s) / s)."""
    scale = min(1.0, highest_level(factor) / levels[0])
    first = np.array([scale, *np.ones(len(levels) - 1)])
    return levels * first, timesteps * first


def _repeated(values: Levels) -> Levels:
    return np.concatenate([values[:1], values[1:].repeat(2)])
