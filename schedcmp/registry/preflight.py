"""What a scheduler will do for N steps, seen on the CPU before any model is loaded."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from schedcmp.errors import RegistryError, raised_as
from schedcmp.guard.foreign import RunawayError, contained
from schedcmp.pipelines.beginning import begun
from schedcmp.pipelines.scheduling import leaves_out_last, misused, timestep_arguments, unvisited
from schedcmp.registry.build import MOST_NOISE, Recipe
from schedcmp.registry.build.kinds import kind_of

_NOT_ASKED = ("class default", "registry", "checkpoint")  # of this class at this number of steps
_PURE_NOISE = 0.99  # of flow matching, where that is 1; lists that were fitted begin at 0.9968
_MANY_STEPS, _STARTS_LATE = 10, 0.8  # with fewer steps leading spacing starts late by its nature
_STEPS_BY_RATIO = ("DDIMScheduler", "DDIMParallelScheduler", "PNDMScheduler")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The noise levels that a scheduler visits."""

    timesteps: tuple[float, ...]  # one per denoiser evaluation, in order
    sigmas: tuple[float, ...]  # as the scheduler has them, the final one included; empty if it has none
    remarks: tuple[str, ...] = ()  # what makes images doubtful
    config: Mapping[str, Any] = field(default_factory=dict)  # as it will run, see `registry.build.Recipe.as_run`

    @property
    def nfe(self) -> int:
        """Denoiser evaluations per image: diffusers' pipelines evaluate once per timestep."""
        return len(self.timesteps)

    @property
    def final_sigma(self) -> float | None:
        """The noise level that the image is left at; None where the scheduler keeps no sigmas."""
        return self.sigmas[-1] if self.sigmas else None


def preflight(recipe: Recipe, steps: int, strength: float | None = None) -> Trajectory:
    """Ask a fresh scheduler for its timesteps.

    Args:
        strength: how much of an image is noised away, so that only the last of the steps run; None: all run.

    Raises:
        RegistryError: it refuses this many steps, or what it answers cannot give an image: timesteps or sigmas that are
            not finite or rise, or a first timestep that is there twice; or its code ends the process, or does not end.
    """
    with (
        raised_as(RegistryError, f"{recipe.entry.name}: {recipe.cls.__name__} at {steps} steps", RunawayError),
        contained(recipe.patience(steps)),
        recipe.alike(),
        warnings.catch_warnings(action="ignore"),  # Python warnings of libraries speak to their own callers
    ):
        return _preflight(recipe, steps, strength)


def _preflight(recipe: Recipe, steps: int, strength: float | None) -> Trajectory:
    name = recipe.entry.name
    trained = recipe.config.get("num_train_timesteps", 1000)
    if not isinstance(trained, int):
        raise RegistryError(f"{name}: num_train_timesteps must be a whole number, got {trained!r}")
    scheduler = recipe.build()
    more = timestep_arguments(recipe.pipeline, scheduler, steps)
    if steps > trained and "sigmas" not in more:  # else it looks nothing up
        raise RegistryError(f"{name}: {steps} steps are more than the noise schedule's {trained}")
    refused = more.keys() - inspect.signature(scheduler.set_timesteps).parameters
    if refused:
        told = f"{recipe.pipeline} hands to it" if recipe.pipeline else "its pipeline sets"
        raise RegistryError(f"{name}: {recipe.cls.__name__} does not take {min(refused)}, which {told}")
    if wanting := misused(recipe.pipeline, scheduler):
        raise RegistryError(f"{name}: {recipe.cls.__name__} does not go with this checkpoint: {wanting}")
    try:
        scheduler.set_timesteps(steps, device="cpu", **more)
    except Exception as error:  # third-party code raises what it likes
        asserted = f"it does not expect {', '.join(more)}, which its pipeline sets" if more else type(error).__name__
        reason = str(error) or asserted
        raise RegistryError(f"{name}: {recipe.cls.__name__} cannot do {steps} steps: {reason}") from error
    timesteps = tuple(float(t) for t in scheduler.timesteps)
    # A sampler function's levels are those it was given; it may evaluate elsewhere
    sigmas = tuple(float(s) for s in getattr(scheduler, "schedule", getattr(scheduler, "sigmas", ())))
    beyond = unvisited(recipe.pipeline, scheduler, steps)
    if wrong := beyond or next(_certainly_wrong(scheduler, timesteps, sigmas, steps), ""):
        raise RegistryError(f"{name}: at {steps} steps {wrong}")
    levels = () if _rises(scheduler) else sigmas
    remarks = list(_remarks(recipe, timesteps, levels, steps))
    if left := len(timesteps) - len(_begun(recipe, scheduler, steps, strength)):
        start = float(scheduler.sigmas[left]) if hasattr(scheduler, "schedule") else 0.0
        sigmas = tuple(s for s in sigmas if s <= start) if start else sigmas[left:]
        timesteps, remarks = timesteps[left:], []
    config = recipe.as_run(getattr(scheduler, "config", {}))
    config.pop(recipe.entry.seed or "", None)  # each cell has its own
    if not hasattr(scheduler, "schedule") and not _steps_from(
        scheduler, timesteps[0]
    ):  # a sampler function looks nothing up
        raise RegistryError(
            f"{name}: at {steps} steps its first timestep is {timesteps[0]:g}, and the noise schedule ends at"
            f" {trained - 1}; take fewer steps, or another spacing, as in {recipe.entry.base}-trailing"
        )
    if leaves_out_last(recipe.pipeline, scheduler):
        timesteps = timesteps[:-1]
    return Trajectory(timesteps, sigmas, (*remarks, *_changed(recipe, config)), config)


