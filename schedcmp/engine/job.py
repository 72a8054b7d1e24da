"""What an engine needs to make a cell: a copy of the pipeline with a scheduler and generator of its own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import ceil
from typing import Any, Literal

import torch

from schedcmp.axes import arguments_of
from schedcmp.checkpoint.emphasis import Embedder
from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.guarded import checked, seeded, within
from schedcmp.engine.processors import Layers
from schedcmp.engine.randomness import drawn_from
from schedcmp.engine.unconditional import watched
from schedcmp.guard.foreign import contained
from schedcmp.guard.private import execution_device, knowing_its_device
from schedcmp.pipelines.arguments import as_taken, called_by, tuples
from schedcmp.pipelines.guidance import guidance_arguments, is_for_one_image
from schedcmp.pipelines.videos import makes_video
from schedcmp.records import Cell, Worn
from schedcmp.registry.build import Recipe
from schedcmp.samplers.global_random import Own, sources, torch_sources
from schedcmp.samplers.running import seed_from

CONTROLNET = "controlnet"  # the component; its calls are packed as a denoiser's, and are no NFE
PARKED = (*DENOISERS, CONTROLNET, "vae")  # components whose calls are packed
WARMUP_STEPS = 2
_GUIDERS = "diffusers.guiders"


@dataclass(frozen=True)
class Workbench:
    """A pipeline that was loaded once, and the resolved entries of a sweep."""

    pipeline: Any  # a diffusers DiffusionPipeline; its own scheduler is never used
    recipes: Mapping[str, Recipe]  # by the cells' `scheduler`
    generator: Literal["cpu", "device"] = "cpu"
    step_limit: float = 60.0  # seconds of a step of a scheduler from elsewhere
    images: Callable[[Cell], Mapping[str, Any]] = lambda cell: {}  # arguments of the call that a cell's images are
    wear: Callable[[Worn], None] = lambda worn: None  # puts a cell's LoRAs on the pipeline
    # Open while a cell runs alone, such as `checkpoint.cache.caching`
    cached: Callable[[Any, Cell], AbstractContextManager[None]] = lambda pipeline, cell: nullcontext()
    # What lanes have computed of schedulers' coefficients, for `guarded.remembered`
    coefficients: dict[Hashable, Any] = field(default_factory=dict)
    # By scheduler and steps: the global random generators that are drawn from
    _draws: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        return execution_device(self.pipeline)

    def job(self, *cells: Cell) -> tuple[Any, dict[str, Any]]:
        """A shallow copy of the pipeline with a fresh scheduler, and the arguments of its `__call__`.

        State in a shared scheduler (diffusers issues 1606, 9362) or a used generator would make a cell's image
        depend on the cells before it.

        Args:
            cells: one, or several that differ only by their seeds: images of one call, each with its generator.
        """
        self.wear(cells[0].dress)
        pipeline = copy.copy(self.pipeline)
        pipeline.__class__ = self._class
        arguments = self._arguments(*cells)
        scheduler = self.recipes[cells[0].scheduler].build(cells[0].seed)
        own = self._guarded(checked(seeded(scheduler, arguments["generator"])), cells[0], arguments)
        hand_over(pipeline, self.pipeline.scheduler, own)
        _part_guiders(pipeline)
        if getattr(scheduler, "needs_unconditional", False):
            scheduler.unconditional_output = watched(pipeline).unconditional
        return pipeline, arguments

    def own_random(self, cell: Cell) -> Callable[[], AbstractContextManager[None]]:
        """What to open while a cell's pipeline runs: torch's global generators as its seed has them, where it is given
        images. Some pipelines draw from these what they make of one (Stable Diffusion 3's)."""
        return Own(torch_sources(self.device), cell.seed).in_charge if cell.images else nullcontext

    def _guarded(self, scheduler: Any, cell: Cell, arguments: Mapping[str, Any]) -> Any:
        """The scheduler; one from elsewhere with a limit of time, and global random numbers of the cell's own."""
        recipe, key = self.recipes[cell.scheduler], (cell.scheduler, cell.steps)
        if not recipe.foreign:
            return scheduler
        if key not in self._draws:
            self._draws[key] = drawn_from(recipe, cell.steps)
        drawn = [source for source in sources(self.device) if source.name in self._draws[key]]
        limited = partial(contained, self.step_limit, self.step_limit)
        if not drawn:
            return within(scheduler, limited)
        own = Own(drawn, seed_from(arguments["generator"]))

        @contextmanager
        def guard() -> Iterator[None]:
            with limited(), own.in_charge():
                yield

        return within(scheduler, guard)

    def warm_up(self, cell: Cell) -> Cell:
        """What to run before `cell` is timed."""
        return replace(cell, steps=min(cell.steps, ceil(WARMUP_STEPS / (cell.strength or 1))))

    @cached_property
    def _class(self) -> type:
        return knowing_its_device(self.pipeline, self.device)

    @cached_property
    def _takes(self) -> frozenset[str]:
        """The arguments of the pipeline's call."""
        return frozenset(inspect.signature(self.pipeline.__call__).parameters)

    @cached_property
    def _tuples(self) -> list[str]:
        return tuples(type(self.pipeline).__name__)

    def _config(self, part: str) -> Mapping[str, Any]:
        """The config of one of the pipeline's models; empty where there is none."""
        config = getattr(getattr(self.pipeline, part, None), "config", None)
        return config if isinstance(config, Mapping) else {}

    @cached_property
    def layers(self) -> Layers:
        """The attention layers of the models whose calls are packed."""
        return Layers(self.pipeline, PARKED)

    @property
    def makes_several(self) -> bool:
        """Whether the pipeline makes several images in one call, each as it would alone."""
        return "num_images_per_prompt" in self._takes and not is_for_one_image(type(self.pipeline).__name__)

    def _arguments(self, cell: Cell, *more: Cell) -> dict[str, Any]:
        where = self.device if self.generator == "device" else "cpu"
        generators = [torch.Generator(where).manual_seed(c.seed) for c in (cell, *more)]
        size = {"width": cell.width, "height": cell.height}
        settings = guidance_arguments(
            type(self.pipeline).__name__, self._config, cell.guidance_scale, cell.negative_prompt, cell.arguments
        )
        return {
            **self._texts(cell, settings.pop("negative_prompt", None)),
            "num_inference_steps": cell.steps,
            "generator": generators if more else generators[0],
            **({"num_images_per_prompt": len(generators)} if more else {}),
            **{name: value for name, value in settings.items() if name in self._takes},
            **{name: pixels for name, pixels in size.items() if pixels and name in self._takes},
            **({"output_type": "pil"} if makes_video(type(self.pipeline).__name__) else {}),
            **self.images(cell),
            **called_by(type(self.pipeline).__name__, arguments_of(cell)),
            **as_taken(self._tuples, cell.arguments),
        }

    def _texts(self, cell: Cell, negative: str | None) -> Mapping[str, Any]:
        """The prompts of a call, or what they were read as."""
        if cell.prompt_syntax:
            read = self._embedder.arguments(cell.prompt, negative, cell.worn)
            return {name: value for name, value in read.items() if name in self._takes}
        takes = negative is not None and "negative_prompt" in self._takes
        return {"prompt": cell.prompt, **({"negative_prompt": negative} if takes else {})}

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.pipeline)


def hand_over(pipeline: Any, before: Any, scheduler: Any) -> None:
    """Give a copy of a pipeline its scheduler, and the pipelines that it is made of, of which it gets copies, too."""
    pipeline.scheduler = scheduler
    for name, inner in list(vars(pipeline).items()):
        if before is not None and getattr(inner, "scheduler", None) is before:
            inner = vars(pipeline)[name] = copy.copy(inner)
            hand_over(inner, before, scheduler)


def _part_guiders(pipeline: Any) -> None:
    """Give a copy of a pipeline guiders of its own, which remember the step that they are at and averages of others."""
    for name in getattr(pipeline, "components", ()):
        part = getattr(pipeline, name, None)
        if type(part).__module__.startswith(_GUIDERS):
            vars(pipeline)[name] = copy.deepcopy(part)
