"""What there is to know of one axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from schedcmp.axes.words import NOTHING, text

if TYPE_CHECKING:
    from schedcmp.axes.setting import Setting
    from schedcmp.records import Cell
    from schedcmp.sweep.document import Sweep

Value = str | int | float
INPUT_ROLES = ("content", "setting")  # of what a cell is asked for beside its scheduler, steps and noise
_INNERMOST = 4  # of the inputs
_BY_NAME: Any = None  # a default that follows from the rest of the row


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that a sweep may have several of. Most of a row follows from its name.

    Attributes:
        name: in `grid` and `exclude`.
        title: its head on the page.
        role: "content" is what images show, and what schedulers are compared over; "setting" is what images that are
            compared have in common. Both, with the noise, are a cell's task. "solver" is what is compared.
        key: of the sweep, and in `zip`; the name by default.
        fields: of `Cell`, its value; the name by default.
        by_name: the field of `Cell` that has a short name for the value. In another plan it may name another value.
        short: in words and names of files; the name by default.
        subject: begins "... changed nothing"; None: another axis tells its values apart.
        optional: an image need not have it. Without it there is no column, no word of it and no part in an id.
        shown: above grids and in a cell's details also where it does not vary.
        depth: in folders and among pages of grids, 0 outermost; None: none of its own, as another axis implies it.
        digits: at least so many in names of files.
        prose: a text that people write; above a grid it has a line of its own.
        kept: a run's store has it; else it is what tells runs apart that are read as one.
        argument: of the pipeline's call, where the value is handed over as it is.
        pictured: the value is an image, of which a run's folder has a small copy.
        named: `exclude` takes names, not values as the key has them.
        rule: what `exclude` takes, for people; by default what the key does.
        unrolled: sweep → its values, each as fields of `Cell`.
        lengths: sweep → how many values there are, by what `zip` may call them; all combinations make the axis.
        known_as: cell → what `exclude` may call its value; or by the part of the axis that it names, as texts.
        show: fields → the value in a grid.
        label: that value → words, as in "20 steps".
        brief: fields → words for one part of a setting; by default the label.
        folder: cell → its folder, where a sweep has several values.
        request: cell → what an id is made of, by name.
        columns: cell → its columns in results.csv.
        again: cell → keys of a sweep that has this value alone, None for one that it must not have; by default none of
            what is compared, as a scheduler's name alone does not say it.
    """

    name: str
    title: str
    role: Literal["solver", "noise", "content", "setting"]
    key: str = _BY_NAME
    fields: tuple[str, ...] = _BY_NAME
    by_name: str = ""
    short: str = _BY_NAME
    subject: str | None = None
    optional: bool = False
    shown: bool = False
    depth: int | None = None
    digits: int = 1
    prose: bool = False
    kept: bool = True
    argument: str = ""
    pictured: bool = False
    named: bool = False
    rule: str = _BY_NAME
    unrolled: Callable[[Sweep], Iterable[Mapping[str, Any]]] = _BY_NAME
    lengths: Callable[[Sweep], Mapping[str, int]] = _BY_NAME
    known_as: Callable[[Cell], Any] = _BY_NAME
    show: Callable[..., Value] = lambda value: value
    label: Callable[[Any], str] = _BY_NAME
    brief: Callable[..., str] = _BY_NAME
    folder: Callable[[Cell], str] = _BY_NAME
    request: Callable[[Cell], Mapping[str, Any]] = _BY_NAME
    columns: Callable[[Cell], Mapping[str, Any]] = _BY_NAME
    again: Callable[[Cell], Mapping[str, Any]] = _BY_NAME

    def __post_init__(self) -> None:
        key, fields, short = self.key or self.name, self.fields or (self.name,), self.short or self.name
        own = fields[0]
        defaults: dict[str, Any] = {
            "key": key,
            "fields": fields,
            "short": short,
            "rule": f"as in the sweep's `{key}`",
            "subject": f"The {short}" if self.role in INPUT_ROLES else None,
            "depth": _INNERMOST if self.role in INPUT_ROLES else None,
            "unrolled": lambda sweep: [{own: value} for value in getattr(sweep, key) or ()] or [{}],
            "lengths": lambda sweep: {key: len(values)} if (values := getattr(sweep, key)) is not None else {},
            "known_as": lambda cell: (getattr(cell, own),),
            "label": lambda value: f"{short} {text(value)}",
            "brief": lambda *values: self.label(self.show(*values)),
            "folder": lambda cell: f"{short}-{text(self.shown_of(cell))}",
            "request": lambda cell: {self.name: getattr(cell, own)},
            "columns": lambda cell: {name: getattr(cell, name) for name in filter(None, (self.by_name, *fields))},
            "again": lambda cell: {key: [getattr(cell, own)]} if self.role != "solver" and self.is_set(cell) else {},
        }
        for name, default in defaults.items():
            if getattr(self, name) is _BY_NAME:
                object.__setattr__(self, name, default)

    def zipped(self, sweep: Sweep) -> dict[str, int]:
        """By what `zip` may call the axis or a part of it: how many values there are."""
        lengths = dict(self.lengths(sweep))
        return lengths and {**lengths, self.key: prod(lengths.values())}

    def of(self, cell: Cell | Setting) -> tuple[Any, ...]:
        """A cell's value: all of its fields."""
        return tuple([getattr(cell, name) for name in self.fields])

    def is_set(self, cell: Cell | Setting) -> bool:
        """Whether a cell has it at all."""
        return not self.optional or any(getattr(cell, name) not in NOTHING for name in self.fields)

    def shown_of(self, cell: Cell) -> Value:
        """A cell's value in a grid."""
        return getattr(cell, self.by_name) if self.by_name else self.show(*self.of(cell))
