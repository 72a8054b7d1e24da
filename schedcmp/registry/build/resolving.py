"""Resolving an entry against a checkpoint: which implementation, with which options, on which noise levels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from schedcmp.errors import RegistryError, raised_as
from schedcmp.guard.private import knows_its_step
from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.registry.build.classes import MissingExtraError, constructor_defaults, load_class, require_extras
from schedcmp.registry.build.kinds import unsuited
from schedcmp.registry.build.own import CHOICES
from schedcmp.registry.build.recipe import Option, Recipe
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry
from schedcmp.spacing.flow import PIPELINE, FlowSpacing, flow_options, is_flow, shifted, spacing_options
from schedcmp.spacing.written import read_levels

_SIGMA_FLAGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
_FEW_STEPS = 4
MOST_NOISE = 0.1  # of data of unit variance; Stable Diffusion's smallest noise level is 0.029


def resolve(entry: Entry, scheduler_config: Mapping[str, Any]) -> Recipe:
    """Resolve an entry against a checkpoint's scheduler config (as in its scheduler_config.json).

    Of a method's implementations it is the first that can take the sigma schedule and suits the checkpoint; where none
    suits, the first that runs.

    Raises:
        MissingExtraError: a package is not installed; the message has the command that installs it.
        RegistryError: no such class, or an option or a sigma schedule that no implementation takes.
    """
    if entry.shift:
        with raised_as(RegistryError, entry.name, ValueError):
            scheduler_config = shifted(scheduler_config, entry.shift)
    entry = _for_pipeline(entry, str(scheduler_config.get(PIPELINE, "")))
    unsuitable: list[Recipe] = []
    refusal = None
    implementations = list(entry.implementations(flow=is_flow(scheduler_config)))
    for implementation in implementations:
        try:
            recipe = _resolved(implementation, scheduler_config)
        except MissingExtraError:
            raise
        except RegistryError as error:
            if refusal is None or implementation is entry:
                refusal = error
            continue
        last = implementation is implementations[-1]
        if not unsuited(recipe, scheduler_config) and (last or _ends(recipe)):
            return recipe
        unsuitable.append(recipe)
    if unsuitable:
        return unsuitable[0]
    assert refusal is not None
    raise refusal


def _resolved(entry: Entry, scheduler_config: Mapping[str, Any]) -> Recipe:
    """One implementation. Later wins: class default, the entry's `unless`, what the checkpoint's config says of the
    model, what flow matching asks for, the sigma schedule's `where_taken`, the entry's options, the sigma schedule's.
    """
    flow = is_flow(scheduler_config)
    require_extras(entry)
    cls = load_class(entry.cls, entry.origin, flow=flow)
    takes = constructor_defaults(cls)
    spaced: Mapping[str, Any] = {} if flow else entry.sigmas.options
    _check_options(entry, cls, takes, spaced)
    _check_sigmas(entry, cls, flow=flow)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("class default", takes),
        ("registry", entry.unless),
        ("checkpoint", {name: value for name, value in scheduler_config.items() if name not in CHOICES}),
        ("flow matching", flow_options(takes, scheduler_config)),
        (f"{entry.sigmas.name} sigmas", {} if flow else entry.sigmas.where_taken),
        ("entry", entry.options),
        (f"{entry.sigmas.name} sigmas", spaced),
    ]
    options = {
        name: Option(value, source)
        for source, layer in layers
        for name, value in layer.items()
        if name in takes and value is not inspect.Parameter.empty
    }
    recipe = Recipe(entry, cls, options, str(scheduler_config.get(PIPELINE, "")))
    return _on_flow(recipe, scheduler_config) if flow else recipe


def _on_flow(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> Recipe:
    """The recipe with noise levels for flow matching: those of a sigma schedule, or the checkpoint's own where the
    class has none that its pipeline could use."""
    cls, options, schedule = recipe.cls, spacing_options(scheduler_config), recipe.entry.sigmas.flow
    if unsuited(recipe, scheduler_config, spaced=True):
        return recipe
    if not knows_its_step(cls):  # nobody knows where a class from elsewhere keeps its levels
        if schedule:
            raise RegistryError(f"{recipe.entry.name}: {cls.__name__} has no place for a list of noise levels")
        return recipe
    told = {name: value for name, value in options.items() if name not in recipe.options and name != "shift"}
    recipe = replace(recipe, told=told)
    if not schedule and (hasattr(cls, "contract") or _spaces_itself(recipe)):
        return recipe
    if options.get("invert_sigmas"):
        raise RegistryError(f"{recipe.entry.name}: {cls.__name__} cannot follow noise levels that rise (invert_sigmas)")
    return replace(recipe, spacing=FlowSpacing(options, recipe.pipeline, schedule))


def _spaces_itself(recipe: Recipe) -> bool:
    """Whether a class's own noise levels go with the pipeline and end at 0. It is tried."""
    try:
        scheduler = recipe.build()
        scheduler.set_timesteps(_FEW_STEPS, device="cpu", **timestep_arguments(recipe.pipeline, scheduler, _FEW_STEPS))
    except Exception:  # third-party code raises what it likes
        return False
    return float(scheduler.sigmas[-1]) == 0 or bool(scheduler.config.get("invert_sigmas"))


