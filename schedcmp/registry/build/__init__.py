"""From an entry to a fresh scheduler, built from the checkpoint's pristine config and nothing else.

diffusers' own `from_config(current.config)` carries the last scheduler's options into the next one and drops options
that the class does not know without a word (diffusers issues 5002, 7183). Here every scheduler starts from the
checkpoint's config, and an option that its class does not take is refused.
"""

from schedcmp.registry.build.classes import (
    MOST_ENTRIES,
    MOST_TIMESTEPS,
    MissingExtraError,
    constructor_defaults,
    load_class,
    refuse_huge,
)
from schedcmp.registry.build.own import mended, told_left_out
from schedcmp.registry.build.recipe import Option, Recipe
from schedcmp.registry.build.resolving import MOST_NOISE, resolve

__all__ = [
    "MOST_ENTRIES", "MOST_NOISE", "MOST_TIMESTEPS", "MissingExtraError", "Option", "Recipe", "constructor_defaults",
    "load_class", "mended", "refuse_huge", "resolve", "told_left_out",
]  # fmt: skip
