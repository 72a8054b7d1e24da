"""Which cell goes where: the axes of a grid, and the pages that they make of a list of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches

from schedcmp.axes import AXES, SYNONYMS, Value
from schedcmp.axes import PAGED as OF_PAGES
from schedcmp.errors import RequestError
from schedcmp.grouped import grouped
from schedcmp.records import Cell, StoredCell

COPY = "copy"  # the axis of cells that all others place together
# Page axes of themselves where they vary, outermost first
PAGED = (*(axis.name for axis in OF_PAGES), COPY)

Key = tuple[Value, ...]


@dataclass(frozen=True)
class GridAxes:
    """What the rows, columns and pages of the grids stand for: names of `AXES`, outermost first."""

    rows: tuple[str, ...] = ("scheduler",)
    cols: tuple[str, ...] = ("steps",)
    page: tuple[str, ...] = ()  # besides every other axis that has more than one value

    def __post_init__(self) -> None:
        for place in fields(self):
            names = tuple(SYNONYMS.get(name, name) for name in getattr(self, place.name))
            object.__setattr__(self, place.name, names)
        for name, count in Counter(self.named).items():
            if name not in AXES:
                raise RequestError(_unknown(name))
            if count > 1:
                raise RequestError(f"grid: the axis {name!r} is used more than once; give it one place")

    @classmethod
    def asked(cls, grid: Mapping[str, Sequence[str]], cells: Iterable[StoredCell]) -> GridAxes:
        """A sweep's, without the checkpoint where the run has but one."""
        several = any(stored.cell.model for stored in cells)
        return cls(**{key: tuple(n for n in names if several or n != "model") for key, names in grid.items()})

    @property
    def named(self) -> tuple[str, ...]:
        return (*self.rows, *self.cols, *self.page)


@dataclass(frozen=True)
class Page:
    """One grid: the cells of one value of each page axis."""

    values: dict[str, Value]  # page axis that has more than one value → this page's
    facts: dict[str, Value]  # axis outside rows and columns → its one value here
    row_axes: tuple[str, ...]
    col_axes: tuple[str, ...]
    rows: tuple[Key, ...]
    cols: tuple[Key, ...]
    cells: dict[tuple[Key, Key], StoredCell]

    @property
    def example(self) -> Cell:
        """Any cell of the page, for what all of them share."""
        return next(iter(self.cells.values())).cell

    def row_cells(self, row: Key) -> list[StoredCell]:
        return [stored for col in self.cols if (stored := self.cells.get((row, col)))]

    def cell_of(self, axis: str, value: Value) -> Cell:
        """A cell whose row or column has this value: where the prompt behind a name is to be found."""
        axes = (*self.row_axes, *self.col_axes)
        place = axes.index(axis)
        return next(stored.cell for (row, col), stored in self.cells.items() if (*row, *col)[place] == value)


def plan_pages(cells: Iterable[StoredCell], axes: GridAxes) -> list[Page]:
    """Each cell in one place of one page; values are in the order in which the sweep has them."""
    ordered = sorted(cells, key=lambda stored: stored.cell.index)
    points = _points(ordered, axes)
    ranks = {axis: _rank(point[axis] for point in points) for axis in (*AXES, COPY)}
    implied = {"nfe": "steps", "steps": "nfe"}  # one follows from the other and the scheduler
    varying = [
        axis
        for axis in PAGED
        if axis not in axes.named and implied.get(axis) not in axes.named and len(ranks[axis]) > 1
    ]
    page_axes = (*axes.page, *varying)
    pages = grouped(zip(points, ordered, strict=True), lambda member: _key(member[0], page_axes))
    titled = tuple(axis for axis in page_axes if len(ranks[axis]) > 1)
    return [_page(pages[key], axes, titled, ranks) for key in _in_order(pages, page_axes, ranks)]


