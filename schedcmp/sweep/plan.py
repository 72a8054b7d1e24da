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
from typing import TYPE_CHECKING, Any

from schedcmp.axes import AXES, INPUTS, Axis, request_of
from schedcmp.errors import RegistryError, SweepError, raised_as
from schedcmp.records import Cell
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import Registry
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.keys import Exclude
from schedcmp.sweep.select import Index, Selected, Selection, in_step
from schedcmp.sweep.source import Source

if TYPE_CHECKING:
    from schedcmp.registry.appraisal import Appraisal

MOST_CELLS = 1_000_000
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
    appraiser: Appraisal,
    searched: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Plan:
    """Look up the sweep's schedulers and lay out its cells; its LoRAs and its guidance are found already.

    Args:
        searched: numbers of steps by label, where the sweep leaves them to be found.

    Raises:
        SweepError: with file:line, for a scheduler that is unknown, unsupported, or there twice.
    """
    selection = Selection(sweep, source, registry, appraiser, searched=searched)
    selected = selection.collect()
    lengths = sum(len(s.lengths) for s in selected.values())
    count = lengths * len(sweep.seeds) * prod(n for axis in INPUTS for n in axis.lengths(sweep).values())
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
                if not in_step(sweep, place | own | {"seeds": j}):
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
    axes = (zip(_places(axis, sweep), axis.unrolled(sweep), strict=True) for axis in INPUTS)
    for inputs in product(*axes):
        place = {key: i for own, _ in inputs for key, i in own.items()}
        values = {name: value for _, own in inputs for name, value in own.items()}
        for found in selected.values():
            entry = found.entry
            cell = Cell(
                id="",
                index=0,
                scheduler=entry.name,
                base=entry.base,
                sigma_schedule=entry.sigmas.name,
                steps=0,
                seed=0,
                shift=entry.shift,
                **values,
            )
            yield cell, found, place | found.place


def _places(axis: Axis, sweep: Sweep) -> Iterator[Index]:
    """Where each value of an axis stands, by all that `zip` may call it."""
    lengths = axis.lengths(sweep)
    for i, places in enumerate(product(*map(range, lengths.values()))):
        yield {**dict(zip(lengths, places, strict=True)), axis.key: i}


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
            for value in names_on(cell, key):
                named |= self._bits.get((key, value), 0)
            hits &= named
            if not hits:
                break
        return hits


def _rules(sweep: Sweep, source: Source, registry: Registry) -> list[Rule]:
    rules = []
    for i, exclude in enumerate(sweep.exclude):
        with raised_as(SweepError, f"{source.where(('exclude', i))}: exclude.{i}", RegistryError):
            rules.append(_rule(exclude, registry))
    return rules


def _rule(exclude: Exclude, registry: Registry) -> Rule:
    """What a cell must be to be left out, by key."""
    allowed = {key: {*values} for key, values in exclude.conditions.items()}
    if "scheduler" in allowed:
        allowed["scheduler"] = {registry.entry(name).name for name in allowed["scheduler"]}
    if "sigma_schedule" in allowed:
        allowed["sigma_schedule"] = {registry.sigma_schedule(name).name for name in allowed["sigma_schedule"]}
    return allowed


def names_on(cell: Cell, key: str) -> tuple[Any, ...]:
    """What a cell is called on an axis, or on a part of one."""
    axis, _, part = key.partition(".")
    found: Any = AXES[axis].known_as(cell)
    return tuple(found.get(part, ()) if part else found)


def identity(cell: Cell, entry: Entry, generator: str) -> blake2s:
    """The hash of all that a request is, except for steps and seed."""
    parts: dict[str, Any] = {
        "name": cell.scheduler,
        "class": entry.cls,
        "options": entry.options,
        "unless": entry.unless,
        "sigmas": [entry.sigmas.options, entry.sigmas.where_taken, *filter(None, [entry.sigmas.levels])],
        "generator": generator,
        **request_of(cell),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return blake2s(text.encode(), digest_size=8)
