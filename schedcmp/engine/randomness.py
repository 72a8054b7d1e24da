"""Where code from elsewhere takes its random numbers, seen in a trial."""

from __future__ import annotations

import torch

from schedcmp.engine.sharing import solve
from schedcmp.guard.foreign import contained
from schedcmp.registry.build import Recipe
from schedcmp.samplers.global_random import Own, sources

_HOST = torch.device("cpu")
_MOST_STEPS = 100


def drawn_from(recipe: Recipe, steps: int) -> frozenset[str]:
    """The global generators that a scheduler draws from in so many steps; all of them if it cannot be tried."""
    own = Own(sources(_HOST), 0)
    try:
        _tried(recipe, steps, own)
    except Exception:  # third-party code raises what it likes; of its pipeline's own latents it might run
        return frozenset(source.name for source in sources(_HOST))
    return own.drawn()


def repeats(recipe: Recipe, steps: int) -> bool:
    """Whether it does the same twice when all global generators begin alike; True if it cannot be tried."""
    try:
        return torch.equal(*(_tried(recipe, steps, Own(sources(_HOST), 0)) for _ in range(2)))
    except Exception:  # third-party code raises what it likes
        return True


def _tried(recipe: Recipe, steps: int, own: Own) -> torch.Tensor:
    with contained(recipe.patience(steps)), own.in_charge():
        return solve(recipe, 0, steps=min(steps, _MOST_STEPS))
