"""The finished images of an earlier run as inputs of this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from schedcmp.errors import RegistryError, SchedcmpError, shown
from schedcmp.files import is_address
from schedcmp.inputs.pictures import MOST_FILES, Picture, known, opened, place_of
from schedcmp.records import StoredCell
from schedcmp.registry.table import builtin_registry
from schedcmp.store.images import name_of
from schedcmp.store.several import Shown
from schedcmp.store.several import opened as opened_run
from schedcmp.sweep.keys import OfRun
from schedcmp.sweep.plan import names_on

_SHOWN = 8  # values of an axis


def pictures_of_run(wanted: OfRun, folder: Path) -> tuple[list[Picture], OfRun]:
    """The pictures that are wanted, in the order of their run, and what names the same ones from anywhere and later.

    Args:
        folder: where relative names are looked for first, before the current folder.

    Raises:
        ValueError: there is no such run, none of its images is wanted, or one is not what the run has made.
    """
    where = _folder(wanted.run, folder)
    try:
        with opened_run(where) as run:
            cells = _chosen([stored for stored in run.cells() if stored.result.status == "ok"], wanted)
            pictures = [_picture(run, stored) for stored in cells]
    except SchedcmpError as error:
        raise ValueError(str(error)) from error
    return pictures, OfRun(run=str(where.absolute()), file=tuple(str(stored.image_path) for stored in cells))


def _folder(name: str, beside: Path) -> Path:
    if is_address(name):
        raise ValueError(f"{name} is an address; images are taken of a run on a disk, so copy it there first")
    path = place_of(name, beside)
    if path is None or not path.is_dir():
        raise ValueError(f"there is no folder {name} (seen from {beside.absolute()}); give that of a run")
    return path


def _chosen(cells: Sequence[StoredCell], wanted: OfRun) -> list[StoredCell]:
    found = [stored for stored in cells if stored.image_path]
    for key, values in _conditions(wanted).items():
        left = [stored for stored in found if not values.isdisjoint(_called(stored, key))]
        if not left and found:
            there = list(dict.fromkeys(str(_called(stored, key)[0]) for stored in found if _called(stored, key)))
            more = ", ..." if len(there) > _SHOWN else ""
            told = f"has no finished image with {key} {', '.join(shown(value) for value in values)}"
            raise ValueError(f"{wanted.run} {told}; it has: {', '.join(there[:_SHOWN])}{more}")
        found = left
    if not 0 < len(found) <= MOST_FILES:
        told = "finish that run first" if not found else "choose some of them, as by scheduler, steps or seed"
        raise ValueError(f"{wanted.run} has {len(found):,} finished images, and 1 to {MOST_FILES:,} are taken; {told}")
    return found


def _conditions(wanted: OfRun) -> dict[str, set[Any]]:
    """What an image's cell must be called, by axis; a scheduler's name may be another program's."""
    allowed = {key: {*values} for key, values in wanted.conditions.items()}
    allowed["scheduler"] = {name for given in allowed.get("scheduler", ()) for name in (given, *_known(given))}
    return {key: values for key, values in ({"file": {*(wanted.file or ())}} | allowed).items() if values}


def _known(scheduler: str) -> Iterator[str]:
    with suppress(RegistryError):  # it is one of that run's own
        yield builtin_registry().entry(scheduler).name


def _called(stored: StoredCell, key: str) -> tuple[Any, ...]:
    return (stored.image_path,) if key == "file" else names_on(stored.cell, key)


def _picture(run: Shown, stored: StoredCell) -> Picture:
    name = str(stored.image_path)
    path = run.folder / name
    if not run.files.is_intact(name, stored.result.image_sha256, thorough=True):  # follows no link
        raise ValueError(f"{path} is not what its run has made; repeat that run's command, which makes it again")
    return known(path, opened(path), name_of(name))
