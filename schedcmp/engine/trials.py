"""What a scheduler does in a few steps on tiny latents: whether seeds may share a lane, and what draws random numbers.

A scheduler works on all latents of a call at once, so four seeds in a lane cost a quarter of its overhead: its steps,
its kernel launches, the pipeline's own checks. They share one where that changes no bit.
"""

from __future__ import annotations

import torch

from schedcmp.engine.guarded import seeded
from schedcmp.guard.foreign import contained
from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.registry.build import Recipe
from schedcmp.samplers.global_random import Own, sources

_STEPS, _MOST_STEPS = 4, 100
_LATENTS = (1, 4, 8, 8)
_HOST = torch.device("cpu")


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
