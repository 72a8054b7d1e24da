"""In seconds for the whole registry: which entries do not converge with a checkpoint's noise schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from schedcmp.errors import RegistryError

if TYPE_CHECKING:
    from schedcmp.registry.build import Recipe
    from schedcmp.truth.verdict import Verdict

_STEPS = (8, 24)
_SAMPLES = 4_096  # Wasserstein-1 of so many exact samples is 0.02
_known: dict[tuple[str, str, str], Verdict] = {}  # by entry, what it does, and the scheduler config


def quick(recipes: Iterable[Recipe], scheduler_config: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict on each resolved entry by name, from two numbers of steps.

    "Same as" is not looked for. Empty when the noise schedule is not known.
    """
    from schedcmp.truth.measure import measure
    from schedcmp.truth.noise import noise_schedule
    from schedcmp.truth.verdict import judge_measurement

    try:
        schedule = noise_schedule(scheduler_config)
    except RegistryError:
        return {}

    def verdict(recipe: Recipe) -> Verdict:
        return judge_measurement(measure(recipe, schedule, _STEPS, _STEPS, _SAMPLES))

    told = repr(sorted(scheduler_config.items()))

    def remembered(recipe: Recipe) -> Verdict:
        key = recipe.entry.name, recipe.work, told
        return _known.get(key) or _known.setdefault(key, verdict(recipe))

    return {r.entry.name: verdict(r) if r.foreign else remembered(r) for r in recipes}  # people edit their own
