"""A sweep that was found sound: what will be made and what that costs, and what makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.find import portable
from schedcmp.checkpoint.ip_adapter import places
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.files import where_it_is
from schedcmp.inputs.given import Inputs
from schedcmp.metrics import Metric
from schedcmp.metrics.wanted import portable as portable_metrics
from schedcmp.prepare.costs import Costs
from schedcmp.prepare.few_steps import FewSteps
from schedcmp.prepare.loading import Loader
from schedcmp.prepare.loras import Loras
from schedcmp.prepare.origin import Origin, origin_here
from schedcmp.prepare.remarks import remarks
from schedcmp.records import Cell, Length, length_of
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import Recipe
from schedcmp.registry.preflight import Trajectory
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.plan import Plan, identity
from schedcmp.sweep.source import Source
from schedcmp.truth.reference import References


@dataclass(frozen=True, eq=False)
class Prepared:
    """Made by `preparing.prepare_sweep`; its checkpoint is there, and its schedulers can do their steps."""

    sweep: Sweep  # with what was found: images by content, LoRAs by digest
    source: Source
    inputs: Inputs
    loras: Loras
    few_steps: tuple[FewSteps, ...]
    own_guidance: float | None  # the pipeline's or checkpoint's, which is taken where the sweep gives none
    scheduler_config: Mapping[str, Any]
    appraisal: Appraisal
    costs: Costs
    loader: Loader
    plan: Plan
    trajectories: Mapping[Length, Trajectory]
    unsupported: Mapping[Length, str]  # why
    metrics: Sequence[Metric] = ()
    references: References | None = None
    real_images: Sequence[Path] = ()
    plain: Path | None = None  # the run of the same checkpoint unchanged, see `runs.several`
    maker: Origin | None = None  # of a worker, where workers make the images

    @cached_property
    def origin(self) -> Origin:
        """What makes the images. Raises SweepError: its device or backend is not there."""
        return self.maker or origin_here(self)

    @property
    def checkpoint(self) -> Checkpoint:
        return self.inputs.checkpoint

    @cached_property
    def supported(self) -> tuple[Cell, ...]:
        """The plan's cells that can be made."""
        if not self.unsupported:
            return self.plan.cells
        return tuple(c for c in self.plan.cells if length_of(c) in self.trajectories)

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """By label: those that can do some of their steps."""
        labels = dict.fromkeys(label for label, *_ in self.trajectories)
        return {label: self.appraisal.recipe(self.plan.selected[label].entry) for label in labels}

    @cached_property
    def all_recipes(self) -> Mapping[str, Recipe]:
        """By label: those of the sweep and of its references."""
        return {**self.recipes, **(self.references.recipes if self.references else {})}

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before trusting the comparison."""
        return tuple(remarks(self))

    def steps_of(self, label: str) -> list[int]:
        """Numbers of steps that a scheduler can do."""
        return [steps for at, steps, _ in self.trajectories if at == label]

    def cost(self, cell: Cell) -> int:
        """Denoiser evaluations of a cell; for one that chooses its steps as it goes, an estimate."""
        each = self.costs.of(cell)
        if self.references and cell.scheduler in self.references.trajectories:
            return each * self.references.trajectories[cell.scheduler].nfe
        return each * self.trajectories[length_of(cell)].nfe

    @property
    def total_nfe(self) -> int:
        """Denoiser evaluations of the whole sweep, references apart."""
        return sum(map(self.cost, self.supported))

    @property
    def in_turn(self) -> bool:
        """Whether images must be made one after the other: a step cache is of one image."""
        models = getattr(self.checkpoint, "models", ())  # those of a loaded pipeline
        return bool(self.checkpoint.cache) or any(getattr(model, "is_cache_enabled", False) for model in models)

    @property
    def is_compiled(self) -> bool:
        """Whether the denoiser is compiled anew for each size of its batch."""
        return bool(self.sweep.optimize.compile) or self.sweep.backend == "jax"

    def mark(self, cell: Cell) -> str:
        """Another one for every two cells that differ in more than steps and seed."""
        entry = self.plan.entries.get(cell.scheduler) or self.all_recipes[cell.scheduler].entry
        return identity(cell, entry, self.sweep.generator).hexdigest()

    @property
    def portable_sweep(self) -> Sweep:
        """The sweep, repeatable from any folder: a checkpoint on the disk has its whole path."""
        paths = {name: getattr(self.sweep, name) for name in ("clip_model", "real_images", "controlnet")}
        update: dict[str, Any] = {name: where_it_is(path) for name, path in paths.items()}
        if adapter := self.sweep.ip_adapter:
            update["ip_adapter"] = adapter.model_copy(update=places(self.checkpoint))
        update["metrics"] = portable_metrics(self.sweep.metrics, self.metrics)
        update |= self.inputs.written
        return self.sweep.model_copy(update=update | {"model": portable(self.sweep.model)})

    @property
    def folder(self) -> Path:
        """Where the run goes unless the user says otherwise."""
        return Path("outputs") / str(self.sweep.name)
