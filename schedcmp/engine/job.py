"""What an engine needs to make a cell: a copy of the pipeline with a scheduler and generator of its own."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch

from schedcmp.engine.unconditional import watched
from schedcmp.records import Cell
from schedcmp.registry.build import Recipe

WARMUP_STEPS = 2


@dataclass(frozen=True)
class Workbench:
    """A pipeline that was loaded once, and the resolved entries of a sweep."""

    pipeline: Any  # a diffusers DiffusionPipeline; its own scheduler is never used
    recipes: Mapping[str, Recipe]  # by the cells' `scheduler`
    generator: Literal["cpu", "device"] = "cpu"

    @cached_property
    def device(self) -> torch.device:
        return torch.device(self.pipeline._execution_device)  # with model offload, the models wait elsewhere

    @cached_property
    def coefficients(self) -> dict[Hashable, Any]:
        """What lanes have computed of schedulers' coefficients, for `engine.coefficients`."""
        return {}

    def job(self, *cells: Cell) -> tuple[Any, dict[str, Any]]:
        """A shallow copy of the pipeline with a fresh scheduler, and the arguments of its `__call__`.

        State in a shared scheduler (diffusers issues 1606, 9362) or a used generator would make a cell's image
        depend on the cells before it.

        Args:
            cells: one, or several that differ only by their seeds: images of one call, each with its generator.
        """
        pipeline = copy.copy(self.pipeline)
        pipeline.__class__ = self._class
        arguments = self._arguments(*cells)
        scheduler = self.recipes[cells[0].scheduler].build(cells[0].seed)
        pipeline.scheduler = seeded(scheduler, arguments["generator"])
        if getattr(scheduler, "needs_unconditional", False):
            scheduler.unconditional_output = watched(pipeline).unconditional
        return pipeline, arguments

    def warm_up(self, cell: Cell) -> Cell:
        """What to run before `cell` is timed."""
        return replace(cell, steps=min(cell.steps, WARMUP_STEPS))

    @cached_property
    def _class(self) -> type:
        """The pipeline's class, knowing its devices: diffusers looks through all modules at every question, which
        takes longer than many a scheduler's step."""
        pipeline = self.pipeline
        known = {"device": self.device, "_execution_device": self.device}
        return type(type(pipeline).__name__, (type(pipeline),), known)

    @cached_property
    def _takes(self) -> frozenset[str]:
        """The arguments of the pipeline's call."""
        return frozenset(inspect.signature(self.pipeline.__call__).parameters)

    @property
    def makes_several(self) -> bool:
        """Whether the pipeline makes several images in one call."""
        return "num_images_per_prompt" in self._takes

    def _arguments(self, cell: Cell, *more: Cell) -> dict[str, Any]:
        where = self.device if self.generator == "device" else "cpu"
        generators = [torch.Generator(where).manual_seed(c.seed) for c in (cell, *more)]
        size = {"width": cell.width, "height": cell.height}
        # Those that the plan says are inert where the pipeline does not take them
        settings = {"guidance_scale": cell.guidance_scale, "negative_prompt": cell.negative_prompt or None}
        return {
            "prompt": cell.prompt,
            "num_inference_steps": cell.steps,
            "generator": generators if more else generators[0],
            **({"num_images_per_prompt": len(generators)} if more else {}),
            **{name: value for name, value in settings.items() if value is not None and name in self._takes},
            **{name: pixels for name, pixels in size.items() if pixels},
        }


def seeded(scheduler: Any, generator: torch.Generator | list[torch.Generator]) -> Any:
    """The scheduler, drawing its noise from the cells' generators even where a pipeline does not hand them on.

    Those of Stable Diffusion 3 and Flux do not, so that noise would come from the global generator.
    """
    if hasattr(scheduler, "generator"):  # a sampler function may draw before the first step
        scheduler.generator = generator
    step = scheduler.step
    more = {"generator": generator} if "generator" in inspect.signature(step).parameters else {}

    @functools.wraps(step)  # pipelines inspect its signature
    def watched_step(*args: Any, **kwargs: Any) -> Any:
        answer = step(*args, **more | kwargs)
        before, after = (*args, kwargs.get("sample"))[min(2, len(args))], answer[0]
        if isinstance(before, torch.Tensor) and after.shape != before.shape:
            what = f"{tuple(after.shape)} for latents of shape {tuple(before.shape)}"
            raise ValueError(f"{type(scheduler).__name__}.step returned {what}: mend it, or take another scheduler")
        return answer

    scheduler.step = watched_step
    return scheduler