def foremost(pages: Sequence[Page], most: int) -> list[Page]:
    """At most so many pages, in their order: all values of the outer axes before the second one of an inner axis."""
    if len(pages) <= most:
        return list(pages)
    ranks = {axis: _rank(page.values[axis] for page in pages) for axis in pages[0].values}
    inner_first = [*reversed(ranks)]
    first = sorted(range(len(pages)), key=lambda i: [ranks[axis][pages[i].values[axis]] for axis in inner_first])
    return [pages[i] for i in sorted(first[:most])]


def _page(
    members: Sequence[tuple[dict[str, Value], StoredCell]],
    axes: GridAxes,
    titled: tuple[str, ...],
    ranks: dict[str, dict[Value, int]],
) -> Page:
    placed = {(_key(point, axes.rows), _key(point, axes.cols)): stored for point, stored in members}
    first = members[0][0]
    implied = {"sigma_schedule"} - {*axes.named}
    if "nfe" in axes.named:
        implied.add("steps")
    shown = (axis.name for axis in AXES.values() if axis.shown)
    told = dict.fromkeys((*titled, *(axis for axis in shown if axis not in {*axes.rows, *axes.cols, *implied})))
    return Page(
        values={axis: first[axis] for axis in titled},
        facts={axis: first[axis] for axis in told},
        row_axes=axes.rows,
        col_axes=axes.cols,
        rows=tuple(_in_order({row for row, _ in placed}, axes.rows, ranks)),
        cols=tuple(_in_order({col for _, col in placed}, axes.cols, ranks)),
        cells=placed,
    )


def _points(ordered: Sequence[StoredCell], axes: GridAxes) -> list[dict[str, Value]]:
    """Each cell's value on every axis. `COPY` tells apart cells that all other axes place together."""
    scheduler: Callable[[Cell], str] = _without_shift if "shift" in axes.named else lambda cell: cell.scheduler
    if "sigma_schedule" in axes.named:
        scheduler = scheduler_values(ordered)
    points = [point(stored, scheduler(stored.cell)) for stored in ordered]
    seen: Counter[Key] = Counter()
    implied = {"sigma_schedule", "shift"} - {*axes.named}  # by the scheduler's label
    for found in points:
        key = tuple(value for axis, value in found.items() if axis not in implied)
        seen[key] += 1
        found[COPY] = seen[key]
    return points


def point(stored: StoredCell, scheduler: str) -> dict[str, Value]:
    """A cell's value on each axis, with `scheduler` on that of this name."""
    values = {axis.name: axis.shown_of(stored.cell) for axis in AXES.values()}
    return values | {"scheduler": scheduler, "nfe": values["nfe"] or stored.result.nfe or 0}


def _without_shift(cell: Cell) -> str:
    return cell.scheduler.removesuffix(f" shift={cell.shift}")


def scheduler_values(ordered: Sequence[StoredCell]) -> Callable[[Cell], str]:
    """The base without its sigma schedule, but the label where several labels share both."""
    labels: dict[tuple[str, str], set[str]] = {}
    for stored in ordered:
        labels.setdefault((stored.cell.base, stored.cell.sigma_schedule), set()).add(_without_shift(stored.cell))
    return lambda cell: cell.base if len(labels[cell.base, cell.sigma_schedule]) == 1 else _without_shift(cell)


def _key(point: dict[str, Value], axes: Iterable[str]) -> Key:
    return tuple(point[axis] for axis in axes)


def _rank(values: Iterable[Value]) -> dict[Value, int]:
    return {value: i for i, value in enumerate(dict.fromkeys(values))}


def _in_order(keys: Iterable[Key], axes: Sequence[str], ranks: dict[str, dict[Value, int]]) -> list[Key]:
    return sorted(keys, key=lambda key: [ranks[axis][value] for axis, value in zip(axes, key, strict=True)])


def _unknown(name: str) -> str:
    near = get_close_matches(name, (*AXES, *SYNONYMS), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"grid: there is no axis {name!r}{hint} (axes: {', '.join(AXES)})"
