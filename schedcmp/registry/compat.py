"""Which entries work with a checkpoint, which do not, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schedcmp.errors import RegistryError
from schedcmp.guard.private import compatible_names
from schedcmp.registry.build import MissingExtraError, Recipe, load_class, resolve
from schedcmp.registry.build.kinds import is_own, unsuited
from schedcmp.registry.entry import Entry
from schedcmp.registry.preflight import preflight
from schedcmp.spacing.written import read_levels

CompatStatus = Literal["ok", "needs", "wrong", "unsupported"]
Resolved = Callable[[Entry, Mapping[str, Any]], Recipe]

_DISTILLED = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}
_PROBE_STEPS, _FEW_STEPS = 10, 2
OWN = "the checkpoint's own"


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What the registry knows of one entry with one checkpoint, beside what diffusers says."""

    entry: Entry
    status: CompatStatus
    reason: str
    listed: bool  # by `compatibles` of the checkpoint's own scheduler class
    class_name: str  # of the implementation that runs


def compatibility(
    entries: Iterable[Entry], scheduler_config: Mapping[str, Any], suited: Collection[str] = ()
) -> Iterator[Compatibility]:
    """Judge entries against a checkpoint's scheduler config, in order; `suited` as `judge` takes it."""
    listed = listed_classes(scheduler_config)
    for entry in entries:
        recipe, status, reason = _judged(entry, scheduler_config, resolve, suited)
        ran = recipe.entry.class_name if recipe else entry.class_name
        yield Compatibility(entry, status, reason, ran in listed, ran)


def judge(
    entry: Entry, scheduler_config: Mapping[str, Any], resolved: Resolved = resolve, suited: Collection[str] = ()
) -> tuple[CompatStatus, str]:
    """Status and reason of one entry. A scheduler that runs but solves another problem is `wrong`.

    Args:
        resolved: resolves it, or knows it already: building some schedulers takes 50 ms, once for each recipe.
        suited: what the checkpoint is distilled for, where its config does not say so: lcm, tcd.
    """
    return _judged(entry, scheduler_config, resolved, suited)[1:]


def _judged(
    entry: Entry, scheduler_config: Mapping[str, Any], resolved: Resolved, suited: Collection[str]
) -> tuple[Recipe | None, CompatStatus, str]:
    try:
        recipe = resolved(entry, scheduler_config)
    except MissingExtraError as error:
        return None, "needs", str(error)
    except RegistryError as error:
        return None, "unsupported", str(error)
    status, reason = _suits(recipe, scheduler_config, suited)
    try:
        _probe(recipe, own=reason == OWN)
    except RegistryError as error:
        return recipe, "unsupported", reason if status == "wrong" else str(error)
    return recipe, status, reason


def _probe(recipe: Recipe, *, own: bool) -> None:
    """Raises RegistryError where it can do nothing; the checkpoint's own may be made for few steps (SCM: 2)."""
    try:
        preflight(recipe, len(read_levels(recipe.entry.sigmas.levels)) or _PROBE_STEPS)
    except RegistryError:
        if not own:
            raise
        preflight(recipe, _FEW_STEPS)


def listed_classes(scheduler_config: Mapping[str, Any]) -> set[str]:
    """Class names in diffusers' `compatibles` of the checkpoint's own scheduler class, itself included."""
    name = str(scheduler_config.get("_class_name", ""))
    return {name, *(compatible_names(load_class(name)) if name else ())} - {""}


def _suits(recipe: Recipe, scheduler_config: Mapping[str, Any], suited: Collection[str]) -> tuple[CompatStatus, str]:
    reason = unsuited(recipe, scheduler_config)
    if reason:
        return "wrong", reason
    if is_own(recipe, scheduler_config):
        return "ok", OWN
    suits = recipe.entry.suits
    if suits and suits not in suited and _DISTILLED[suits] != str(scheduler_config.get("_class_name", "")):
        return "wrong", f"made for {suits.upper()}-distilled checkpoints, which this one is not by its config"
    return "ok", ""
