"""What the axes make of a cell: its task, its part of an id, and what images that are compared have in common."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from schedcmp.axes.axis import Axis
from schedcmp.axes.table import AXES, INPUTS, OPTIONAL, PLAIN, SETTING

if TYPE_CHECKING:
    from schedcmp.records import Cell

SETTING_FIELDS = tuple(name for axis in SETTING for name in axis.fields)
_WIDTH, _HEIGHT = map(SETTING_FIELDS.index, AXES["size"].fields)

_setting = attrgetter(*SETTING_FIELDS)
_plain_task = attrgetter(*(name for axis in PLAIN for name in axis.fields), "seed")
_task_extras = tuple(axis for axis in INPUTS if axis.optional)


def task_of(cell: Cell) -> tuple[Any, ...]:
    """All but the scheduler and its steps, as plain data: deterministic schedulers of one task head for one image."""
    return (*_plain_task(cell), *(_extra(axis, cell) for axis in _task_extras if axis.is_set(cell)))


def _extra(axis: Axis, cell: Cell) -> str:
    told = axis.request(cell)
    return json.dumps(told["call"] if axis.name == "call" else told)


def request_of(cell: Cell) -> dict[str, Any]:
    """What an id says of a cell beside its scheduler, steps and seed."""
    told = (axis.request(cell) for axis in (*PLAIN, *OPTIONAL) if axis.is_set(cell))
    return {name: value for part in told for name, value in part.items()}


def values_of(cell: Cell, axes: Iterable[Axis]) -> tuple[Any, ...]:
    """A cell's fields of these axes."""
    return tuple([value for axis in axes for value in axis.of(cell)])


def arguments_of(cell: Cell) -> dict[str, Any]:
    """What of a cell's axes the pipeline's call is handed as it is."""
    return {axis.argument: getattr(cell, axis.fields[0]) for axis in OPTIONAL if axis.argument and axis.is_set(cell)}


class Setting(tuple[Any, ...]):
    """What images that are compared must have in common: a value of each of `SETTING_FIELDS`."""

    __slots__ = ()

    @classmethod
    def of(cls, cell: Cell) -> Setting:
        return cls(_setting(cell))

    def __getattr__(self, name: str) -> Any:
        if name not in SETTING_FIELDS:
            raise AttributeError(name)
        return self[SETTING_FIELDS.index(name)]

    def fields(self) -> dict[str, Any]:
        """By name, without those of axes that it has not."""
        return {name: getattr(self, name) for axis in SETTING if axis.is_set(self) for name in axis.fields}

    def columns(self) -> dict[str, Any]:
        """A column an axis, of those that it has; a size as "64x64"."""
        own = {axis.name: axis.of(self) for axis in SETTING if axis.is_set(self)}
        return {name: value[0] if len(value) == 1 else "x".join(map(str, value)) for name, value in own.items()}

    def sized(self, width: int | None, height: int | None) -> Setting:
        """The same at another size, in pixels."""
        values = list(self)
        values[_WIDTH], values[_HEIGHT] = width, height
        return Setting(values)

    def words(self, among: Collection[Setting]) -> list[str]:
        """What tells it from those that it is `among`, an axis each, as in "guidance 7.5"."""
        varying = [axis for axis in SETTING if len({axis.of(one) for one in among}) > 1]
        return list(filter(None, (axis.brief(*axis.of(self)) for axis in varying)))
