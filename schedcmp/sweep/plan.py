"""From a sweep to its cells, in the sweep's order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2s
from itertools import product
from typing import Any

from schedcmp.errors import RegistryError, SweepError
from schedcmp.records import Cell
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import Registry
from schedcmp.sweep.document import EntrySpec, Sweep
from schedcmp.sweep.source import Source

EVERYTHING = "*"
MOST_CELLS = 1_000_000
Judge = Callable[[Entry], tuple[str, str]]  # (status, reason), as registry.compat.judge


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do."""

    sweep: Sweep
    entries: Mapping[str, Entry]  # by label, in the sweep's order
    steps: Mapping[str, tuple[int, ...]]  # by label
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()  # what the user should know before trusting the comparison


def make_plan(sweep: Sweep, source: Source, registry: Registry, judge: Judge) -> Plan:
    """Look up the sweep's schedulers and lay out its cells.

    `judge` says what an entry is worth on the checkpoint: what is unsupported or needs a package is refused where it
    was named and left out where it comes from "*" or from the `sigmas` axis.

    Raises:
        SweepError: with file:line, for a scheduler that is unknown, unsupported, or there twice.
    """
    found, warnings = _Selection(sweep, source, registry, judge).collect()
    entries = {entry.name: entry for entry, _ in found}
    steps = {entry.name: own or sweep.steps for entry, own in found}
    count = sum(map(len, steps.values())) * len(sweep.seeds) * len(sweep.prompt) * len(sweep.guidance_scale)
    if count > MOST_CELLS:
        raise SweepError(f"{source.name}: has {count:,} cells; a sweep may have {MOST_CELLS:,}. Split it, or use fewer")
    return Plan(sweep, entries, steps, tuple(_cells(sweep, entries, steps)), tuple(warnings))


class _Selection:
    """The entries that a sweep names, with the steps of those that have their own."""

    def __init__(self, sweep: Sweep, source: Source, registry: Registry, judge: Judge) -> None:
        self.sweep, self.source, self.registry, self.judge = sweep, source, registry, judge
        self.warnings: list[str] = []
        self.found: dict[str, tuple[Entry, tuple[int, ...] | None]] = {}
        self.named: set[str] = set()

    def collect(self) -> tuple[list[tuple[Entry, tuple[int, ...] | None]], list[str]]:
        for i, item in enumerate(self.sweep.schedulers):
            try:
                self._add(item)
            except RegistryError as error:
                raise SweepError(f"{self.source.where(('schedulers', i))}: schedulers.{i}: {error}") from error
        if not self.found:
            where = self.source.where(("schedulers",))
            raise SweepError(f"{where}: schedulers: none of them can run: {'; '.join(self.warnings)}")
        return list(self.found.values()), self.warnings

    def _add(self, item: str | EntrySpec) -> None:
        named = item != EVERYTHING
        own_steps = item.steps if isinstance(item, EntrySpec) else None
        for base in self._bases(item):
            for sigmas in self._sigma_names():
                entry = base.with_sigmas(self.registry.sigma_schedule(sigmas))
                if self._accept(entry, must=named and entry == base):
                    self._put(entry, own_steps, named and entry == base)

    def _bases(self, item: str | EntrySpec) -> Iterable[Entry]:
        if item == EVERYTHING:
            return self.registry.entries.values()
        if isinstance(item, str):
            return [self.registry.entry(item)]
        row = item.model_dump(by_alias=True, exclude_none=True, exclude={"steps"})
        if item.base is None and item.cls is None:
            known = self.registry.entry(item.name)
            row = {**row, "base": known.name, "name": item.name if item.options else known.name}
            if not item.options:
                return [known.with_sigmas(self.registry.sigma_schedule(item.sigmas or "default"))]
        self.registry = self.registry.with_rows([row], "sweep")
        return [self.registry.entry(str(row["name"]))]

    def _sigma_names(self) -> tuple[str, ...]:
        try:
            return tuple(self.registry.sigma_schedule(name).name for name in self.sweep.sigmas)
        except RegistryError as error:
            raise SweepError(f"{self.source.where(('sigmas',))}: sigmas: {error}") from error

    def _accept(self, entry: Entry, must: bool) -> bool:
        status, reason = self.judge(entry)
        if status in ("unsupported", "needs"):
            if must:
                raise RegistryError(reason)
            self.warnings.append(f"left out: {reason}")
            return False
        if status == "wrong":
            if not must:
                return False
            self.warnings.append(f"{entry.name} runs, but its images are not to be trusted: {reason}")
        return True

    def _put(self, entry: Entry, steps: tuple[int, ...] | None, named: bool) -> None:
        """Sigma schedules and "*" may lead to an entry that is there already; naming one twice is a mistake."""
        if named and entry.name in self.named:
            raise RegistryError(f"{entry.name} is there twice")
        if named:
            self.named.add(entry.name)
        if named or entry.name not in self.found:
            self.found[entry.name] = (entry, steps)


def _cells(sweep: Sweep, entries: Mapping[str, Entry], steps: Mapping[str, tuple[int, ...]]) -> Iterator[Cell]:
    index = 0
    axes = product(sweep.prompt.items(), sweep.guidance_scale, entries.values())
    for (prompt_name, prompt), guidance_scale, entry in axes:
        first = Cell(
            id="",
            index=0,
            scheduler=entry.name,
            base=entry.base,
            sigma_schedule=entry.sigmas.name,
            steps=0,
            seed=0,
            prompt_name=prompt_name,
            prompt=prompt,
            negative_prompt=sweep.negative_prompt,
            guidance_scale=guidance_scale,
            width=sweep.width,
            height=sweep.height,
        )
        identity = _identity(first, entry, sweep.generator)
        for n, seed in product(steps[entry.name], sweep.seeds):
            digest = identity.copy()
            digest.update(f"{n}/{seed}".encode())
            yield replace(first, id=digest.hexdigest(), index=index, steps=n, seed=seed)
            index += 1


def _identity(cell: Cell, entry: Entry, generator: str) -> blake2s:
    """The hash of all that a request is, except for steps and seed."""
    parts: dict[str, Any] = {
        "name": cell.scheduler,
        "class": entry.cls,
        "options": entry.options,
        "unless": entry.unless,
        "sigmas": [entry.sigmas.options, entry.sigmas.where_taken],
        "prompt": [cell.prompt, cell.negative_prompt],
        "guidance_scale": cell.guidance_scale,
        "size": [cell.width, cell.height],
        "generator": generator,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return blake2s(text.encode(), digest_size=8)
