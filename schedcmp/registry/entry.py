"""What the registry holds: entries, and the sigma schedules they can be combined with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DEFAULT_SIGMAS = "default"


@dataclass(frozen=True, slots=True)
class SigmaSchedule:
    """A way to space noise levels, as constructor options of a scheduler class."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # the class must take these
    where_taken: Mapping[str, Any] = field(default_factory=dict)  # set where the class has them
    source: str = ""
    needs: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A named scheduler: a class and the options that define it.

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
    suits: str | None = None
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""
    origin: str = "schedcmp"

    @property
    def class_name(self) -> str:
        return self.cls.rpartition(".")[2]

    def with_sigmas(self, sigmas: SigmaSchedule) -> Entry:
        """The same solver on another sigma schedule; `default` means the entry as it is."""
        if sigmas.name in (DEFAULT_SIGMAS, self.sigmas.name):
            return self
        return replace(self, name=f"{self.base}-{sigmas.name}", sigmas=sigmas, also={}, note=self.note)
