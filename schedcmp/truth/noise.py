"""The noise schedule that a checkpoint was trained with: from a timestep to a noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from schedcmp.errors import RegistryError, raised_as
from schedcmp.registry.build import Recipe, constructor_defaults, load_class
from schedcmp.registry.build.kinds import kind_of, noise_kind
from schedcmp.spacing.flow import is_flow
from schedcmp.truth.mixture import Array, Level

_TINY = 2.0**-24  # diffusers' alphas_cumprod in place of 0, where a noise level has to be finite


@dataclass(frozen=True, slots=True)
class Betas:
    """Variance preserving: alpha² + sigma² = 1, tabulated at whole timesteps.

    As all of them, it tells the noise level of the denoiser's input at a timestep, and what the denoiser returns for
    its input x (any shape) when it takes the data to be x0.
    """

    alphas_cumprod: Array  # (T,)
    prediction_type: str
    kind: str = "betas"

    def level(self, t: float) -> Level:
        """Between timesteps linear in log(sigma / alpha), as k-diffusion reads fractional ones."""
        last = len(self.alphas_cumprod) - 1
        t = min(max(float(t), 0.0), float(last))
        if t.is_integer():
            square = float(self.alphas_cumprod[int(t)])
        else:
            pair = np.clip(self.alphas_cumprod[[math.floor(t), math.ceil(t)]], _TINY, None)
            logs = np.log((1 - pair) / pair)
            square = 1 / (1 + math.exp(logs[0] + (t % 1) * (logs[1] - logs[0])))
        return Level(math.sqrt(square), math.sqrt(1 - square))

    def prediction(self, x: torch.Tensor, x0: torch.Tensor, level: Level) -> torch.Tensor:
        return _predicted(x, x0, level, self.prediction_type)


@dataclass(frozen=True, slots=True)
class Flow:
    """Flow matching: x = (1 - sigma) x0 + sigma n, t = sigma T (Lipman et al. 2023; Esser et al. 2024)."""

    trained: int
    kind: str = "flow"

    def level(self, t: float) -> Level:
        return Level(1 - t / self.trained, t / self.trained)

    def prediction(self, x: torch.Tensor, x0: torch.Tensor, level: Level) -> torch.Tensor:
        return (x - x0) / level.sigma if level.sigma else -x0  # E[n | x] - x0; without noise n is anybody's guess


@dataclass(frozen=True, slots=True)
class Edm:
    """Karras et al. 2022, table 1: c_noise = log(sigma) / 4, preconditioned for data of std `sigma_data`."""

    sigma_data: float
    prediction_type: str
    kind: str = "edm"

    def level(self, t: float) -> Level:
        sigma = math.exp(4 * t)
        c_in = 1 / math.hypot(sigma, self.sigma_data)
        return Level(c_in, c_in * sigma)

    def prediction(self, x: torch.Tensor, x0: torch.Tensor, level: Level) -> torch.Tensor:
        c_out = level.sigma * self.sigma_data  # c_in sigma sigma_data
        sign = -1 if self.prediction_type == "v_prediction" else 1
        return sign * (x0 - level.alpha * self.sigma_data**2 * x) / c_out


NoiseSchedule = Betas | Flow | Edm  # what a denoiser was trained with; its `kind` is that of `kinds.noise_kind`


def noise_schedule(scheduler_config: Mapping[str, Any]) -> NoiseSchedule:
    """The noise schedule of a checkpoint's scheduler config (as in its scheduler_config.json).

    Raises:
        RegistryError: its class defines none that is known here, or refuses its config.
    """
    cls = load_class(str(scheduler_config.get("_class_name") or "DDPMScheduler"))
    takes = constructor_defaults(cls)
    config = {name: scheduler_config.get(name, default) for name, default in takes.items()}
    kind, prediction_type = noise_kind(cls), str(scheduler_config.get("prediction_type", "epsilon"))
    if is_flow(scheduler_config):
        return Flow(config["num_train_timesteps"])
    if kind == "edm":
        return Edm(config["sigma_data"], prediction_type)
    if config.get("timestep_type") == "continuous":  # preconditioned as EDM's for data of std 1 is v-prediction
        return Edm(1.0, prediction_type, kind)
    if kind != "betas":
        raise RegistryError(f"{cls.__name__} defines no noise schedule that the oracle knows")
    told = f"the checkpoint's {cls.__name__} refuses its own config"
    with raised_as(RegistryError, told, Exception):  # third-party constructors raise what they like
        table = np.asarray(cls(**config).alphas_cumprod, dtype=np.float64)
    return Betas(table, prediction_type)


def fits(recipe: Recipe, schedule: NoiseSchedule) -> bool:
    """Whether a resolved scheduler takes the noise schedule for the kind that it is."""
    return schedule.kind == kind_of(recipe)


def _predicted(x: torch.Tensor, x0: torch.Tensor, level: Level, prediction_type: str) -> torch.Tensor:
    alpha, sigma = level
    if prediction_type == "sample":
        return x0
    noise = (x - alpha * x0) / sigma
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha * noise - sigma * x0
    raise RegistryError(f"the oracle knows no prediction_type {prediction_type!r}; use epsilon, v_prediction or sample")
