"""What of a sweep was distilled for few steps, and whether the sweep samples it as its authors do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schedcmp.checkpoint.adapters import Adapter
from schedcmp.checkpoint.marks import titles
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.records import Cell
from schedcmp.registry.distilled import Distilled, distilled


@dataclass(frozen=True, slots=True)
class FewSteps:
    """A checkpoint or a LoRA, and what it is."""

    name: str
    kind: Distilled
    digest: str = ""  # of a LoRA

    def has(self, cell: Cell) -> bool:
        """Whether a cell is made with it."""
        return not self.digest or self.digest in dict(cell.worn)

    @property
    def told(self) -> str:
        """In a sentence."""
        other = f" ({self.kind.name})" if self.kind.name != self.name else ""
        return f"{self.name}{other} is {self.kind.told}: {self.kind.source}"

    def leaves(self, cells: Iterable[Cell]) -> str:
        """What of a sweep's cells is not as it is made for, in a sentence; empty if nothing is."""
        own = [cell for cell in cells if self.has(cell)]
        found = self.kind.outside((c.steps for c in own), (c.guidance_scale for c in own))
        if own and not {c.base for c in own} & {*self.kind.samplers}:
            found.append(f"no {' or '.join(self.kind.samplers)}")
        return f"{self.told}; this sweep has {', '.join(found)} with it" if found else ""


def few_steps(checkpoint: Checkpoint, adapters: Iterable[Adapter] = ()) -> Iterator[FewSteps]:
    """Those that are known, the checkpoint first."""
    own: Mapping[str, Any] = checkpoint.scheduler_config

    def config(part: str) -> Mapping[str, Any]:
        return own if part == "scheduler" else checkpoint.config(part)

    names = [checkpoint.name, checkpoint.spec.model, *titles(checkpoint.path)]
    if kind := distilled(names, checkpoint.pipeline_class, config):
        yield FewSteps(checkpoint.name, kind)
    for adapter in adapters:
        path = adapter.file.path
        if kind := distilled([adapter.place, path.name, *titles(path)], checkpoint.pipeline_class):
            yield FewSteps(adapter.place, kind, adapter.digest)
