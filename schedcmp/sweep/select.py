"""Which entries a sweep names, each on which sigma schedules, and how many steps each takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from schedcmp.errors import RegistryError, SweepError, raised_as
from schedcmp.registry.entry import Entry, SigmaSchedule
from schedcmp.registry.table import Registry
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.parts.entries import EntrySpec
from schedcmp.sweep.parts.steps import Search
from schedcmp.sweep.source import Source

if TYPE_CHECKING:
    from schedcmp.registry.appraisal import Appraisal

EVERYTHING = "*"
Index = dict[str, int]  # a position on each axis, by the sweep's key
MOST_ENTRIES = 1_000
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Length:
    """How long a cell's trajectory is: its steps, and the evaluations that it may cost where the sweep says so."""

    steps: int
    nfe_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """An entry of a sweep and where it comes from: the positions of its item, its sigma schedule and its shift."""

    entry: Entry
    lengths: tuple[Length, ...]
    place: Index
    refusal: str = ""  # why its cells cannot be made
    own_steps: bool = False


@dataclass
class Selection:
    """Collects a sweep's entries in order.

    What is unsupported, or needs a package, is refused where it was named. On the sweep's `sigmas` its cells are there
    and say why they cannot be made, and "*" leaves it out.
    """

    sweep: Sweep
    source: Source
    registry: Registry
    appraiser: Appraisal
    warnings: list[str] = field(default_factory=list)
    found: dict[str, Selected] = field(default_factory=dict)
    searched: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # steps by label, where they are looked for
    _named: dict[str, int] = field(default_factory=dict)  # label → the item that names it
    _left_out: dict[str, dict[str, str]] = field(default_factory=dict)  # by kind of reason: those that "*" leaves out
    _works: dict[str, str] = field(default_factory=dict)  # what entries of "*" do → the first label that does it

    def collect(self) -> Mapping[str, Selected]:
        """By label. Raises SweepError, with file:line."""
        self._refuse_too_many()
        if not self.source.lenient:
            self._refuse_shifts()
        for i, item in enumerate(self.sweep.schedulers):
            with raised_as(SweepError, f"{self.source.where(('schedulers', i))}: schedulers.{i}", RegistryError):
                self._add(i, item)
        self.warnings += map(_told_left_out, self._left_out.values())
        if all(selected.refusal for selected in self.found.values()):
            where = self.source.where(("schedulers",))
            reasons = dict.fromkeys([*self.warnings, *(selected.refusal for selected in self.found.values())])
            raise SweepError(f"{where}: schedulers: none of them can run: {'; '.join(reasons)}")
        return self.found

    def _refuse_too_many(self) -> None:
        entries = 0
        for i, item in enumerate(self.sweep.schedulers):
            entries += 1 if isinstance(item, str) else variants(item.options)
            if entries > MOST_ENTRIES:
                where = self.source.where(("schedulers", i))
                raise SweepError(
                    f"{where}: schedulers.{i}: a sweep may have {MOST_ENTRIES:,} schedulers, and with this it has more"
                )

    def _refuse_shifts(self) -> None:
        for shift in self.sweep.shift or ():
            if refusal := self.appraiser.shift_refusal(shift):
                raise SweepError(f"{self.source.at('shift')}: {refusal}")

    def _add(self, place: int, item: str | EntrySpec) -> None:
        own_steps = item.steps if isinstance(item, EntrySpec) else None
        shifts = enumerate(self.sweep.shift or ("",))
        for base, (i, sigmas), (j, shift) in product(self._bases(item), enumerate(self._sigmas()), shifts):
            at = {"schedulers": place, "sigmas": i, "shift": j}
            if not in_step(self.sweep, at):
                continue
            entry = base.with_sigmas(sigmas)
            entry = entry.with_shift(shift) if shift else entry
            refusal = self._refusal(entry, item == EVERYTHING, swept=entry != base)
            if refusal is not None and not (item == EVERYTHING and self._is_there(entry)):
                given = own_steps or self.searched.get(entry.name)
                lengths = self._lengths(entry, given) if not refusal else _plain_lengths(self.sweep, given)
                selected = Selected(entry, lengths, at, refusal, own_steps is not None)
                self._put(selected, named=item != EVERYTHING and entry == base)

    def _is_there(self, entry: Entry) -> bool:
        """Whether an earlier entry of "*" makes the same images."""
        return self._works.setdefault(self.appraiser.work(entry), entry.name) != entry.name

    def _bases(self, item: str | EntrySpec) -> Iterable[Entry]:
        if item == EVERYTHING:
            known = self.registry.entries.values()
            return [*self.appraiser.unlisted(known), *known]
        if isinstance(item, str):
            return [self.registry.entry(item)]
        return [self._own(row, label) for row, label in _rows(item)]

    def _own(self, row: dict[str, Any], label: str) -> Entry:
        if "base" not in row and "class" not in row:  # a known entry, changed by options that its label tells
            known = self.registry.entry(row["name"])
            if not row["options"]:
                return known.with_sigmas(self.registry.sigma_schedule(row.get("sigmas", "default")))
            row = {**row, "base": known.name}
        self.registry = self.registry.with_rows([row | {"name": label}], "sweep")
        return self.registry.entry(label)

    def _sigmas(self) -> tuple[SigmaSchedule, ...]:
        with raised_as(SweepError, self.source.at("sigmas"), RegistryError):
            return tuple(self.registry.sigma_schedule(name) for name in self.sweep.sigmas)

    def _refusal(self, entry: Entry, everything: bool, *, swept: bool) -> str | None:
        """Why the entry's cells cannot be made ("" if they can), or None to leave the entry out."""
        status, reason = self.appraiser.judge(entry)
        if entry.shift and (refusal := self.appraiser.shift_refusal(entry.shift)):
            status, reason = "unsupported", refusal
        if status in ("unsupported", "needs"):
            if everything:
                kind = reason.replace(entry.name, "").replace(entry.class_name, "")
                self._left_out.setdefault(kind, {})[entry.name] = reason
                return None
            if not swept and not self.source.lenient:
                raise RegistryError(reason)
            return reason
        if status == "wrong":
            if everything:
                return None
            self.warnings.append(f"{entry.name} runs, but its images are not to be trusted: {reason}")
        return ""

    def _lengths(self, entry: Entry, own_steps: tuple[int, ...] | None) -> tuple[Length, ...]:
        if own_steps or not self.sweep.nfe:
            return _plain_lengths(self.sweep, own_steps)
        found: dict[int, Length] = {}
        for budget in self.sweep.nfe:
            steps = self.appraiser.most_steps(entry, budget)
            if steps == 0:
                self.warnings.append(f"left out: {entry.name} has no number of steps that costs {budget} NFE or fewer")
            elif steps in found:
                self.warnings.append(f"left out: {entry.name} at {budget} NFE is {entry.name} at {steps} steps again")
            else:
                found[steps] = Length(steps, budget)
        return tuple(found.values())

    def _put(self, selected: Selected, named: bool) -> None:
        """Sigma schedules and "*" may lead to an entry that is there already; naming one twice is a mistake."""
        name = selected.entry.name
        if named and self._named.setdefault(name, selected.place["schedulers"]) != selected.place["schedulers"]:
            raise RegistryError(f"{name} is there twice")
        if named or name not in self.found:
            self.found[name] = selected


