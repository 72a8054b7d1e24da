"""Sampler functions as diffusers schedulers, so that a pipeline's own unmodified `__call__` runs them."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from schedcmp.errors import RegistryError
from schedcmp.samplers.contract import SamplerFunction, Trial, read
from schedcmp.samplers.coordinates import OWN, Coordinates, VarianceExploding
from schedcmp.samplers.scheduler import SamplerScheduler
from schedcmp.spacing.placed import Placed, highest_level

_PREDICTIONS = ("epsilon", "v_prediction", "sample")

# How other programs run the same functions: what each option may be, its default first. On flow matching the first two
# change nothing: latents begin as noise, and timesteps are not counted.
# init_noise: the latents' standard deviation at the start, as diffusers' Euler has it, sigma, or sqrt(1 + sigma^2)
# timestep_grid: the model hears the nearest of every so many timesteps, counted from the top; 1: a whole one, 0: any
# extra_level: of one more level than steps the last above 0 is thrown away, or the sampler ends there and not at 0
_CUSTOMS: dict[str, tuple[Any, ...]] = {
    "init_noise": ("", "sigma", "variance"),
    "timestep_grid": (0, 1, 20),
    "extra_level": ("", "discard", "end"),
}


class SigmaSampler(SamplerScheduler, EulerDiscreteScheduler):  # type: ignore[misc]
    """A sampler function for checkpoints with a noise schedule of betas."""

    @property
    def init_noise_sigma(self) -> Any:
        """As Euler's, of the schedule and not of the levels that the function visits, unless `init_noise` says it."""
        highest = self.schedule.max() if hasattr(self, "schedule") else self.sigmas.max()
        plain = self.config.init_noise == "sigma" or (
            not self.config.init_noise and self.config.timestep_spacing in ("linspace", "trailing")
        )
        return highest if plain else (highest**2 + 1) ** 0.5

    @functools.wraps(EulerDiscreteScheduler.set_timesteps)  # pipelines read its signature
    def set_timesteps(self, num_inference_steps: int | None = None, *args: Any, **kwargs: Any) -> None:
        if not self.config.extra_level or num_inference_steps is None:
            super().set_timesteps(num_inference_steps, *args, **kwargs)
        else:
            super().set_timesteps(num_inference_steps + 1, *args, **kwargs)
            _drop_extra_level(self)
        self._log_sigmas = np.log(np.array(((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5))
        self._plan()

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor) -> Tensor:
        """The denoiser's input at the function's x. `sample`: (kB, ...), k copies of the latents (guidance)."""
        run = self._run or self._begin(sample[: len(sample) // _copies(sample)], timestep)
        assert run.x is not None
        if self._step_index == self._begin_index:  # the function may have moved before its first evaluation
            copies = len(sample) // len(run.x)
            sample = run.x.repeat(copies, *[1] * (sample.ndim - 1)).to(sample.dtype)
        return sample / (torch.tensor(run.sigma) ** 2 + 1) ** 0.5

    def _denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        if self.config.prediction_type == "epsilon":
            return x - sigma * output
        if self.config.prediction_type == "v_prediction":
            return output * (-sigma / (sigma**2 + 1) ** 0.5) + x / (sigma**2 + 1)
        return output

    def _ideal(self, x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma**2)

    def _timestep(self, sigma: float) -> float:
        if self.config.timestep_type == "continuous" and self.config.prediction_type == "v_prediction":
            return float(self._known.get(sigma, 0.25 * math.log(sigma)))
        timestep = self._known[sigma] if sigma in self._known else self._sigma_to_t(np.float64(sigma), self._log_sigmas)
        grid = self.config.timestep_grid
        return float(round((timestep + 1) / grid) * grid - 1 if grid else timestep)


class FlowSampler(SamplerScheduler, Placed, FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """A sampler function for flow matching: x = (1 - s) x0 + s noise, so that dx/ds = (x - denoised) / s as with betas.

    What a function does beyond solving that equation is right in these coordinates only if it is written for them; a
    function says which it wants by its attribute `coordinates`. Without one, what draws noise has x0 + sigma noise.
    """

    @functools.wraps(FlowMatchEulerDiscreteScheduler.set_timesteps)
    def set_timesteps(  # type: ignore[override]
        self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, **more: Any
    ) -> None:
        if not self.config.extra_level:
            super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, **more)
        elif self.spacing is None or not self.spacing.schedule:
            raise ValueError("it takes one noise level more than steps, and so wants a sigma schedule")
        else:
            steps = len(sigmas) if num_inference_steps is None else num_inference_steps
            super().set_timesteps(steps + 1, device=device, **more)
            _drop_extra_level(self)
        self._plan()

    def _coordinates(self, schedule: Tensor) -> Coordinates:
        exploding = VarianceExploding(highest=highest_level(self.shift_factor))
        wanted = getattr(self.contract.function, "coordinates", "exploding" if self.needs_unconditional else None)
        if wanted is None:
            may_draw = "noise_sampler" in self.contract.takes and self._options.get("eta") != 0
            wanted = "exploding" if may_draw or self._tried(schedule, OWN).drew_noise else "own"
        return exploding if wanted == "exploding" else OWN

    def _tried(self, schedule: Tensor, coordinates: Coordinates | None = None) -> Trial:
        trial = super()._tried(schedule, coordinates)
        if not trial.began_at_start:
            raise ValueError("its first evaluation is not at the latents, which pipelines for flow matching need")
        return trial

    def _denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        return x - sigma * output

    def _ideal(self, x: Tensor, sigma: float) -> Tensor:
        return x * (1 - sigma) / ((1 - sigma) ** 2 + sigma**2)

    def _timestep(self, sigma: float) -> float:
        return float(self._known.get(sigma, sigma * self.config.num_train_timesteps))


@functools.cache
def scheduler_class(function: SamplerFunction, flow: bool = False) -> type:
    """A diffusers scheduler class that runs a sampler function.

    Its constructor takes what diffusers' Euler scheduler takes (that for flow matching, if `flow`) and the function's
    options.

    Raises:
        RegistryError: the function needs what nobody can give, or an option has the name of one of the base class.
    """
    contract, base = read(function), FlowSampler if flow else SigmaSampler
    parameters = dict(inspect.signature(base).parameters)
    both = sorted(parameters.keys() & contract.options.keys())
    if both:
        raise RegistryError(f"{function.__module__}.{function.__qualname__}: its options {both} are the schedule's own")
    options = {**contract.options, **{name: values[0] for name, values in _CUSTOMS.items()}}
    own = {k: inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in options.items()}

    def __init__(self: Any, **options: Any) -> None:  # noqa: N807
        base.__init__(self, **{k: v for k, v in options.items() if k in parameters})
        _check_config(self.config)

    head = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    __init__.__signature__ = inspect.Signature([head, *parameters.values(), *own.values()])  # type: ignore[attr-defined]
    attributes = {
        "__init__": register_to_config(__init__),
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": f"{function.__module__}.{function.__qualname__}",
        "contract": contract,
        "needs_unconditional": getattr(function, "needs_unconditional", False),
        "_compatibles": [],
        "_trials": {},
    }
    return type(function.__name__, (base,), attributes)


def _check_config(config: Any) -> None:
    if config.get("prediction_type", "epsilon") not in _PREDICTIONS:
        raise ValueError(f"prediction_type must be one of {', '.join(_PREDICTIONS)}, not {config.prediction_type}")
    for name, values in _CUSTOMS.items():
        if config.get(name, values[0]) not in values:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, values))}, not {config[name]!r}")
    for name in ("invert_sigmas", "stochastic_sampling"):
        if config.get(name):
            raise ValueError(f"a sampler function cannot do {name}")


def _drop_extra_level(scheduler: Any) -> None:
    sigmas = scheduler.sigmas
    ends = sigmas[-1:] if scheduler.config.extra_level == "discard" else sigmas[-2:-1]
    scheduler.sigmas, scheduler.timesteps = torch.cat([sigmas[:-2], ends]), scheduler.timesteps[:-1]
    scheduler.num_inference_steps = len(sigmas) - 2


def _copies(sample: Tensor) -> int:
    """How often the latents are repeated for guidance."""
    rows = len(sample)
    sizes = [size for size in range(1, rows + 1) if rows % size == 0]
    return next(rows // n for n in sizes if torch.equal(sample, sample[:n].repeat(rows // n, *[1] * (sample.ndim - 1))))
