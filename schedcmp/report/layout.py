"""Sizes of a grid: of its tiles and its type, and where it has to be split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import TypeVar

from schedcmp.axes import AXES
from schedcmp.report.axes import Key, Page
from schedcmp.report.labels import value_label
from schedcmp.report.text import LEADING, Line, Style, block_height, block_width, paragraph

MAX_SIDE = 8000  # px; common viewers and LaTeX drivers refuse or stutter somewhat above
MAX_PIXELS = 40_000_000
SMALLEST_TILE, LARGEST_TILE = 160, 512  # px, longer side: smaller images are enlarged, larger ones reduced
LEAST_REDUCED = 256  # px; a grid is split before its tiles are reduced below this
NARROWEST_COLUMN = 128  # px at scale 1: a caption's width
INPUT_SIDE = 64  # px at scale 1: of an image that cells were given

INK, GREY, FAINT = "#1c1e21", "#6a7078", "#c3c7cc"

T = TypeVar("T")


class Look:
    """Type and spacing that go with a tile of `tile` = (width, height) px."""

    def __init__(self, tile: tuple[int, int]) -> None:
        self.tile, self.scale = tile, min(2.0, max(1.0, tile[0] / 224))
        self.title, self.header = self.style(21, bold=True), self.style(14, bold=True)
        self.body, self.quiet = self.style(14), self.style(12.5, GREY)
        self.spacer = Line("", self.style(3.5))
        self.margin, self.gap = self.px(32), self.px(10)
        self.column = max(tile[0], self.px(NARROWEST_COLUMN))

    def px(self, size: float) -> int:
        return round(size * self.scale)

    def style(self, size: float, colour: str = INK, bold: bool = False) -> Style:
        return Style(self.px(size), colour, bold)


@dataclass(frozen=True)
class Layout:
    """Where a page's parts go. Labels are set once, for the whole page, so that its parts look alike."""

    look: Look
    row_labels: dict[Key, list[Line]]
    col_labels: dict[Key, list[Line]]
    row_heights: dict[Key, int]  # tile, caption and the gap below
    row_inputs: int = 0  # images beside a row's label

    @property
    def label_width(self) -> int:
        widest = max(map(block_width, self.row_labels.values()), default=0)
        widest = max(widest, self.row_inputs * (self.look.px(INPUT_SIDE) + self.look.gap))
        return widest + 2 * self.look.gap if widest else 0

    @property
    def col_label_height(self) -> int:
        return max(map(block_height, self.col_labels.values()), default=0)

    def width(self, cols: int) -> int:
        """Of a sheet with `cols` columns, px."""
        look = self.look
        grid = self.label_width + cols * (look.column + look.gap) - look.gap
        return 2 * look.margin + max(grid, look.px(400))

    def tallest_head(self) -> int:
        """The most that everything above and below the rows can take, px."""
        look = self.look
        text = 2 * look.title.line_height + 3 * look.body.line_height + 6 * look.quiet.line_height
        return 2 * look.margin + text + self.col_label_height + 6 * look.gap


def lay_out(page: Page, native: tuple[int, int]) -> Layout:
    """The layout with the largest tiles that need no split, or else the smallest. `native`: image size, px."""
    for tile in tile_sizes(native):
        layout = _layout(page, Look(tile))
        if len(list(split(page, layout))) == 1:
            break
    return layout


def tile_sizes(native: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes for images of `native` px, largest first: whole multiples of them, or whole fractions."""
    longest = max(native)
    if longest < SMALLEST_TILE:
        factor = ceil(SMALLEST_TILE / longest)
        return [(native[0] * factor, native[1] * factor)]
    least = ceil(longest / LARGEST_TILE)
    most = max(least, longest // LEAST_REDUCED)
    return [(max(1, round(native[0] / k)), max(1, round(native[1] / k))) for k in range(least, most + 1)]


def split(page: Page, layout: Layout) -> Iterator[Page]:
    """Parts of the page, each within the limits: by rows, then by columns."""
    col_fits = [cols for cols in range(1, len(page.cols) + 1) if layout.width(cols) <= MAX_SIDE]
    col_chunks = even_chunks(page.cols, max(col_fits, default=1))
    room = min(MAX_SIDE, MAX_PIXELS // layout.width(len(col_chunks[0]))) - layout.tallest_head()
    for rows in even_chunks(page.rows, max(1, room // max(layout.row_heights.values()))):
        for cols in col_chunks:
            kept = {(r, c): page.cells[r, c] for r in rows for c in cols if (r, c) in page.cells}
            yield replace(page, rows=rows, cols=cols, cells=kept)


def even_chunks(items: Sequence[T], most: int) -> list[tuple[T, ...]]:
    """`items` in order, in the fewest chunks of at most `most`, as even as can be."""
    count = ceil(len(items) / most)
    edges = [round(i * len(items) / count) for i in range(count + 1)]
    return [tuple(items[a:b]) for a, b in pairwise(edges)]


def _layout(page: Page, look: Look) -> Layout:
    row_labels = {row: _label(page, page.row_axes, row, look, look.px(190)) for row in page.rows}
    col_labels = {col: _label(page, page.col_axes, col, look, look.column) for col in page.cols}
    heights = {row: _row_height(page, row, look, row_labels[row]) for row in page.rows}
    return Layout(look, row_labels, col_labels, heights, len(pictured(page.row_axes)))


def pictured(axes: Sequence[str]) -> list[str]:
    """Those whose labels have an image."""
    return [axis for axis in axes if axis in AXES and AXES[axis].pictured]


def _label(page: Page, axes: tuple[str, ...], key: Key, look: Look, width: int) -> list[Line]:
    """The first axis's value in bold, the others' below, and the text of a prompt below its name."""
    room = look.px(INPUT_SIDE) + look.gap if pictured(axes) else 0  # above the label
    lines = [Line("", Style(round(room / LEADING), INK))] if room else []
    for i, (axis, value) in enumerate(zip(axes, key, strict=True)):
        style = look.quiet if i else look.header
        lines += paragraph(value_label(axis, value), style, width, 2 if i else 3, "middle")
        if axis == "prompt":
            lines += paragraph(page.cell_of(axis, value).prompt, look.quiet, width, 3)
    return lines


def _row_height(page: Page, row: Key, look: Look, label: list[Line]) -> int:
    flagged = any(stored.result.status == "flagged" for stored in page.row_cells(row))
    tile = look.tile[1] + (3 if flagged else 1) * look.quiet.line_height + look.px(4)
    return max(tile, block_height(label)) + look.gap
