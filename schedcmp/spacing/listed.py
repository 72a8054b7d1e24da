"""How a list of noise levels on betas is brought into a scheduler: through its Karras option."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from schedcmp.spacing.levels import SCHEDULES, Levels, Schedule, array, given
from schedcmp.spacing.written import read_levels


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
    """The schedule called `name`, or the list that it is, for an unused scheduler's own noise levels.

    Raises ValueError.
    """
    values = read_levels(name)
    return ListedLevels(partial(given, values) if values else SCHEDULES[name], own_sigmas(scheduler))


def own_sigmas(scheduler: Any) -> Levels:
    """The noise levels that the model was trained on, ascending, of a scheduler for betas that has not been used."""
    config = scheduler.config
    if config.get("timestep_type") == "continuous" and config.get("sigma_max"):  # Stable Video Diffusion
        return array(np.geomspace(config["sigma_min"], config["sigma_max"], config["num_train_timesteps"]))
    alphas = array(scheduler.alphas_cumprod.double().cpu())
    return array(np.sqrt(1 / alphas - 1))
