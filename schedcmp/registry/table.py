"""The registry as a literal table: reading rows, finding an entry by any of its names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Any, cast

import yaml

from schedcmp.errors import RegistryError, raised_as, shown
from schedcmp.guard.foreign import IMPORT_S, contained
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry, Implementation, SigmaSchedule
from schedcmp.registry.naming import (
    Absent,
    equivalents,
    normalise,
    own_schedule,
    read_originals,
    read_schedules,
    relatives,
    sigma_names,
)

ENTRY_POINTS = "schedcmp.schedulers"
_ROW_KEYS = {f.name for f in fields(Entry)} - {"cls", "origin"} | {"class"}
__all__ = ["Registry", "builtin_registry", "normalise"]


class Registry:
    """Entries and sigma schedules by name. Immutable; `with_rows` returns a larger one."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        sigma_schedules: Mapping[str, SigmaSchedule],
        absent: Iterable[Absent] = (),
        originals: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        self.entries = dict(entries)
        self.sigma_schedules = dict(sigma_schedules)
        self.absent = tuple(absent)
        self.originals = originals or {}  # place → normalised name there → row
        self._sigma_names = sigma_names(sigma_schedules.values())
        self._names = _alias_index(self.entries.values())

    def with_rows(self, rows: Iterable[Mapping[str, Any]], origin: str) -> Registry:
        """Add rows in order, so that a row may have an earlier one as its base.

        Raises:
            RegistryError: a row without a name, with an unknown key or base, or a name that is taken.
        """
        registry = self
        for row in rows:
            entry = registry._read_row(row, origin)
            entries = registry.entries | {entry.name: entry}
            registry = Registry(entries, self.sigma_schedules, self.absent, self.originals)
        return registry

    def entry(self, name: str, sigmas: str = DEFAULT_SIGMAS) -> Entry:
        """The entry with this name, here or elsewhere, on the given sigma schedule.

        A name may end in a sigma schedule ("heun-karras", "Euler Karras"), begin with a program that is to be followed
        to the letter ("comfyui:lms"), or be the dotted path of a class.

        Raises:
            RegistryError: unknown name; the message lists the nearest ones, or says why there is no equal here.
        """
        return self._find(name).with_sigmas(self.sigma_schedule(sigmas))

    def family(self, base: str) -> str:
        """Of an entry; "other" for those of a sweep or a package."""
        entry = self.entries.get(base)
        return entry.family if entry else "other"

    def equivalents(self, entry: Entry) -> dict[str, str]:
        """What other tools call an entry, sampler and sigma schedule together, by place."""
        base = self.entries.get(entry.base) or self._original(entry.base) or entry
        return equivalents(entry.also or base.also, entry.sigmas)

    def sigma_schedule(self, name: str) -> SigmaSchedule:
        """Raises RegistryError for an unknown name."""
        try:
            found = self._sigma_names.get(normalise(name)) or own_schedule(name)
        except ValueError as error:
            raise RegistryError(str(error)) from error
        if found is None:
            self._refuse_absent(name, normalise(name))
            near = get_close_matches(normalise(name)[:100], self._sigma_names, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are: {', '.join(self.sigma_schedules)}"
            raise RegistryError(f"unknown sigma schedule {shown(name)}; {known}; or give a list of noise levels")
        return found

    def names_sigma_schedule(self, name: str) -> bool:
        """Whether `name` is a sigma schedule's and no scheduler's."""
        return normalise(name) in self._sigma_names.keys() - self._names.keys()

    def _find(self, name: str) -> Entry:
        key = normalise(name)
        if key in self._names:
            return self.entries[self._names[key]]
        for suffix, sigmas in self._sigma_names.items():
            stem = key.removesuffix(f"-{suffix}")
            if stem != key and stem in self._names:
                return self.entries[self._names[stem]].with_sigmas(sigmas)
        original = self._original(key)
        if original:
            return original
        self._refuse_absent(name, key)
        if in_diffusers(name):
            return class_entry(name)
        if re.fullmatch(r"\w+(\.\w+)+", name):
            return Entry(name=name.rpartition(".")[2], base=name.rpartition(".")[2], cls=name, origin=name)
        raise RegistryError(self._unknown(name, key))

    def _original(self, key: str) -> Entry | None:
        """The entry that runs a program's sampler as the program does, on what the program calls that; in no list."""
        place, _, rest = key.partition("-")
        rows = self.originals.get(place, {})
        if rest in rows:
            return self._read_row({**rows[rest], "name": key}, "schedcmp")
        theirs = {normalise(name): s for s in self.sigma_schedules.values() for name in s.also.get(place, ())}
        for suffix, sigmas in {**self._sigma_names, **theirs}.items() if rows else ():
            stem = rest.removesuffix(f"-{suffix}")
            if stem != rest and stem in rows:
                return self._read_row({**rows[stem], "name": f"{place}-{stem}"}, "schedcmp").with_sigmas(sigmas)
        return None

    def _refuse_absent(self, name: str, key: str) -> None:
        """Raises RegistryError for another tool's name that has no equal, alone or with a sampler or schedule."""
        found = [absent for absent in self.absent if any(self._names_absent(key, absent.kind, n) for n in absent.names)]
        if found:
            reasons = (f"{a.names[0]} ({a.place}): {a.reason}; the nearest is {a.nearest}" for a in found)
            raise RegistryError(
                "; ".join(reasons) if len(found) > 1 else next(reasons).replace(found[0].names[0], name, 1)
            )

    def _names_absent(self, key: str, kind: str, name: str) -> bool:
        """Whether a key is this name, or it with one of the other kind, which may be absent itself."""
        known = normalise(name)
        own = self._sigma_names if kind == "scheduler" else self._names
        rest = key.removeprefix(f"{known}-") if kind == "scheduler" else key.removesuffix(f"-{known}")
        if rest == key:
            return key == known
        others = (normalise(n) for absent in self.absent if absent.kind != kind for n in absent.names)
        return rest in own or rest in others

    def _unknown(self, name: str, key: str) -> str:
        if key in self._sigma_names:
            return f"unknown scheduler {shown(name)}; it is a sigma schedule, to follow a name, as in euler-{key}"
        parts = [part.strip() for part in re.split(r"[,;|]", name) if part.strip()]
        if len(parts) > 1 and all(normalise(part) in self._names for part in parts):
            return f"{shown(name)} are several names; write a list: [{', '.join(parts)}]"
        names = self._near(key[:100])
        hint = f"; did you mean {' or '.join(names)}?" if names else ""
        return f"unknown scheduler {shown(name)}{hint} (`schedcmp list-compatible` lists all)"

    def _near(self, key: str) -> list[str]:
        """Up to three entries that a wrong name may mean: by its spelling if one is very near, by its words if one is a
        family's, else by its spelling."""
        sigmas = [f"{e}-{s}" for e in self.entries for s in self._sigma_names if s != DEFAULT_SIGMAS]
        misspelt = get_close_matches(key, [*self._names, *sigmas], n=3, cutoff=0.9)
        ending = next((s for s in self._sigma_names if key.endswith(f"-{s}") and s != DEFAULT_SIGMAS), "")
        related = relatives(key.removesuffix(f"-{ending}") if ending else key, self._names)
        suffix = f"-{self._sigma_names[ending].name}" if ending else ""
        found = [self._names.get(n, n) for n in misspelt] + [f"{self._names[n]}{suffix}" for n in related]
        near = [] if found else get_close_matches(key, [*self._names, *sigmas], n=5, cutoff=0.6)
        return list(dict.fromkeys([*found, *(self._names.get(n, n) for n in near)]))[:3]

    def _read_row(self, row: Mapping[str, Any], origin: str) -> Entry:
        name, unknown = str(row.get("name", "")), sorted(set(row) - _ROW_KEYS)
        if not normalise(name):
            raise RegistryError(f"{origin}: a scheduler entry needs a name, got {dict(row)!r}")
        if unknown:
            raise RegistryError(f"{origin}: entry {name!r} has unknown keys: {', '.join(unknown)}")
        if name in self.entries:
            raise RegistryError(f"{origin}: there is already an entry named {name!r}; choose another name")
        if ("class" in row) == ("base" in row):
            raise RegistryError(f"{origin}: entry {name!r} needs either `class` or `base`")
        return self._derived(row, origin) if "base" in row else self._defined(row, origin)

    def _defined(self, row: Mapping[str, Any], origin: str) -> Entry:
        noise = False if origin == "schedcmp" else None  # our own rows say so where it is true
        return self._finished(Entry(name=row["name"], cls=str(row["class"]), noise=noise, origin=origin), row)

    def _derived(self, row: Mapping[str, Any], origin: str) -> Entry:
        base = self.entry(str(row["base"]))
        options = {**base.options, **row.get("options", {})}
        fresh = replace(base, name=row["name"], options=options, also={}, origin=origin)
        return self._finished(fresh, {k: v for k, v in row.items() if k not in ("options", "base")})

    def _finished(self, entry: Entry, row: Mapping[str, Any]) -> Entry:
        """`entry` with the plain fields of `row`; `base` becomes the name without its sigma schedule."""
        plain = {k: v for k, v in row.items() if k not in ("name", "class", "base", "sigmas", "also")}
        sigmas = self.sigma_schedule(row["sigmas"]).for_entry(entry.base) if "sigmas" in row else entry.sigmas
        also = {place: tuple(names) for place, names in row.get("also", {}).items()}
        for key in {"flow", "any_levels"} & plain.keys():
            plain[key] = Implementation(plain[key]["class"], plain[key].get("options", {}))
        own_name = entry.name.removesuffix(f"-{sigmas.name}")
        return replace(entry, **plain, sigmas=sigmas, also=also, base=own_name)


def class_entry(name: str) -> Entry:
    """A scheduler class of diffusers that no row has, by its own name."""
    return Entry(name=name, base=name, cls=name, origin="diffusers")


def in_diffusers(name: str) -> bool:
    """Whether diffusers has a scheduler class of this name, by its tables, which tell it without importing one."""
    return name in getattr(import_module("diffusers.schedulers"), "_class_to_module", {})


def _alias_index(entries: Iterable[Entry]) -> dict[str, str]:
    """Every normalised name → entry name. An entry's own name wins over anybody's alias."""
    entries = list(entries)
    index: dict[str, str] = {}
    for e in entries:
        aliases = [alias for names in e.also.values() for alias in names]
        if e.origin == "schedcmp" and e.base == e.name and "." not in e.cls:
            aliases += [e.class_name, e.class_name.removesuffix("Scheduler")]
        for alias in aliases:
            index.setdefault(normalise(alias), e.name)
    return index | {normalise(e.name): e.name for e in entries}


@cache
def builtin_registry() -> Registry:
    """The table that ships with schedcmp, and what installed packages add to it.

    A package adds entries through the entry-point group `schedcmp.schedulers`: an object that is a scheduler
    class, a row, or a list of rows in the table's format.
    """
    table = _read_table("schedulers.yaml")
    absent = [Absent(**row) for row in _read_table("names.yaml")["absent"]]
    schedules, originals = read_schedules(table["sigma_schedules"]), read_originals(_read_table("originals.yaml"))
    registry = Registry({}, schedules, absent, originals).with_rows(table["schedulers"], "schedcmp")
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        registry = registry.with_rows(_plugin_rows(point), f"entry point {point.name} ({point.value})")
    return registry


def _read_table(name: str) -> Any:
    text = files("schedcmp.registry").joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _plugin_rows(point: EntryPoint) -> list[Mapping[str, Any]]:
    told = f"the entry point {point.name!r} ({point.value}) of {ENTRY_POINTS} does not load"
    with raised_as(RegistryError, told, Exception), contained(IMPORT_S):  # it must name itself, whatever it raised
        found = point.load()
    if isinstance(found, type):
        return [{"name": point.name, "class": f"{found.__module__}.{found.__qualname__}"}]
    return cast("list[Mapping[str, Any]]", [found] if isinstance(found, Mapping) else list(found))
