"""What is to be pasted: a finished cell, and what its run's store says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schedcmp.errors import RegistryError, RequestError
from schedcmp.files import adapter_name
from schedcmp.records import Cell, StoredCell
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.store.reading import Results
from schedcmp.store.several import SeveralRuns

SPELLING = "spelling"  # the name under which the store keeps what `paste.spelling` gives
_ROW = ("name", "base", "class", "options", "sigmas")  # keys of a sweep's own entry that are a registry row's


@dataclass(frozen=True, slots=True)
class Subject:
    """A cell and its run."""

    stored: StoredCell
    sweep: Mapping[str, Any]
    environment: Mapping[str, Any]
    entry: Entry | None  # None: an entry of the sweep's own that its name alone does not tell
    spelling: Mapping[str, Any] | None = None  # as `paste.spelling` gives it; None: of a run that has not kept it

    @property
    def cell(self) -> Cell:
        return self.stored.cell

    @property
    def config(self) -> Mapping[str, Any]:
        """The scheduler's, as it ran."""
        return self.stored.result.scheduler_config

    @property
    def model(self) -> Mapping[str, Any]:
        return dict(self.sweep["model"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as made, pixels."""
        return self.stored.result.width or 0, self.stored.result.height or 0

    @property
    def loras(self) -> list[tuple[str, float]]:
        """What its LoRAs' files are probably called elsewhere, and their weights."""
        return [(f"{adapter_name(place, file)}.safetensors", weight) for place, file, weight, _ in self.cell.adapters]

    def names(self, place: str) -> tuple[str, str]:
        """What a program calls sampler and sigma schedule; the latter empty for the default.

        Raises:
            RequestError: it has no such sampler or schedule.
        """
        own = self.entry and builtin_registry().entries.get(self.entry.base, self.entry)
        changed = own is not None and self.entry is not None and dict(own.options) != dict(self.entry.options)
        samplers = own.also.get(place) if own and not changed else None
        if not samplers or self.entry is None:
            raise RequestError(f"{place} has no sampler that is {self.cell.scheduler}; --as diffusers always has one")
        sigmas = self.entry.sigmas
        if sigmas.name == DEFAULT_SIGMAS:
            return samplers[0], ""
        if place not in sigmas.also:
            raise RequestError(f"{place} has no schedule that is {sigmas.name}; --as diffusers always has one")
        return samplers[0], sigmas.also[place][0]


@dataclass(frozen=True, slots=True)
class Told:
    """What a run's store says of all its cells."""

    sweep: Mapping[str, Any]
    environment: Mapping[str, Any]
    spelling: Mapping[str, Any] | None

    @classmethod
    def by(cls, results: Results) -> Told:
        """Raises RunFolderError for a run that cannot be read."""
        return cls(results.sweep(), results.meta("environment") or {}, results.meta(SPELLING))

    def subject(self, stored: StoredCell) -> Subject:
        return Subject(stored, self.sweep, self.environment, _entry(stored.cell, self.sweep), self.spelling)


def subject(results: Results | SeveralRuns, stored: StoredCell) -> Subject:
    """Raises RunFolderError for a run that cannot be read."""
    run, own = results.own(stored)
    return Told.by(run).subject(own)


def _entry(cell: Cell, sweep: Mapping[str, Any]) -> Entry | None:
    registry = builtin_registry()
    rows = [{key: spec[key] for key in _ROW if key in spec} for spec in sweep["schedulers"] if isinstance(spec, dict)]
    try:
        for row in rows:
            if row["name"] == cell.base and row["name"] not in registry.entries:
                registry = registry.with_rows([row], "sweep")
        entry = registry.entry(cell.base)
        return entry if entry.sigmas.name == cell.sigma_schedule else registry.entry(cell.base, cell.sigma_schedule)
    except RegistryError:
        return None
