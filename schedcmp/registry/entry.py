"""What the registry holds: entries, and the sigma schedules they can be combined with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DEFAULT_SIGMAS = "default"


@dataclass(frozen=True, slots=True)
class SigmaSchedule:
    """A way to space noise levels: constructor options of a scheduler class, or a list of levels brought into one.

    A list is brought in through the class's Karras option, see `spacing.levels.listed`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # the class must take these
    where_taken: Mapping[str, Any] = field(default_factory=dict)  # set where the class has them
    levels: str = ""  # a function of spacing.levels
    flow: str = ""  # a function of spacing.flow_levels, or a list: what the schedule is on flow matching
    not_on_flow: str = ""  # why it is nothing there
    by_entry: Mapping[str, SigmaSchedule] = field(default_factory=dict)  # for these entries it is another; else default
    by_pipeline: Mapping[str, SigmaSchedule] = field(default_factory=dict)  # by how the pipeline's class name starts
    source: str = ""
    needs: str | None = None
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""

    def for_entry(self, base: str) -> SigmaSchedule:
        """What this schedule is for an entry: itself, unless it depends on the entry."""
        return self.by_entry.get(base, SigmaSchedule(DEFAULT_SIGMAS)) if self.by_entry else self


@dataclass(frozen=True, slots=True)
class Implementation:
    """A class or sampler function that does what an entry's class does, for other models or noise levels."""

    cls: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A named method: a class and the options that define it, and its other implementations.

    `options` win over the checkpoint's scheduler config, `unless` fills what that config does not name.
    """

    name: str
    cls: str  # a diffusers class name, or a dotted path
    options: Mapping[str, Any] = field(default_factory=dict)
    unless: Mapping[str, Any] = field(default_factory=dict)
    sigmas: SigmaSchedule = SigmaSchedule(DEFAULT_SIGMAS)
    base: str = ""  # the entry's name before its sigma schedule
    family: str = "other"
    order: int | None = None
    noise: bool | None = None  # None: not known (an entry from elsewhere)
    nfe: str = ""
    needs: str | None = None
    seed: str | None = None
    steady: int = 0
    suits: str | None = None
    shift: str = ""  # instead of the checkpoint's, see `spacing.flow.shifted`
    flow: Implementation | None = None  # for flow matching
    any_levels: Implementation | None = None  # for what neither `cls` nor `flow` can do; takes any list of levels
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""
    origin: str = "schedcmp"

    @property
    def class_name(self) -> str:
        return self.cls.rpartition(".")[2]

    def implementations(self, *, flow: bool) -> Iterator[Entry]:
        """The entry as each of its implementations, the preferred one first."""
        if flow and self.flow:
            yield self._as(self.flow)
        yield self
        if self.any_levels:
            yield self._as(self.any_levels)

    def _as(self, other: Implementation) -> Entry:
        return replace(self, cls=other.cls, options={**other.options, **self.options}, needs=None, seed=None)

    def with_sigmas(self, sigmas: SigmaSchedule) -> Entry:
        """The same solver on another sigma schedule; `default` means the entry as it is."""
        sigmas = sigmas.for_entry(self.base)
        if sigmas.name in (DEFAULT_SIGMAS, self.sigmas.name):
            return self
        return replace(self, name=f"{self.base}-{sigmas.name}", sigmas=sigmas, also={})

    def with_shift(self, shift: str) -> Entry:
        """The same, with another shift of flow matching's noise levels than the checkpoint's."""
        return replace(self, name=f"{self.name} shift={shift}", shift=shift)