def in_step(sweep: Sweep, place: Index) -> bool:
    """Whether keys that advance together stand at the same position."""
    return all(len({place[key] for key in group if key in place}) <= 1 for group in sweep.zip)


def _told_left_out(reasons: Mapping[str, str]) -> str:
    """Entries that are left out for one reason, in one line."""
    first, *more = reasons
    names = ", ".join(more[:_NAMED]) + (f" and {len(more) - _NAMED} more" if len(more) > _NAMED else "")
    return f"left out: {reasons[first]}{f'; likewise {names}' if more else ''}"


def _plain_lengths(sweep: Sweep, own_steps: tuple[int, ...] | None) -> tuple[Length, ...]:
    """As given; a step for each evaluation where only a budget is."""
    given = own_steps or (sweep.steps.first if isinstance(sweep.steps, Search) else sweep.steps)
    return tuple(Length(n) for n in given) if given else tuple(Length(n, n) for n in sweep.nfe or ())


def variants(options: Mapping[str, Any]) -> int:
    """How many entries the options make that have several values."""
    return prod(len(value) for value in options.values() if isinstance(value, list))


def _rows(item: EntrySpec) -> Iterator[tuple[dict[str, Any], str]]:
    """A registry row and its label for each combination of the options that have several values."""
    row = item.model_dump(by_alias=True, exclude_none=True, exclude={"steps"})
    several = {name: value for name, value in item.options.items() if isinstance(value, list)}
    empty = next((name for name, values in several.items() if not values), None)
    if empty:
        raise RegistryError(f"{item.name}: options.{empty} is an empty list; give a value, or [[]] for a list")
    of_its_own = item.base or item.cls
    for values in product(*several.values()):
        chosen = dict(zip(several, values, strict=True))
        told = chosen if of_its_own else {**item.options, **chosen}
        label = " ".join([item.name, *(f"{name}={value}" for name, value in told.items())])
        yield {**row, "options": {**item.options, **chosen}}, label
