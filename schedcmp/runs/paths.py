"""Where a run's images go: each cell has a place of its own, whatever plan asked for it.

Folders tell apart what a sweep has several of. A run's folder may hold images of earlier plans, with another prompt or
other options under the same name: then the new images go where none of those are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schedcmp.axes import FOLDERS, Axis, values_of
from schedcmp.records import Cell
from schedcmp.store.held import Held, without_end
from schedcmp.store.images import image_path
from schedcmp.sweep.document import Sweep


class ImagePaths:
    """Cell → its image's place, relative to the run's folder."""

    def __init__(self, sweep: Sweep, cells: Iterable[Cell], held: Held, mark: Callable[[Cell], str]) -> None:
        """
        Args:
            cells: those that are to be made.
            held: what the folder has already; a cell that is made again keeps its place.
            mark: another one for every two cells that differ in more than steps and seed.
        """
        self._held, self._mark = held, mark
        values = {axis.name: {_value(axis, own) for own in axis.unrolled(sweep)} for axis in FOLDERS}
        self._axes = [axis for axis in FOLDERS if len(values[axis.name]) > 1]
        self._by_text = False  # an automatic name of a prompt stands for another one in another plan
        self._marked: set[str] = set()
        new = [cell for cell in cells if cell.id not in held.paths]
        if self._taken(new):
            self._axes = [axis for axis in FOLDERS if len(values[axis.name] | held.values[axis.name]) > 1]
            self._by_text = True
            self._marked = self._taken(new)

    def __call__(self, cell: Cell, end: str = ".png") -> str:
        return self._held.paths.get(cell.id) or self._path(cell) + end

    def _taken(self, cells: Iterable[Cell]) -> set[str]:
        """Labels of the cells whose places are others'."""
        settings: dict[str, tuple[Any, ...]] = {}  # by their folders
        found = set()
        for cell in cells:
            path, setting = self._path(cell), _setting(cell)
            known = settings.setdefault(path.rsplit("/", 2)[0], setting)
            if known != setting or self._held.owners.get(path, cell.id) != cell.id:
                found.add(cell.scheduler)
        return found

    def _path(self, cell: Cell) -> str:
        folders = [
            getattr(cell, axis.fields[0]) if axis.by_name and self._by_text else axis.folder(cell)
            for axis in self._axes
        ]
        mark = f"-{self._mark(cell)}" if cell.scheduler in self._marked else ""
        top = "references" if cell.reference_solver else "images"
        path = image_path(cell, folders, top, (cell.reference_solver or cell.scheduler) + mark)
        return without_end(path)


def _value(axis: Axis, own: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(own[name] if own.get(name) is not None else "" for name in axis.fields)


def _setting(cell: Cell) -> tuple[Any, ...]:
    """All but steps and seed."""
    names = (getattr(cell, axis.by_name) for axis in FOLDERS if axis.by_name)
    return (cell.scheduler, *names, *values_of(cell, FOLDERS))
