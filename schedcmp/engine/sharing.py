"""Which cells may share a lane: those that differ by their seeds only, where that changes no bit.

A scheduler works on all latents of a call at once, so four seeds in a lane cost a quarter of its overhead: its steps,
its kernel launches, the pipeline's own checks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from schedcmp.engine.guarded import seeded
from schedcmp.guard.foreign import contained
from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.records import Cell
from schedcmp.registry.build import Recipe

_STEPS = 4
_LATENTS = (1, 4, 8, 8)


def lanes_of(cells: Iterable[Cell], most: Callable[[Cell], int]) -> Iterator[tuple[Cell, ...]]:
    """Cells that differ by their seeds, at most `most` together; by powers of two, whose rows fill a batch evenly."""
    alike: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[replace(cell, id="", index=0, seed=0)].append(cell)
    for like, seeds in alike.items():
        left, size = seeds, most(like)
        while left:
            size = min(size, 1 << (len(left).bit_length() - 1))
            yield tuple(left[:size])
            left = left[size:]


def exact(recipe: Recipe) -> bool:
    """Whether the scheduler does to two latents at once what it does to each alone, bit for bit.

    It does not where a step depends on all of them (adaptive steps), or noise is not drawn by the latents' generators.
    """
    try:
        with contained(recipe.patience()), recipe.alike():
            alone = torch.cat([solve(recipe, 0), solve(recipe, 1)])
            return torch.equal(solve(recipe, 0, 1), alone)
    except Exception:  # third-party code raises what it likes; alone it may still run
        return False


@torch.no_grad()
def solve(recipe: Recipe, *seeds: int, steps: int = _STEPS) -> torch.Tensor:
    """A few steps from the seeds' noise, with a denoiser that answers each number by itself, and so wildly that solvers
    with an error bound take other steps."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = torch.cat([torch.randn(_LATENTS, generator=g) for g in generators])
    scheduler = seeded(recipe.build(seeds[0]), generators if len(seeds) > 1 else generators[0])
    scheduler.set_timesteps(steps, device="cpu", **timestep_arguments(recipe.pipeline, scheduler, steps))
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)  # some warn if it is not called
        x = scheduler.step((9 * x).sin(), t, x, return_dict=False)[0]
    return x
