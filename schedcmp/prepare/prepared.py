"""A sweep against its checkpoint: everything that can be known, and refused, before weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schedcmp.backend.support import refusal
from schedcmp.checkpoint.cache import refuse_cache
from schedcmp.checkpoint.find import find_checkpoint, portable, settled
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.checkpoint.tokens import cut_prompts
from schedcmp.errors import CheckpointError, PartError, RegistryError, RequestError, SweepError
from schedcmp.files import where_it_is
from schedcmp.inputs.given import inputs_of
from schedcmp.metrics.clip_model import Clip, opened_clip
from schedcmp.metrics.wanted import real_images, wanted_metrics, wanted_references, wants_references
from schedcmp.pipelines.arguments import not_taken, refused_arguments
from schedcmp.pipelines.arithmetic import size_refusal
from schedcmp.pipelines.evaluations import evaluations
from schedcmp.pipelines.guidance import default_guidance, guidance_arguments, inert_guidance
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.packages import install, missing_packages
from schedcmp.prepare.few_steps import few_steps
from schedcmp.prepare.loras import Loras
from schedcmp.prepare.provenance import image_key, machine_and_versions, machine_of
from schedcmp.records import Cell, Length, Worn, length_of
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import Recipe, mended, told_left_out
from schedcmp.registry.preflight import Trajectory
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep.document import Sweep, load
from schedcmp.sweep.notation import foreign_notation
from schedcmp.sweep.parts import Model
from schedcmp.sweep.plan import Plan, identity, make_plan
from schedcmp.sweep.source import Source
from schedcmp.sweep.steps import Search
from schedcmp.truth.energy import FEWEST_SEEDS
from schedcmp.truth.reference import References

if TYPE_CHECKING:
    from schedcmp.checkpoint.wardrobe import Wardrobe

_SHOWN = 4  # reasons of many
_MOST_CALLS = 1_000  # combinations of further arguments that are asked for their evaluations beforehand


class Prepared:
    """A sweep that was found sound: its checkpoint is there, its schedulers can do their steps."""

    def __init__(
        self,
        sweep: Sweep,
        source: Source,
        *,
        progress: bool = False,
        checkpoint: Checkpoint | None = None,
        searched: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        appraisal: Appraisal | None = None,
    ) -> None:
        """Loads no weights and writes nothing.

        Args:
            checkpoint: instead of the one that the sweep names.
            searched: numbers of steps by label, where the sweep leaves them to be found; by default, the first to try.
            appraisal: what is known of the schedulers already.

        Raises:
            RequestError: whatever is wrong with the request.
        """
        self._source = source
        self.plain: Path | None = None  # the run of the same checkpoint unchanged, see `runs.several`
        found = checkpoint or find_checkpoint(
            sweep.model, source, safety_checker=sweep.safety_checker, progress=progress
        )
        if sweep.model.python:
            sweep = settled(sweep, source, found)
        self.inputs = inputs_of(sweep, source, found)
        self.sweep, self.checkpoint = sweep, checkpoint = self.inputs.sweep, self.inputs.checkpoint
        try:
            self.scheduler_config = mended(self.checkpoint.scheduler_config, self.checkpoint.pipeline_class)
        except RegistryError as error:
            raise CheckpointError(f"{source.where(('model',))}: model: {error}") from error
        self._known_evaluations: dict[tuple[float, str, str], int] = {}
        self._check_pipeline()
        self._check_backend()
        self.asked = sweep
        self.loras = Loras(sweep, source, self.checkpoint, progress=progress)
        self.few_steps = tuple(few_steps(self.checkpoint, self.loras.adapters.values()))
        guidance = sweep.guidance_scale or (self.own_guidance,)
        self.sweep = sweep = sweep.model_copy(update={"lora": self.loras.values or None, "guidance_scale": guidance})
        suited = {sampler for found in self.few_steps for sampler in found.kind.suits}
        if appraisal is None:
            strengths, most = sweep.strength or (None,), self._most_evaluations()
            appraisal = Appraisal(self.scheduler_config, suited, strengths, self._wrong_in_the_middle, most)
        self._appraisal = appraisal
        self.plan: Plan = make_plan(sweep, source, builtin_registry(), appraisal, searched)
        self.inputs.refuse_other_masks(self.plan.cells, source)
        self.trajectories: dict[Length, Trajectory] = {}
        self.unsupported: dict[Length, str] = {}  # why
        self._preflight(appraisal)
        self.recipes: Mapping[str, Recipe] = {
            label: appraisal.recipe(self.plan.selected[label].entry)
            for label in dict.fromkeys(label for label, *_ in self.trajectories)
        }
        self._progress = progress
        self._dressed: tuple[Any, Wardrobe] | None = None  # a pipeline, and what it can wear
        self._choose_metrics()
        self._check_track()

    def with_steps(self, searched: Mapping[str, tuple[int, ...]]) -> Prepared:
        """The same with other numbers of steps, where the sweep leaves them to be found. Raises RequestError."""
        found = Prepared(
            self.asked,
            self._source,
            progress=self._progress,
            checkpoint=self.checkpoint,
            searched=searched,
            appraisal=self._appraisal,
        )
        found._dressed = self._dressed
        return found

    def _wrong_in_the_middle(self, recipe: Recipe) -> str:
        from schedcmp.truth.beginning import wrong_in_the_middle

        return wrong_in_the_middle(recipe, self.scheduler_config)

    @cached_property
    def own_guidance(self) -> float:
        """What is taken where the sweep gives no guidance scale."""
        own = default_guidance(self.checkpoint.pipeline_class, self.checkpoint.config)
        return next((found.kind.nearest(own) for found in self.few_steps if not found.digest), own)

    def _check_backend(self) -> None:
        """Raises SweepError for what the backend cannot do."""
        found = refusal(self.sweep, self.checkpoint) if self.sweep.backend == "jax" else None
        if found:
            key, why = found
            raise SweepError(f"{self._source.where(key)}: {'.'.join(key)}: {why}")

    def _check_pipeline(self) -> None:
        """Raises RequestError for what the pipeline would refuse, or make otherwise, in every cell."""
        if missing := missing_packages(self.checkpoint.pipeline_class):
            told = f"{self.checkpoint.pipeline_class} needs {', '.join(missing)}: {install(missing)}"
            raise CheckpointError(f"{self._source.where(('model',))}: model: {self.checkpoint.name}: {told}")
        if why := unfit(self.checkpoint.pipeline_class, self.checkpoint.config, self.inputs.arguments):
            raise CheckpointError(f"{self._source.where(('model',))}: model: {self.checkpoint.name}: {why}")
        if self.checkpoint.cache:
            self._check_cache()
        for name, why in refused_arguments(self.checkpoint.pipeline_class, self.sweep.call):
            raise SweepError(f"{self._source.where(('call', name))}: call: {why}")
        for key, why in not_taken(self.checkpoint.pipeline_class, self.sweep):
            raise SweepError(f"{self._source.where((key,))}: {key}: {why}")
        sizes = [(width, height) for width, height in self.sweep.sizes if width and height]
        if wrong := size_refusal(self.checkpoint.pipeline_class, self.checkpoint.config, sizes):
            key = "size" if self.sweep.size else "width"
            raise SweepError(f"{self._source.where((key,))}: {key}: {wrong}")

    def _check_cache(self) -> None:
        """Raises RequestError."""
        if self.sweep.optimize.compile:
            where = self._source.where(("optimize", "compile"))
            raise SweepError(
                f"{where}: optimize.compile: goes with no step cache, which changes the model; leave one out"
            )
        try:
            refuse_cache(self.checkpoint)
        except PartError as error:
            raise CheckpointError(f"{self._source.where(('model', *error.key))}: model: {error}") from error

    @property
    def in_turn(self) -> bool:
        """Whether images must be made one after the other: a step cache is of one image."""
        models = getattr(self.checkpoint, "models", ())  # those of a loaded pipeline
        return bool(self.checkpoint.cache) or any(getattr(model, "is_cache_enabled", False) for model in models)

    def _choose_metrics(self) -> None:
        """What is measured of images, and what that takes. Raises SweepError."""
        sweep, key = self.sweep, "metrics"
        self.references: References | None = None
        try:
            self.metrics = wanted_metrics(sweep, self.checkpoint)
            if wants_references(sweep, self.checkpoint):
                self.references = wanted_references(
                    sweep, self.supported, self.recipes, self.scheduler_config, self.total_nfe
                )
            key = "real_images"
            self.real_images = real_images(sweep.real_images) if sweep.real_images else []
        except SweepError as error:
            raise SweepError(f"{self._source.where((key,))}: {key}: {error}") from error

    def _check_track(self) -> None:
        """Raises SweepError for a place that results cannot be sent to."""
        if self.sweep.track:
            from schedcmp.track.trackers import refusal

            for why in filter(None, map(refusal, self.sweep.track)):
                raise SweepError(f"{self._source.where(('track',))}: track: {why}")

    def _preflight(self, appraisal: Appraisal) -> None:
        """What each scheduler does at each number of steps, or why it cannot. Raises SweepError if none can."""
        for label, steps, strength in dict.fromkeys(map(length_of, self.plan.cells)):
            selected = self.plan.selected[label]
            try:
                if selected.refusal:
                    raise RegistryError(selected.refusal)
                trajectory = appraisal.trajectory(selected.entry, steps, strength)
                if self.sweep.jax.solve == "scan":
                    from schedcmp.backend.linear import plan

                    plan(appraisal.recipe(selected.entry), steps)
                self.trajectories[label, steps, strength] = trajectory
            except RegistryError as error:
                self.unsupported[label, steps, strength] = str(error)
        if not self.trajectories:
            reasons = list(dict.fromkeys(self.unsupported.values()))
            more = f"; and {len(reasons) - _SHOWN} reasons more" if len(reasons) > _SHOWN else ""
            told = "; ".join(reasons[:_SHOWN])
            raise SweepError(f"{self._source.where(('steps',))}: steps: nothing can run: {told}{more}")

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before trusting the comparison."""
        refused = _gathered({at: (reason,) for at, reason in self.unsupported.items()})
        doubts = _gathered({at: trajectory.remarks for at, trajectory in self.trajectories.items()})
        return (
            *self._source.remarks,
            *self.plan.warnings,
            *self.checkpoint.remarks,
            *filter(None, [self.loras.cost_told if self.sweep.timing.mode == "solo" else ""]),
            *filter(None, (found.leaves(self.supported) for found in self.few_steps)),
            *filter(None, [told_left_out(self.scheduler_config)]),
            *foreign_notation(self._texts),
            *cut_prompts(self.checkpoint, self._texts),
            *self._inert_guidance(),
            *(f"unsupported: {reason}{where}" for _, reason, where in refused),
            *(f"{label}: {remark}{where}" for label, remark, where in doubts),
            *self._unsearched(),
            *self._idle_options(),
            *self._unrepeatable(),
        )

    def _inert_guidance(self) -> Iterator[str]:
        """What of the sweep's guidance and negative prompts changes nothing."""
        sweep, checkpoint = self.sweep, self.checkpoint
        scales, negatives = sweep.guidance_scale or (), sweep.negative_prompt
        for told in inert_guidance(checkpoint.pipeline_class, checkpoint.config, scales, negatives, sweep.call):
            if self.asked.guidance_scale or told.startswith("negative_prompt"):
                yield told

    def _unsearched(self) -> Iterator[str]:
        """Of which schedulers it cannot be found how many steps they need."""
        if not isinstance(self.sweep.steps, Search) or self.references is None:
            return
        tried = ", ".join(map(str, self.sweep.steps.first))
        for label in self.recipes:
            if label not in self.references.sampling:
                yield f"{label}: solves another equation, so no number of steps is near enough: it is tried at {tried}"
            elif label not in self.references.comparable and len(self.sweep.seeds) < FEWEST_SEEDS:
                yield f"{label}: draws noise, so how many steps it needs takes {FEWEST_SEEDS} seeds: tried at {tried}"

    def _idle_options(self) -> Iterator[str]:
        """What of the sweep's own entries changes nothing."""
        from schedcmp.truth.idle import idle_options

        for label, recipe in self.recipes.items():
            steps = [n for at, n, _ in self.trajectories if at == label]
            yield from idle_options(recipe, self.scheduler_config, steps)

    def _unrepeatable(self) -> Iterator[str]:
        """Which schedulers make other images each time, whatever the engine does."""
        for label, recipe in self.recipes.items():
            if not recipe.foreign:
                continue
            from schedcmp.engine.randomness import repeats

            if not repeats(recipe, max(n for at, n, _ in self.trajectories if at == label)):
                yield f"{label}: draws random numbers that no seed governs, so that no image of it can be made again"

    @property
    def _texts(self) -> dict[str, str]:
        """What the text encoders are given, by what it is called."""
        prompts, negatives = self.sweep.prompt, [text for text in self.sweep.negative_prompt if text]
        named = {f"prompt {name}" if len(prompts) > 1 else "prompt": text for name, text in prompts.items()}
        return named | {f"negative_prompt {i}" if i else "negative_prompt": text for i, text in enumerate(negatives)}

    @cached_property
    def supported(self) -> tuple[Cell, ...]:
        """The plan's cells that can be made."""
        if not self.unsupported:
            return self.plan.cells
        return tuple(c for c in self.plan.cells if length_of(c) in self.trajectories)

    def cost(self, cell: Cell) -> int:
        """Denoiser evaluations of a cell; for one that chooses its steps as it goes, an estimate."""
        each = self._evaluations(cell.guidance_scale, cell.negative_prompt, cell.call)
        if self.references and cell.scheduler in self.references.trajectories:
            return each * self.references.trajectories[cell.scheduler].nfe
        return each * self.trajectories[length_of(cell)].nfe

    def _evaluations(self, guidance: float, negative: str, call: str) -> int:
        """Calls of the denoiser at each timestep of a cell with this guidance, negative prompt and `Cell.call`."""
        key = (guidance, negative, call)
        if key not in self._known_evaluations:
            pipeline, configs, more = self.checkpoint.pipeline_class, self.checkpoint.config, json.loads(call or "{}")
            given = guidance_arguments(pipeline, configs, guidance, negative, more)
            self._known_evaluations[key] = evaluations(pipeline, configs, given | more)
        return self._known_evaluations[key]

    def _most_evaluations(self) -> int:
        """As `_evaluations`, of the cells that have most."""
        sweep = self.sweep
        axes = product(sweep.guidance_scale or (), sweep.negative_prompt, islice(sweep.calls, _MOST_CALLS))
        return max(self._evaluations(*values) for values in axes)

    @property
    def total_nfe(self) -> int:
        """Denoiser evaluations of the whole sweep, references apart."""
        return sum(map(self.cost, self.supported))

    @cached_property
    def device(self) -> str:
        from schedcmp.checkpoint.load import resolve_device

        try:
            return resolve_device(self.sweep.device)
        except RequestError as error:
            raise SweepError(f"{self._source.where(('device',))}: {error}") from error

    @cached_property
    def dtype(self) -> str:
        from schedcmp.checkpoint.load import resolve_dtype

        return str(resolve_dtype(self.sweep.dtype, self.device)).removeprefix("torch.")

    @cached_property
    def _vae(self) -> dict[str, str]:
        """The VAE's dtype, where it has one of its own."""
        from schedcmp.checkpoint.load import resolve_dtype

        own, dtype = self.sweep.vae_dtype, self.dtype
        name = dtype if own == "auto" else str(resolve_dtype(own, self.device)).removeprefix("torch.")
        return {} if name == dtype else {"vae_dtype": name}

    @property
    def is_compiled(self) -> bool:
        """Whether the denoiser is compiled anew for each size of its batch."""
        return bool(self.sweep.optimize.compile) or self.sweep.backend == "jax"

    @cached_property
    def _backend(self) -> dict[str, Any]:
        """What images and timings depend on where the denoiser is not torch's; with torch, nothing."""
        if self.sweep.backend == "torch":
            return {}
        from schedcmp.backend.runtime import described

        try:
            return {**described(), "solve": self.sweep.jax.solve}
        except RequestError as error:
            raise SweepError(f"{self._source.where(('backend',))}: backend: {error}") from error

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What a reader needs to know to trust or repeat the numbers."""
        return {
            "checkpoint": self.checkpoint.name,
            "fingerprint": self.checkpoint.fingerprint,
            "pipeline": self.checkpoint.pipeline_class,
            "dtype": self.dtype,
            **self._vae,
            **({} if self.sweep.safety_checker else {"safety_checker": False}),
            "optimize": self.sweep.optimize.enabled,
            **({"peft": version("peft")} if self.loras.adapters else {}),
            **({"guidance_embeds": True} if self.checkpoint.config("transformer").get("guidance_embeds") else {}),
            **({"distilled": [found.told for found in self.few_steps]} if self.few_steps else {}),
            **self._backend,
            **machine_and_versions(self.device),
        }

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """By label: the hash of all that determines an image beside the cell itself."""
        shared = {
            "fingerprint": self.checkpoint.fingerprint,
            "pipeline": self.checkpoint.pipeline_class,
            "dtype": self.dtype,
            **self._vae,
            "device": self.device.partition(":")[0],
            "torch": version("torch"),
            "diffusers": version("diffusers"),
            **self.sweep.optimize.enabled,
            **self._backend,
        }
        return {label: image_key(recipe, shared) for label, recipe in self.all_recipes.items()}

    @cached_property
    def all_recipes(self) -> Mapping[str, Recipe]:
        """By label: those of the sweep and of its references."""
        return {**self.recipes, **(self.references.recipes if self.references else {})}

    def mark(self, cell: Cell) -> str:
        """Another one for every two cells that differ in more than steps and seed."""
        entry = self.plan.entries.get(cell.scheduler) or self.all_recipes[cell.scheduler].entry
        return identity(cell, entry, self.sweep.generator).hexdigest()

    @cached_property
    def machine(self) -> str:
        """What timings depend on beside the cell: only those of one machine are comparable."""
        return machine_of(self.environment, self._backend)

    def adopt(self, environment: Mapping[str, Any], keys: Mapping[str, str]) -> None:
        """Take another process's word for what makes the images: it has the device, and maybe other versions."""
        self.device, self.dtype = environment["device"], environment["dtype"]
        self.environment, self.keys = dict(environment), keys

    @property
    def portable_sweep(self) -> Sweep:
        """The sweep, repeatable from any folder: a checkpoint on the disk has its whole path."""
        paths = {name: getattr(self.sweep, name) for name in ("clip_model", "real_images", "controlnet")}
        update: dict[str, Any] = {name: where_it_is(path) for name, path in paths.items()}
        update |= self.inputs.written
        return self.sweep.model_copy(update=update | {"model": portable(self.sweep.model)})

    def load(self) -> Any:
        """The checkpoint's pipeline. Raises CheckpointError."""
        from schedcmp.checkpoint.load import load as load_pipeline

        try:
            pipeline = load_pipeline(
                self.checkpoint,
                self.device,
                self.sweep.dtype,
                self.sweep.optimize.enabled,
                self.sweep.vae_dtype if self._vae else None,
            )
        except PartError as error:
            raise CheckpointError(f"{self._source.where(('model', *error.key))}: model: {error}") from error
        except CheckpointError:
            raise
        except RequestError as error:
            raise SweepError(f"{self._source.where(('optimize',))}: {error}") from error
        if self._backend:
            from schedcmp.backend.handover import hand_over

            hand_over(pipeline, self.sweep.jax.solve, tf32=self.sweep.optimize.tf32)
        self.wearing(pipeline)
        return pipeline

    def wearing(self, pipeline: Any) -> Callable[[Worn], None]:
        """What puts a cell's LoRAs on the pipeline, loaded once. Raises SweepError for one that does not fit."""
        if not self.loras.adapters:
            return lambda worn: None
        if self._dressed is None or self._dressed[0] is not pipeline:
            from schedcmp.checkpoint.wardrobe import Wardrobe

            self._dressed = pipeline, Wardrobe(pipeline, self.loras.adapters, self.loras.error_of)
        return self._dressed[1].wear

    def load_clip(self) -> Clip | None:
        """The CLIP model that compares with real images, where there are any. Raises CheckpointError."""
        return opened_clip(self.sweep.clip_model, progress=self._progress) if self.real_images else None

    @property
    def folder(self) -> Path:
        """Where the run goes unless the user says otherwise."""
        return Path("outputs") / str(self.sweep.name)


def prepare(path: Path, overrides: tuple[str, ...] = (), *, progress: bool = False) -> Prepared:
    """Read a sweep file and check everything that can be checked without loading weights. Raises RequestError."""
    return Prepared(*load(path, overrides), progress=progress)


def scheduler_config_of(model: str) -> dict[str, Any]:
    """The scheduler config of what a sweep calls a model, as its pipeline has it. Raises RequestError."""
    checkpoint = find_checkpoint(Model(id=model))
    return mended(checkpoint.scheduler_config, checkpoint.pipeline_class)


def _gathered(texts: Mapping[Length, Iterable[str]]) -> Iterator[tuple[str, str, str]]:
    """(label, text, where) for texts by label and steps; where is empty if it holds for all of the label's steps."""
    steps: dict[str, dict[int, None]] = {}
    found: dict[tuple[str, str], dict[int, None]] = {}
    for (label, n, _), told in texts.items():
        steps.setdefault(label, {})[n] = None
        for text in told:
            found.setdefault((label, text), {})[n] = None
    for (label, text), at in found.items():
        yield label, text, "" if at == steps[label] else f" (at {', '.join(map(str, at))} steps)"
