"""From a sweep to its cells, in the sweep's order."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Any

from schedcmp.errors import RegistryError, SweepError
from schedcmp.records import Cell
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import Registry
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.parts import Exclude
from schedcmp.sweep.select import Appraiser, Selected, Selection
from schedcmp.sweep.source import Source

MOST_CELLS = 1_000_000
Index = dict[str, int]  # a cell's position on each axis, by the sweep's key
Rule = Mapping[str, set[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do."""

    sweep: Sweep
    selected: Mapping[str, Selected]  # by label, in the sweep's order
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()  # what the user should know before trusting the comparison

    @property
    def entries(self) -> Mapping[str, Entry]:
        """By label."""
        return {label: selected.entry for label, selected in self.selected.items()}


def make_plan(
    sweep: Sweep,
    source: Source,
    registry: Registry,
    appraiser: Appraiser,
    searched: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Plan:
    """Look up the sweep's schedulers and lay out its cells.

    Args:
        searched: numbers of steps by label, where the sweep leaves them to be found.

    Raises:
        SweepError: with file:line, for a scheduler that is unknown, unsupported, or there twice.
    """
    selection = Selection(sweep, source, registry, appraiser, searched=searched)
    selected = selection.collect()
    lengths = sum(len(s.lengths) for s in selected.values())
    shared = len(sweep.prompt) * len(sweep.negative_prompt) * len(sweep.guidance_scale) * len(sweep.sizes)
    shared *= prod(map(len, sweep.call.values()))
    count = lengths * len(sweep.seeds) * shared
    if count > MOST_CELLS:
        raise SweepError(f"{source.name}: has {count:,} cells; a sweep may have {MOST_CELLS:,}. Split it, or use fewer")
    exclusion = _Exclusion(_rules(sweep, source, selection.registry))
    cells = tuple(exclusion.kept(_cells(sweep, selected)))
    if not cells:
        raise SweepError(f"{source.where(('exclude',))}: no cell is left; exclude less")
    idle = [f"exclude.{i} matches no cell" for i in exclusion.idle()]
    return Plan(sweep, selected, cells, tuple(selection.warnings + idle))


def _cells(sweep: Sweep, selected: Mapping[str, Selected]) -> Iterator[Cell]:
    index = 0
    for cell, found, place in _outer(sweep, selected):
        setting = identity(cell, found.entry, sweep.generator)
        for (i, length), (j, seed) in product(enumerate(found.lengths), enumerate(sweep.seeds)):
            if sweep.zip:
                own = {} if found.own_steps else {"steps": i, "nfe": i}
                if not _in_step(sweep, place | own | {"seeds": j}):
                    continue
            digest = setting.copy()
            digest.update(f"{length.steps}/{seed}".encode())
            yield replace(
                cell,
                id=digest.hexdigest(),
                index=index,
                steps=length.steps,
                nfe_budget=length.nfe_budget,
                seed=seed,
            )
            index += 1


def _outer(sweep: Sweep, selected: Mapping[str, Selected]) -> Iterator[tuple[Cell, Selected, Index]]:
    """Each combination of all but steps and seeds, as a cell that lacks these."""
    prompts, negatives = enumerate(sweep.prompt.items()), enumerate(sweep.negative_prompt)
    guidances, sizes = enumerate(sweep.guidance_scale), enumerate(sweep.sizes)
    axes = product(prompts, negatives, guidances, sizes, sweep.calls, selected.values())
    for (p, (name, prompt)), (n, negative), (g, guidance_scale), (s, (width, height)), call, found in axes:
        cell = Cell(
            id="",
            index=0,
            scheduler=found.entry.name,
            base=found.entry.base,
            sigma_schedule=found.entry.sigmas.name,
            steps=0,
            seed=0,
            prompt_name=name,
            prompt=prompt,
            negative_prompt=negative,
            guidance_scale=guidance_scale,
            width=width,
            height=height,
            shift=found.entry.shift,
            call=call,
        )
        place = {"prompt": p, "negative_prompt": n, "guidance_scale": g, "size": s}
        yield cell, found, place | {"schedulers": found.item, "sigmas": found.sigmas}


def _in_step(sweep: Sweep, place: Index) -> bool:
    """Whether keys that advance together stand at the same position."""
    return all(len({place[key] for key in group if key in place}) <= 1 for group in sweep.zip)


class _Exclusion:
    """The sweep's `exclude`. A rule is a bit, so that a cell meets all rules at once."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._all = (1 << len(rules)) - 1
        self._matched = 0
        self._indifferent = {key: self._all for rule in rules for key in rule}  # by key: the rules without it
        self._bits: dict[tuple[str, Any], int] = defaultdict(int)  # by key and value: the rules that name it
        for i, rule in enumerate(rules):
            for key, values in rule.items():
                self._indifferent[key] ^= 1 << i
                for value in values:
                    self._bits[key, value] |= 1 << i

    def kept(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        """The cells that no rule leaves out, numbered anew."""
        index = 0
        for cell in cells:
            hits = self._hits(cell)
            self._matched |= hits
            if not hits:
                yield cell if cell.index == index else replace(cell, index=index)
                index += 1

    def idle(self) -> list[int]:
        """The rules that have matched no cell."""
        return [i for i in range(self._all.bit_length()) if not self._matched >> i & 1]

    def _hits(self, cell: Cell) -> int:
        hits = self._all
        for key, indifferent in self._indifferent.items():
            named = indifferent
            for value in _values(cell, key):
                named |= self._bits.get((key, value), 0)
            hits &= named
            if not hits:
                break
        return hits


def _rules(sweep: Sweep, source: Source, registry: Registry) -> list[Rule]:
    rules = []
    for i, exclude in enumerate(sweep.exclude):
        try:
            rules.append(_rule(exclude, registry))
        except RegistryError as error:
            raise SweepError(f"{source.where(('exclude', i))}: exclude.{i}: {error}") from error
    return rules


def _rule(exclude: Exclude, registry: Registry) -> Rule:
    """What a cell must be to be left out, by key."""
    allowed = {key: {*values} for key, values in exclude.conditions.items()}
    if "scheduler" in allowed:
        allowed["scheduler"] = {registry.entry(name).name for name in allowed["scheduler"]}
    if "sigma_schedule" in allowed:
        allowed["sigma_schedule"] = {registry.sigma_schedule(name).name for name in allowed["sigma_schedule"]}
    return allowed


def _values(cell: Cell, key: str) -> tuple[Any, ...]:
    """What a cell is called on an axis."""
    names = {"scheduler": (cell.scheduler, cell.base), "prompt": (cell.prompt_name, cell.prompt)}
    others = {"nfe": (cell.nfe_budget,), "size": (f"{cell.width}x{cell.height}",)}
    return (names | others).get(key) or (getattr(cell, key),)


def identity(cell: Cell, entry: Entry, generator: str) -> blake2s:
    """The hash of all that a request is, except for steps and seed."""
    parts: dict[str, Any] = {
        "name": cell.scheduler,
        "class": entry.cls,
        "options": entry.options,
        "unless": entry.unless,
        "sigmas": [entry.sigmas.options, entry.sigmas.where_taken, *filter(None, [entry.sigmas.levels])],
        "prompt": [cell.prompt, cell.negative_prompt],
        "guidance_scale": cell.guidance_scale,
        "size": [cell.width, cell.height],
        "generator": generator,
        **({"shift": entry.shift} if entry.shift else {}),
        **({"call": cell.arguments} if cell.call else {}),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return blake2s(text.encode(), digest_size=8)
