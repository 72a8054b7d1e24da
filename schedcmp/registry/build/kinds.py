"""The kinds of noise: what a checkpoint was trained with, and what a scheduler class is made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedcmp.registry.build.classes import constructor_defaults, load_class
from schedcmp.registry.build.recipe import Recipe
from schedcmp.spacing.flow import is_flow, misfit

# A class tells its noise schedule by the arguments that define it.
_NOISE_ARGUMENTS = {"beta_start": "betas", "sigma_data": "edm", "shift": "flow"}
_NOISE_NAMES = {
    "betas": "a noise schedule of betas",
    "edm": "EDM's noise levels and preconditioning",
    "flow": "flow matching",
    "own": "a noise schedule of its own",
}


def noise_kind(cls: type) -> str:
    """`betas`, `edm`, `flow`, or `own` when the class takes no noise schedule."""
    takes = constructor_defaults(cls)
    return next((kind for argument, kind in _NOISE_ARGUMENTS.items() if argument in takes), "own")


def kind_of(recipe: Recipe) -> str:
    """As `noise_kind`, of a class with its options."""
    return "flow" if recipe.config.get("use_flow_sigmas") else noise_kind(recipe.cls)


def is_own(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> bool:
    """Whether it is the class that the checkpoint comes with."""
    return recipe.cls.__name__ == str(scheduler_config.get("_class_name", ""))


def unsuited(recipe: Recipe, scheduler_config: Mapping[str, Any], *, spaced: bool = False) -> str:
    """Why a scheduler solves another problem than the checkpoint's; empty if it does not.

    Args:
        spaced: its noise levels are, or will be, the checkpoint's.
    """
    if is_own(recipe, scheduler_config):
        return misfit(recipe.config, scheduler_config) if recipe.entry.options else ""
    own_class = str(scheduler_config.get("_class_name", ""))
    theirs = "flow" if is_flow(scheduler_config) else noise_kind(load_class(own_class)) if own_class else "betas"
    ours = kind_of(recipe)
    if ours != theirs:
        return f"assumes {_NOISE_NAMES[ours]}; this checkpoint has {_NOISE_NAMES[theirs]}"
    return misfit(recipe.config, scheduler_config, spaced=spaced or recipe.spacing is not None)
