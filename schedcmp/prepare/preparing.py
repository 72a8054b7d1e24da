"""From a sweep to what was found sound of it: its checkpoint, what it lays out, what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from schedcmp.checkpoint.find import find_checkpoint, settled
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, RegistryError, SweepError, raised_as
from schedcmp.inputs.given import inputs_of
from schedcmp.metrics.wanted import real_images, wanted_metrics, wanted_references, wants_references
from schedcmp.pipelines.guidance import default_guidance
from schedcmp.prepare.checks import refuse_places, refuse_unfit
from schedcmp.prepare.costs import Costs
from schedcmp.prepare.few_steps import FewSteps, few_steps
from schedcmp.prepare.loading import Loader
from schedcmp.prepare.loras import Loras
from schedcmp.prepare.prepared import Prepared
from schedcmp.records import Length, length_of
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import Recipe, mended
from schedcmp.registry.preflight import Trajectory
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.parts.model import Model
from schedcmp.sweep.plan import Plan, make_plan
from schedcmp.sweep.source import Source

_SHOWN = 4  # reasons of many


def prepare_sweep(
    sweep: Sweep, source: Source, *, progress: bool = False, checkpoint: Checkpoint | None = None
) -> Prepared:
    """Loads no weights and writes nothing.

    Args:
        checkpoint: instead of the one that the sweep names.

    Raises:
        RequestError: whatever is wrong with the request.
    """
    found = checkpoint or find_checkpoint(sweep.model, source, safety_checker=sweep.safety_checker, progress=progress)
    if sweep.model.python:
        sweep = settled(sweep, source, found)
    inputs = inputs_of(sweep, source, found)
    sweep, checkpoint = inputs.sweep, inputs.checkpoint
    with raised_as(CheckpointError, source.at("model"), RegistryError):
        config = mended(checkpoint.scheduler_config, checkpoint.pipeline_class)
    refuse_unfit(inputs, source)
    loras = Loras(sweep, source, checkpoint, progress=progress)
    distilled = tuple(few_steps(checkpoint, loras.adapters.values()))
    sweep = sweep.model_copy(update={"lora": loras.values or None})
    own_guidance = None if sweep.guidance_scale else _own_guidance(checkpoint, distilled)
    if own_guidance is not None:
        sweep = sweep.model_copy(update={"guidance_scale": (own_guidance,)})
    costs = Costs(checkpoint)
    appraisal = _appraisal(sweep, config, distilled, costs.most(sweep))
    plan = make_plan(sweep, source, builtin_registry(), appraisal)
    inputs.refuse_other_masks(plan.cells, source)
    loader = Loader(sweep, source, checkpoint, loras, progress=progress)
    tried = _tried(plan, source, appraisal)
    prepared = _with_metrics(
        Prepared(sweep, source, inputs, loras, distilled, own_guidance, config, appraisal, costs, loader, plan, *tried)
    )
    refuse_places(sweep, source)
    return prepared


def with_steps(prepared: Prepared, searched: Mapping[str, tuple[int, ...]]) -> Prepared:
    """The same with other numbers of steps by label, where the sweep leaves them to be found. Raises RequestError."""
    source, appraisal = prepared.source, prepared.appraisal
    plan = make_plan(prepared.sweep, source, builtin_registry(), appraisal, searched)
    trajectories, unsupported = _tried(plan, source, appraisal)
    return _with_references(replace(prepared, plan=plan, trajectories=trajectories, unsupported=unsupported))


def scheduler_config_of(model: str) -> dict[str, Any]:
    """The scheduler config of what a sweep calls a model, as its pipeline has it. Raises RequestError."""
    checkpoint = find_checkpoint(Model(id=model))
    return mended(checkpoint.scheduler_config, checkpoint.pipeline_class)


def _own_guidance(checkpoint: Checkpoint, distilled: Iterable[FewSteps]) -> float:
    """What is taken where the sweep gives no guidance scale."""
    own = default_guidance(checkpoint.pipeline_class, checkpoint.config)
    return next((found.kind.nearest(own) for found in distilled if not found.digest), own)


def _appraisal(sweep: Sweep, config: Mapping[str, Any], distilled: Sequence[FewSteps], evaluations: int) -> Appraisal:
    def in_the_middle(recipe: Recipe) -> str:
        from schedcmp.truth.beginning import wrong_in_the_middle

        return wrong_in_the_middle(recipe, config)

    suited = {sampler for found in distilled for sampler in found.kind.suits}
    return Appraisal(config, suited, sweep.strength or (None,), in_the_middle, evaluations)


def _tried(plan: Plan, source: Source, appraisal: Appraisal) -> tuple[dict[Length, Trajectory], dict[Length, str]]:
    """What each scheduler does at each number of steps, or why it cannot. Raises SweepError if none can."""
    trajectories: dict[Length, Trajectory] = {}
    unsupported: dict[Length, str] = {}
    for length in dict.fromkeys(map(length_of, plan.cells)):
        label, steps, strength = length
        selected = plan.selected[label]
        try:
            if selected.refusal:
                raise RegistryError(selected.refusal)
            trajectory = appraisal.trajectory(selected.entry, steps, strength)
            if plan.sweep.jax.solve == "scan":
                from schedcmp.backend import linear

                linear.plan(appraisal.recipe(selected.entry), steps)
            trajectories[length] = trajectory
        except RegistryError as error:
            unsupported[length] = str(error)
    if not trajectories:
        reasons = list(dict.fromkeys(unsupported.values()))
        more = f"; and {len(reasons) - _SHOWN} reasons more" if len(reasons) > _SHOWN else ""
        raise SweepError(f"{source.at('steps')}: nothing can run: {'; '.join(reasons[:_SHOWN])}{more}")
    return trajectories, unsupported


def _with_metrics(prepared: Prepared) -> Prepared:
    """With what is measured of images. Raises SweepError."""
    sweep, source = prepared.sweep, prepared.source
    with raised_as(SweepError, source.at("metrics"), SweepError):
        prepared = replace(prepared, metrics=wanted_metrics(sweep, prepared.checkpoint))
    prepared = _with_references(prepared)
    with raised_as(SweepError, source.at("real_images"), SweepError):
        return replace(prepared, real_images=real_images(sweep.real_images) if sweep.real_images else ())


def _with_references(prepared: Prepared) -> Prepared:
    """With what the plan's images are compared with. Raises SweepError."""
    sweep, config = prepared.sweep, prepared.scheduler_config
    with raised_as(SweepError, prepared.source.at("metrics"), SweepError):
        if not wants_references(sweep, prepared.checkpoint):
            return prepared
        found = wanted_references(sweep, prepared.supported, prepared.recipes, config, prepared.total_nfe)
    return replace(prepared, references=found)
