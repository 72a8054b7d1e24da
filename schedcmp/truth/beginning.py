"""Whether a scheduler that begins in the middle of its steps, as image-to-image does, still goes where it should.

From data with noise it is run to the end, the denoiser known in closed form, and compared with the exact solution from
there; so is its whole run. Where it makes the same error, it has begun as it should. Diffusers' LMS does not: it takes
coefficients for a history that it has not; nor does PNDM: it evaluates a timestep twice that is not there twice, and so
loses a noise level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from schedcmp.errors import RegistryError
from schedcmp.registry.build import Recipe
from schedcmp.truth.drive import Oracle, drive
from schedcmp.truth.measure import DATA, SAMPLES, stratified, wasserstein
from schedcmp.truth.noise import noise_schedule

_STEPS, _STRENGTH = 40, 0.5  # where orders of convergence show
_MORE, _ROUNDING = 1.5, 1e-4  # times the error of the whole run; PNDM makes 2, LMS 13, the others 1.05 at most
_STOCHASTIC = 0.1  # more Wasserstein-1 distance than the whole run's; samples alone make 0.03


def wrong_in_the_middle(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> str:
    """Why images that are begun in the middle would be wrong; empty if they are right, or nobody can say.

    Raises:
        RegistryError: it cannot begin there at all.
    """
    try:
        oracle = Oracle(DATA, noise_schedule(scheduler_config))
    except RegistryError:  # a noise schedule that is not known
        return ""
    whole, tail = (_errors(recipe, oracle, strength) for strength in (1.0, _STRENGTH))
    stochastic = whole[0] > _STOCHASTIC + whole[1]  # far from the solution, near the data
    more = tail[1] > whole[1] + _STOCHASTIC if stochastic else tail[0] > _MORE * whole[0] + _ROUNDING
    if not more:
        return ""
    return (
        f"begun in the middle of its steps, as with a strength below 1, {recipe.cls.__name__} makes"
        f" {tail[stochastic] / max(whole[stochastic], _ROUNDING):.1f} times the error of its whole run"
    )


def _errors(recipe: Recipe, oracle: Oracle, strength: float) -> tuple[float, float]:
    """From the exact solution (RMS), and of the distribution from the data's (Wasserstein-1)."""
    mixed = np.random.default_rng(0).permutation(DATA.quantiles(SAMPLES))
    noise = stratified(SAMPLES)
    run = drive(recipe, oracle, noise, _STEPS, image=(torch.from_numpy(mixed).view(noise.shape), strength))
    end, start = (x.flatten().numpy() for x in (run.latents, run.start))
    return float(np.sqrt(np.mean((end - DATA.transport(start, run.level).x) ** 2))), wasserstein(end)
