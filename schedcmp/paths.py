"""Where a run's images go: each cell has a place of its own, whatever plan asked for it.

Folders tell apart what a sweep has several of. A run's folder may hold images of earlier plans, with another prompt or
other options under the same name: then the new images go where none of those are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from schedcmp.records import Cell
from schedcmp.store.held import Held
from schedcmp.store.images import image_path
from schedcmp.sweep.document import Sweep
from schedcmp.truth.reference import LABEL as REFERENCE

Setting = tuple[str, str, str, str, float, int | None, int | None, str]
# What a sweep may have several of, and its folder; a scheduler has one always.
_AXES: dict[str, Callable[[Cell], str]] = {
    "prompt": lambda c: c.prompt_name,
    "negative_prompt": lambda c: f"negative-{c.negative_prompt or 'none'}",
    "size": lambda c: f"size-{c.width}x{c.height}" if c.width or c.height else "size-own",
    "guidance_scale": lambda c: f"guidance-{_number(c.guidance_scale)}",
    "call": lambda c: "call-" + "-".join(f"{name}-{value}" for name, value in c.arguments.items()),
}


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
        values: dict[str, set[object]] = {
            "prompt": {*sweep.prompt.values()},
            "negative_prompt": {*sweep.negative_prompt},
            "size": {*sweep.sizes},
            "guidance_scale": {*sweep.guidance_scale},
            "call": {*sweep.calls},
        }
        self._axes = {axis for axis, own in values.items() if len(own) > 1}
        self._by_text = False  # an automatic name of a prompt stands for another one in another plan
        self._marked: set[str] = set()
        new = [cell for cell in cells if cell.id not in held.paths]
        if self._taken(new):
            self._axes = {axis for axis, own in values.items() if len(own | held.values[axis]) > 1}
            self._by_text = True
            self._marked = self._taken(new)

    def __call__(self, cell: Cell) -> str:
        return self._held.paths.get(cell.id) or self._path(cell)

    def _taken(self, cells: Iterable[Cell]) -> set[str]:
        """Labels of the cells whose places are others'."""
        settings: dict[str, Setting] = {}  # by their folders
        found = set()
        for cell in cells:
            path, setting = self._path(cell), _setting(cell)
            known = settings.setdefault(path.rsplit("/", 2)[0], setting)
            if known != setting or self._held.owners.get(path, cell.id) != cell.id:
                found.add(cell.scheduler)
        return found

    def _path(self, cell: Cell) -> str:
        folders = [folder(cell) for axis, folder in _AXES.items() if axis in self._axes]
        if self._by_text and "prompt" in self._axes:
            folders[0] = cell.prompt
        mark = f"-{self._mark(cell)}" if cell.scheduler in self._marked else ""
        if not mark and not cell.scheduler.startswith(REFERENCE):
            return image_path(cell, folders)
        top = "references" if cell.scheduler.startswith(REFERENCE) else "images"
        return image_path(replace(cell, scheduler=cell.scheduler.removeprefix(REFERENCE) + mark), folders, top)


def _setting(cell: Cell) -> Setting:
    """All but steps and seed."""
    return (
        cell.scheduler, cell.prompt_name, cell.prompt, cell.negative_prompt,
        cell.guidance_scale, cell.width, cell.height, cell.call,
    )  # fmt: skip


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
