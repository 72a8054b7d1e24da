"""The image that the deterministic schedulers of one task head for, and how far each is from it.

They all integrate one equation, the probability-flow ODE (Song et al. 2021, arXiv:2011.13456), from the same initial
noise, so with ever more steps they end at the same latents. Nobody knows these exactly on a real network; but where two
solvers of different construction, each with many steps, agree to some distance, either is about that close to them. The
first solver's result is the reference, its distance from the second's the uncertainty.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Any

from schedcmp.axes import INPUTS, arguments_of, values_of
from schedcmp.errors import RegistryError
from schedcmp.records import REFERENCE, Cell, Task
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import Recipe
from schedcmp.registry.preflight import Trajectory
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.energy import FEWEST_SEEDS

# Entry and steps, about 100 evaluations. Of ten entries tried on builtin:tiny, and again on `verify`'s data (betas,
# zero terminal SNR, flow matching), iPNDM ends nearest to the solution; the others are near it and built otherwise.
# Those that round timesteps to whole numbers, such as dpmpp-2m-karras, stay 0.001 to 0.005 away at any number of steps.
_SOLVER = ("ipndm-v-karras", 100)
_OTHERS = (("heun-karras", 50), ("flow-heun", 50), ("res-multistep-karras", 100))  # the first that is right is taken
_PROBE_STEPS = 40  # some samplers draw noise only when there are enough (Restart: from 20)


@dataclass(frozen=True)
class References:
    """What has to be made so that deterministic cells have something to be compared with."""

    cells: tuple[Cell, ...]  # two per task, the reference before the one that says how uncertain it is
    recipes: Mapping[str, Recipe]  # by the cells' labels
    trajectories: Mapping[str, Trajectory]
    comparable: frozenset[str]  # the labels in the sweep that head for the references
    sampling: frozenset[str]  # and those that head for such images, if not for these very ones

    @property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        return list(zip(self.cells[::2], self.cells[1::2], strict=True))

    @property
    def nfe(self) -> int:
        """Denoiser evaluations of all of them."""
        return sum(self.trajectories[cell.scheduler].nfe for cell in self.cells)


def plan_references(
    cells: Iterable[Cell], recipes: Mapping[str, Recipe], scheduler_config: Mapping[str, Any], generator: str
) -> References:
    """Lay out the references of a sweep's cells.

    Args:
        cells: those that can be made.
        recipes: by their labels.
        scheduler_config: the checkpoint's, as `registry.build.mended` leaves it.
        generator: where initial noise is drawn.

    Raises:
        RegistryError: the registry has no two solvers that are right for the checkpoint.
    """
    cells, appraisal = list(cells), Appraisal(scheduler_config)
    found = [next(_right(appraisal, candidates), None) for candidates in ((_SOLVER,), _OTHERS)]
    solvers = [solver for solver in found if solver]
    if len(solvers) < 2:
        raise RegistryError("a reference takes two deterministic solvers that are right for the checkpoint")
    noisy = {cell.scheduler for cell in cells if _told_to_draw_noise(cell, recipes[cell.scheduler])}
    comparable = frozenset(
        label for label, recipe in recipes.items() if label not in noisy and solves_the_ode(recipe, scheduler_config)
    )
    sampling = frozenset(label for label, recipe in recipes.items() if not _solves_another_equation(recipe))
    tasks = _tasks(cells, comparable, sampling)
    return References(
        tuple(_cell(like, recipe, steps, generator) for like in tasks.values() for recipe, steps, _ in solvers),
        {REFERENCE + recipe.entry.name: recipe for recipe, _, _ in solvers},
        {REFERENCE + recipe.entry.name: trajectory for recipe, _, trajectory in solvers},
        comparable,
        sampling,
    )


def _tasks(cells: Iterable[Cell], comparable: frozenset[str], sampling: frozenset[str]) -> dict[Task, Cell]:
    """Those of comparable cells, and those of others where there are seeds enough to compare all images at once."""
    found = {cell.task: cell for cell in cells if cell.scheduler in sampling}
    exact = {cell.task for cell in cells if cell.scheduler in comparable}
    seeds = Counter(values_of(cell, INPUTS) for cell in found.values())
    enough = {task for task, cell in found.items() if seeds[values_of(cell, INPUTS)] >= FEWEST_SEEDS}
    return {task: cell for task, cell in found.items() if task in exact | enough}


def solves_the_ode(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> bool:
    """Whether it draws no noise, and takes the denoiser's answer for what it is: CFG++ (arXiv:2406.08070) does not.

    What the registry does not know, or a sweep has changed, is tried: two seeds must give one result.
    """
    entry = recipe.entry
    if _solves_another_equation(recipe):
        return False
    if entry.origin == "schedcmp" and entry.noise is not None:
        return not entry.noise
    return not _draws_noise(recipe, scheduler_config)


def _told_to_draw_noise(cell: Cell, recipe: Recipe) -> bool:
    """By the call: pipelines hand `eta` on to steps that take it, as DDIM's does."""
    cls: Any = recipe.cls
    return bool((arguments_of(cell) | cell.arguments).get("eta")) and "eta" in inspect.signature(cls.step).parameters


def _solves_another_equation(recipe: Recipe) -> bool:
    return bool(getattr(recipe.cls, "needs_unconditional", False))


def _draws_noise(recipe: Recipe, scheduler_config: Mapping[str, Any]) -> bool:
    """As seen on data whose denoiser is known; true if that cannot be found out."""
    import torch

    from schedcmp.truth.drive import Oracle, drive
    from schedcmp.truth.measure import DATA, stratified
    from schedcmp.truth.noise import noise_schedule

    try:
        oracle, noise = Oracle(DATA, noise_schedule(scheduler_config)), stratified(256)
        one, other = (drive(recipe, oracle, noise, _PROBE_STEPS, seed).latents for seed in (0, 1))
    except RegistryError:
        return True
    return not torch.equal(one, other)


def _right(appraisal: Appraisal, candidates: Iterable[tuple[str, int]]) -> Iterator[tuple[Recipe, int, Trajectory]]:
    """Those that are right for the checkpoint and can take so many steps."""
    for name, steps in candidates:
        entry = builtin_registry().entry(name)
        try:
            if appraisal.judge(entry)[0] == "ok":
                yield appraisal.recipe(entry), steps, appraisal.trajectory(entry, steps)
        except RegistryError:  # a noise schedule of fewer steps
            continue


def _cell(like: Cell, recipe: Recipe, steps: int, generator: str) -> Cell:
    entry = recipe.entry
    parts = [entry.cls, entry.options, entry.sigmas.name, steps, generator, like.task]
    id_ = blake2s(json.dumps(["reference", *parts], sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
    label, sigmas = REFERENCE + entry.name, entry.sigmas.name
    return replace(like, id=id_, scheduler=label, base=entry.base, sigma_schedule=sigmas, steps=steps, nfe_budget=None)