def _begun(recipe: Recipe, scheduler: Any, steps: int, strength: float | None) -> Any:
    """The timesteps that run. Raises RegistryError if there are none."""
    timesteps = begun(recipe.pipeline, scheduler, steps, strength)
    if not len(timesteps):
        raise RegistryError(
            f"{recipe.entry.name}: of {steps} steps none is left at strength {strength:g}; take more steps, or a"
            " higher strength"
        )
    return timesteps


def _steps_from(scheduler: Any, timestep: float) -> bool:
    """Whether the scheduler has the noise level of its first timestep (diffusers issue 10003). Uses it up."""
    import torch

    first = next(t for t in scheduler.timesteps if float(t) == timestep)
    nothing = torch.zeros(1, 4, 2, 2)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # some draw noise
            scheduler.step(nothing, first, scheduler.scale_model_input(nothing, first))
    except IndexError:
        return False
    except Exception:  # of a pipeline's own latents it might take
        return True
    return True


def _rises(scheduler: Any) -> bool:
    """Whether it is for models that say 0 for noise and 1 for the image (`invert_sigmas`)."""
    return bool(getattr(getattr(scheduler, "config", None), "invert_sigmas", False))


def _certainly_wrong(
    scheduler: Any, timesteps: tuple[float, ...], sigmas: tuple[float, ...], steps: int
) -> Iterator[str]:
    if not timesteps or not all(map(math.isfinite, timesteps + sigmas)):
        yield "its timesteps or sigmas are not finite numbers"
    if _rises(scheduler):
        return
    if sigmas and sigmas[-1] > MOST_NOISE:
        yield f"it ends at sigma {sigmas[-1]:.2g} instead of 0: images would keep that much noise"
    if hasattr(scheduler, "schedule"):  # a sampler function, which may go up again and looks nothing up
        return
    if any(later > earlier for earlier, later in pairwise(sigmas)):
        yield "its noise levels rise on the way"
    if len(timesteps) == steps and timesteps[0] in timesteps[1:]:
        # schedulers look their place up by timestep and take the second of two (diffusers issue 12771)
        yield f"its first timestep, {timesteps[0]:g}, is there twice, so that a noise level would be skipped"
    if len(timesteps) == steps and any(later == earlier for earlier, later in pairwise(sigmas[:-1])):
        yield "two of its noise levels are equal, a step of no length"


def _changed(recipe: Recipe, config: Mapping[str, Any]) -> Iterator[str]:
    """What was asked for and will not run: some classes change options without a word, others log it."""
    for name, option in recipe.options.items():
        ran = config.get(name, option.value)
        if repr(ran) != repr(option.value) and option.source not in _NOT_ASKED:
            yield f"{recipe.cls.__name__} turns {name} from {option.value!r} into {ran!r} by itself"


def _remarks(recipe: Recipe, timesteps: tuple[float, ...], sigmas: tuple[float, ...], steps: int) -> Iterator[str]:
    if len(timesteps) < steps:
        yield f"visits {len(timesteps)} timesteps instead of {steps}"
    if len(timesteps) == steps and len(set(timesteps)) < steps:
        yield "duplicate timesteps: several noise levels are taken for the same one"
    if steps < recipe.entry.steady:  # Lu et al. 2022, DPM-Solver++, section 3
        yield f"may leave the solution with guidance, which makes it stiff; {recipe.entry.steady} steps are steadier"
    if sigmas and sigmas[-1] > 0:
        yield f"ends at sigma {sigmas[-1]:.2g}: residual noise"
    last = recipe.config.get("num_train_timesteps", 1000) - 1
    if recipe.config.get("rescale_betas_zero_snr") and timesteps[0] < last:
        # Lin et al. 2024, section 3.3
        yield f"starts at timestep {timesteps[0]:g}; with zero terminal SNR it must be {last} (trailing spacing)"
    if kind_of(recipe) == "flow" and sigmas and sigmas[0] < _PURE_NOISE:
        yield f"starts at sigma {sigmas[0]:.2g}, which takes noise for a partly finished image"
    spacing = recipe.config.get("timestep_spacing")
    if steps == 1 and spacing == "leading" and timesteps[0] < last / 2:
        yield f"starts at timestep {timesteps[0]:g} (leading spacing), which takes noise for an almost finished image"
    if steps > _MANY_STEPS and spacing == "leading" and timesteps[0] < _STARTS_LATE * last:
        yield f"starts at timestep {timesteps[0]:g} of {last} (leading spacing), where images are not pure noise"
    if recipe.cls.__name__ in _STEPS_BY_RATIO and spacing not in (None, "leading"):
        # diffusers issue 11347
        yield f"steps from t to t - T//N, which is not its next timestep with {spacing} spacing"
