"""Which schedulers a remake has: what the image was made by, the same method as it is here, and some around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.remake.made import Made

_AROUND = ("euler", "euler-a", "dpmpp-2m-karras", "unipc")


def schedulers(made: Made) -> list[Any]:
    """Items of a sweep's `schedulers`, the image's own first; what is not found is lost in `made`."""
    own = [made.entry] if made.entry is not None else [*_named(made)]
    seen = {_entry(item).name for item in own if isinstance(item, str)}
    return [*own, *(name for name in _AROUND if name not in seen)]


def _named(made: Made) -> Iterator[str]:
    """By the program's own way of running it, where that is another one, and by the method's name."""
    if not made.sampler:
        made.lose("the sampler", why="none is named")
        return
    plain = [f"{made.sampler} {made.schedule}".strip(), made.sampler]
    theirs = _first([f"{made.place}:{name}" for name in plain]) if made.place else None
    method = _first(plain)
    found = [name for name in (theirs, method) if name]
    if not found:
        made.lose("the sampler", plain[0], _why(plain[0]))
    elif made.schedule and found[0].endswith(made.sampler):
        made.lose("the schedule", made.schedule, "no such one is here; the sampler's own stands for it")
    yield from {_entry(name).name: name for name in found}.values()


def _first(names: list[str]) -> str | None:
    return next((name for name in names if _known(name)), None)


def _known(name: str) -> bool:
    try:
        return _entry(name).origin == "schedcmp"  # no dotted path, which would run somebody's code
    except RegistryError:
        return False


def _why(name: str) -> str:
    try:
        builtin_registry().entry(name)
    except RegistryError as error:
        return str(error)
    return "no such one is here"


def _entry(name: str) -> Entry:
    return builtin_registry().entry(name)
