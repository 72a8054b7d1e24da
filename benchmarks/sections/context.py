"""What every section is given, and what it makes its cells with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch

from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.records import Cell
from schedcmp.registry.build import Recipe, mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from sections.models import PROMPT, Model

REGISTRY = builtin_registry()
# What the diffusers documentation shows, one of each kind
FOURTEEN = (
    "ddim", "ddpm", "pndm", "lms", "euler", "euler-a", "heun", "kdpm2",
    "dpmpp-2m", "dpmpp-2m-karras", "dpmpp-2m-sde", "dpmpp-2s", "deis", "unipc",
)  # fmt: skip


@dataclass
class Context:
    """Where and for how long to measure."""

    device: torch.device
    dtype: torch.dtype
    small: bool  # shapes of a dry run
    out: Path
    until: float = 0.0  # the section's end, as `time.monotonic` counts
    section: str = ""
    found: dict[str, Any] = field(default_factory=dict)  # by section, this one's so far included

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def note(self, **results: Any) -> None:
        """Keep results of the present section, at once: a later part of it may never end."""
        self.found.setdefault(self.section, {}).update(results)
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=1, default=str))

    @property
    def left(self) -> float:
        """Seconds of the section's share."""
        return self.until - time.monotonic()

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def now(self) -> float:
        """Seconds, when the device has done all that it was asked to."""
        self.wait()
        return time.perf_counter()


@dataclass
class Loaded:
    """A model on the device, and the schedulers that suit it."""

    model: Model
    context: Context
    dtype: torch.dtype

    @cached_property
    def pipeline(self) -> Any:
        return self.model.pipeline(self.context.device, self.dtype, self.context.small)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Of all entries that are right for it."""
        scheduler = self.pipeline.scheduler
        config = mended({"_class_name": type(scheduler).__name__, **scheduler.config}, type(self.pipeline).__name__)
        return {e.name: resolve(e, config) for e in self._entries if judge(e, config)[0] == "ok"}

    @property
    def _entries(self) -> list[Any]:
        if self.context.small:  # those that are named; judging all takes longer than a dry run
            return [REGISTRY.entry(name) for name in (*FOURTEEN, "flow-euler")]
        return [*REGISTRY.entries.values(), REGISTRY.entry("dpmpp-2m-karras")]

    def cells(self, schedulers: Iterable[str], steps: int, seeds: Iterable[int]) -> list[Cell]:
        size = self.model.small_size if self.context.small else self.model.size
        guidance = self.model.guidance
        plain = [name for name in schedulers if name in self.recipes]
        return [
            Cell(f"{name}/{n}/{seed}", i, name, name, "default", n, seed, "p", PROMPT, "", guidance, size, size)
            for i, (name, n, seed) in enumerate(product(plain, [steps], seeds))
        ]

    def bench(self, generator: Any = "cpu") -> Workbench:
        return Workbench(self.pipeline, self.recipes, generator)

    def packed(self, max_batch: int | None = None, generator: Any = "cpu", **options: Any) -> PackedEngine:
        return PackedEngine(self.bench(generator), self.cost, max_batch, **options)

    def cost(self, cell: Cell) -> int:
        return preflight(self.recipes[cell.scheduler], cell.steps).nfe
