"""Options of the sweep's own entries that change nothing, found by running each entry with and without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.guard.foreign import contained
from schedcmp.registry.build import Recipe, resolve
from schedcmp.spacing.flow import is_flow

_MOST_STEPS = 200  # that are tried in all, for one entry


def idle_options(recipe: Recipe, scheduler_config: Mapping[str, Any], steps: Iterable[int]) -> Iterator[str]:
    """A sentence for each option of an entry of the sweep's own that differs from what the entry would have without it,
    and has no effect at any of these numbers of steps."""
    counts = sorted(set(steps))
    if recipe.entry.origin != "sweep" or sum(counts) > _MOST_STEPS:
        return
    for name, value in recipe.entry.options.items():
        options = {other: v for other, v in recipe.entry.options.items() if other != name}
        try:
            without = resolve(replace(recipe.entry, options=options), scheduler_config)
            same = without.config != recipe.config and all(_same(recipe, without, n, scheduler_config) for n in counts)
        except RegistryError:
            continue
        if same:
            listed = ", ".join(map(str, counts))
            yield f"{recipe.entry.name}: {name}: {value} changes nothing at {listed} steps; leave it out"


def _same(one: Recipe, other: Recipe, steps: int, scheduler_config: Mapping[str, Any]) -> bool:
    """Whether both end alike on a denoiser that depends on its input and the timestep. Raises RegistryError."""
    import torch

    from schedcmp.truth.drive import loop

    def denoiser(x: torch.Tensor, t: float) -> torch.Tensor:
        return torch.tanh(x) * (0.5 + t / 4000)

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    try:
        with contained(one.patience(2 * steps)):
            ends = [loop(recipe, denoiser, noise, steps, flow=is_flow(scheduler_config))[0] for recipe in (one, other)]
    except RegistryError:
        raise
    except Exception as error:  # third-party code raises what it likes
        raise RegistryError(str(error)) from error
    return bool(torch.equal(*ends))