def _ends(recipe: Recipe) -> bool:
    """Whether a list of levels is followed to an image. Some classes stay at its last level, which may be high."""
    steps = len(read_levels(recipe.entry.sigmas.levels)) or _FEW_STEPS
    if recipe.spacing or not recipe.entry.sigmas.levels:
        return True
    try:
        scheduler = recipe.build()
        scheduler.set_timesteps(steps, device="cpu")
    except Exception:  # what it says is asked for later
        return True
    return float(getattr(scheduler, "schedule", scheduler.sigmas)[-1]) <= MOST_NOISE


def _check_options(entry: Entry, cls: type, takes: Mapping[str, Any], spaced: Mapping[str, Any]) -> None:
    for name in {**entry.options, **spaced}:
        if name in takes:
            continue
        if name in spaced:
            lacks = "has no place for a list of noise levels" if entry.sigmas.levels else f"takes no {name}"
            raise RegistryError(f"{entry.name}: {cls.__name__} cannot use {entry.sigmas.name} sigmas (it {lacks})")
        near = get_close_matches(name, takes, n=1)
        if name in ("sigmas", "timesteps"):
            raise RegistryError(
                f"{entry.name}: {name} are no option of {cls.__name__}; an entry may have its own list of noise levels,"
                " as in {name: mine, base: euler, sigmas: [14.6, 6.5, 2.7, 1.0]}"
            )
        hint = f"; did you mean {near[0]!r}?" if near else f"; it takes: {', '.join(takes)}"
        raise RegistryError(f"{entry.name}: {cls.__name__} takes no option {name!r}{hint}")


def _for_pipeline(entry: Entry, pipeline: str) -> Entry:
    """The entry with the sigma schedule that is meant for the checkpoint's kind. Raises RegistryError."""
    choices = entry.sigmas.by_pipeline
    chosen = next((s for start, s in choices.items() if pipeline.startswith(start)), None)
    if choices and chosen is None:
        names = ", ".join(s.name for s in choices.values())
        what = pipeline or "a checkpoint without a pipeline"
        raise RegistryError(f"{entry.name}: {entry.sigmas.name} does not say which of {names} is for {what}")
    return replace(entry, sigmas=chosen) if chosen else entry


def _check_sigmas(entry: Entry, cls: Any, *, flow: bool) -> None:
    """Refuses sigma schedules that would change nothing, or have no meaning here. Raises RegistryError."""
    sigmas = entry.sigmas
    flags = [flag for flag in _SIGMA_FLAGS if entry.options.get(flag) and not sigmas.options.get(flag)]
    if len(flags) > 1 or (flags and sigmas.options):
        both = " and ".join([*flags, *([f"{sigmas.name} sigmas"] if sigmas.options else [])])
        raise RegistryError(f"{entry.name}: asks for {both}, and a scheduler has one sigma schedule; keep one")
    for name, value in sigmas.options.items():
        if entry.options.get(name, value) != value:
            raise RegistryError(
                f"{entry.name}: has {name}: {entry.options[name]}, but {sigmas.name} sigmas set it to {value}; leave it"
                f" out, or {sigmas.name}"
            )
    if sigmas.name == DEFAULT_SIGMAS:
        return
    spacing = sigmas.options.keys() == {"timestep_spacing"}  # which says where it begins and ends
    if hasattr(cls, "contract") and "sigmas" not in cls.contract.takes and not spacing:
        raise RegistryError(
            f"{entry.name}: {entry.base} chooses its noise levels itself and takes no {sigmas.name} sigmas"
        )
    if not flow and not (sigmas.options or sigmas.where_taken):
        raise RegistryError(f"{entry.name}: {sigmas.name} sigmas are those of a model for flow matching")
    if flow and not sigmas.flow:
        why = f": {sigmas.not_on_flow}" if sigmas.not_on_flow else ""
        raise RegistryError(f"{entry.name}: {sigmas.name} sigmas are not defined for flow matching{why}")
