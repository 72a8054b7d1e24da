"""What a scheduler will do for N steps, seen on the CPU before any model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedcmp.errors import RegistryError
from schedcmp.registry.build import Recipe


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The noise levels that a scheduler visits."""

    timesteps: tuple[float, ...]  # one per denoiser evaluation, in order
    sigmas: tuple[float, ...]  # as the scheduler has them, the final one included; empty if it has none

    @property
    def nfe(self) -> int:
        """Denoiser evaluations per image: diffusers' pipelines evaluate once per timestep."""
        return len(self.timesteps)


def preflight(recipe: Recipe, steps: int) -> Trajectory:
    """Ask a fresh scheduler for its timesteps.

    Raises:
        RegistryError: it refuses this many steps, or its timesteps or sigmas are not finite.
    """
    name = recipe.entry.name
    trained = recipe.config.get("num_train_timesteps", 1000)
    if not isinstance(trained, int):
        raise RegistryError(f"{name}: num_train_timesteps must be a whole number, got {trained!r}")
    if steps > trained:
        raise RegistryError(f"{name}: {steps} steps are more than the noise schedule's {trained}")
    scheduler = recipe.build()
    try:
        scheduler.set_timesteps(steps, device="cpu")
    except Exception as error:  # third-party code raises what it likes
        raise RegistryError(f"{name}: {recipe.cls.__name__} cannot do {steps} steps: {error}") from error
    timesteps = tuple(float(t) for t in scheduler.timesteps)
    sigmas = tuple(float(s) for s in getattr(scheduler, "sigmas", ()))
    if not timesteps or not all(map(math.isfinite, timesteps + sigmas)):
        raise RegistryError(f"{name}: at {steps} steps its timesteps or sigmas are not finite numbers")
    return Trajectory(timesteps, sigmas)
