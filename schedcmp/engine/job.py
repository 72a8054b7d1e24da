"""What an engine needs to make one cell: a copy of the pipeline with a scheduler and generator of its own."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from schedcmp.records import Cell
from schedcmp.registry.build import Recipe


@dataclass(frozen=True, slots=True)
class Workbench:
    """A pipeline that was loaded once, and the resolved entries of a sweep."""

    pipeline: Any  # a diffusers DiffusionPipeline; its own scheduler is never used
    recipes: Mapping[str, Recipe]  # by the cells' `scheduler`
    generator: Literal["cpu", "device"] = "cpu"
    _unused: dict[str, Any] = field(default_factory=dict)  # a scheduler of each recipe

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipeline.device)

    def job(self, cell: Cell) -> tuple[Any, dict[str, Any]]:
        """A shallow copy of the pipeline with a fresh scheduler, and the arguments of its `__call__`.

        State in a shared scheduler (diffusers issues 1606, 9362) or a used generator would make a cell's image
        depend on the cells before it.
        """
        pipeline = copy.copy(self.pipeline)
        arguments = self._arguments(cell)
        pipeline.scheduler = _seeded(self._fresh_scheduler(cell), arguments["generator"])
        return pipeline, arguments

    def _fresh_scheduler(self, cell: Cell) -> Any:
        """A copy of one that was never used: some constructors take 50 ms, longer than many a step."""
        recipe = self.recipes[cell.scheduler]
        if recipe.entry.seed:
            return recipe.build(cell.seed)
        if cell.scheduler not in self._unused:
            self._unused[cell.scheduler] = recipe.build()
        return copy.deepcopy(self._unused[cell.scheduler])

    def _arguments(self, cell: Cell) -> dict[str, Any]:
        where = self.device if self.generator == "device" else "cpu"
        size = {"width": cell.width, "height": cell.height}
        return {
            "prompt": cell.prompt,
            "num_inference_steps": cell.steps,
            "guidance_scale": cell.guidance_scale,
            "generator": torch.Generator(where).manual_seed(cell.seed),
            **({"negative_prompt": cell.negative_prompt} if cell.negative_prompt else {}),
            **{name: pixels for name, pixels in size.items() if pixels},
        }


def _seeded(scheduler: Any, generator: torch.Generator) -> Any:
    """The scheduler, drawing its noise from the cell's generator even where a pipeline does not hand it on.

    Those of Stable Diffusion 3 and Flux do not, so that noise would come from the global generator.
    """
    step = scheduler.step
    if "generator" in inspect.signature(step).parameters:

        @functools.wraps(step)  # pipelines inspect its signature
        def seeded(*args: Any, **kwargs: Any) -> Any:
            return step(*args, **{"generator": generator} | kwargs)

        scheduler.step = seeded
    return scheduler
