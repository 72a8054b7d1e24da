"""Which entries work with a checkpoint, which do not, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schedcmp.errors import RegistryError
from schedcmp.registry.build import MissingExtraError, Recipe, constructor_defaults, load_class, resolve
from schedcmp.registry.entry import Entry
from schedcmp.registry.flow import is_flow, misfit
from schedcmp.registry.naming import read_levels
from schedcmp.registry.preflight import preflight

CompatStatus = Literal["ok", "needs", "wrong", "unsupported"]

# A class tells its noise schedule by the arguments that define it.
_NOISE_ARGUMENTS = {"beta_start": "betas", "sigma_data": "edm", "shift": "flow"}
_NOISE_NAMES = {
    "betas": "a noise schedule of betas",
    "edm": "EDM's noise levels and preconditioning",
    "flow": "flow matching",
    "own": "a noise schedule of its own",
}
_DISTILLED = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}
_PROBE_STEPS = 10


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What the registry knows of one entry with one checkpoint, beside what diffusers says."""

    entry: Entry
    status: CompatStatus
    reason: str
    listed: bool  # by `compatibles` of the checkpoint's own scheduler class


def compatibility(entries: Iterable[Entry], scheduler_config: Mapping[str, Any]) -> Iterator[Compatibility]:
    """Judge entries against a checkpoint's scheduler config, in order."""
    listed = listed_classes(scheduler_config)
    for entry in entries:
        status, reason = judge(entry, scheduler_config)
        yield Compatibility(entry, status, reason, entry.class_name in listed)


def judge(
    entry: Entry,
    scheduler_config: Mapping[str, Any],
    resolved: Callable[[Entry, Mapping[str, Any]], Recipe] = resolve,
) -> tuple[CompatStatus, str]:
    """Status and reason of one entry. A scheduler that runs but solves another problem is `wrong`.

    `resolved` resolves it, or knows it already: building some schedulers takes 50 ms, once for each recipe.
    """
    try:
        recipe = resolved(entry, scheduler_config)
    except MissingExtraError as error:
        return "needs", str(error)
    except RegistryError as error:
        return "unsupported", str(error)
    status, reason = _suits(recipe, scheduler_config)
    try:
        preflight(recipe, len(read_levels(recipe.entry.sigmas.levels)) or _PROBE_STEPS)
    except RegistryError as error:
        return "unsupported", reason if status == "wrong" else str(error)
    return status, reason


def listed_classes(scheduler_config: Mapping[str, Any]) -> set[str]:
    """Class names in diffusers' `compatibles` of the checkpoint's own scheduler class, itself included."""
    name = str(scheduler_config.get("_class_name", ""))
    cls = load_class(name) if name else object
    return {name, *getattr(cls, "_compatibles", ())} - {""}


def noise_kind(cls: type) -> str:
    """`betas`, `edm`, `flow`, or `own` when the class takes no noise schedule."""
    takes = constructor_defaults(cls)
    return next((kind for argument, kind in _NOISE_ARGUMENTS.items() if argument in takes), "own")


def _suits(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> tuple[CompatStatus, str]:
    own_class = str(scheduler_config.get("_class_name", ""))
    if recipe.cls.__name__ == own_class:
        return "ok", "the checkpoint's own"
    theirs = "flow" if is_flow(scheduler_config) else noise_kind(load_class(own_class)) if own_class else "betas"
    ours = "flow" if recipe.config.get("use_flow_sigmas") else noise_kind(recipe.cls)
    if ours != theirs:
        return "wrong", f"assumes {_NOISE_NAMES[ours]}; this checkpoint has {_NOISE_NAMES[theirs]}"
    reason = misfit(recipe.config, scheduler_config)
    if reason:
        return "wrong", reason
    suits = recipe.entry.suits
    if suits and _DISTILLED[suits] != own_class:
        return "wrong", f"made for {suits.upper()}-distilled checkpoints, which this one is not by its config"
    return "ok", ""
