"""One file of a grid: its heading, its labels and its tiles on one sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from schedcmp.report.axes import Key, Page
from schedcmp.report.inputs import draw_input, draw_inputs, inputs
from schedcmp.report.labels import facts_line, legend, prompt_line, text_lines
from schedcmp.report.layout import INPUT_SIDE, Layout
from schedcmp.report.text import Line, block_height, draw_block, paragraph
from schedcmp.report.tiles import Box, draw_tile


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet, and where on it each cell's picture is."""

    image: Image.Image
    boxes: dict[tuple[Key, Key], Box]


def draw_sheet(part: Page, layout: Layout, title: str, folder: Path, number: int, count: int) -> Sheet:
    """Draw part `number` of `count` of a page. Images are opened one after the other, from `folder`."""
    look = layout.look
    width = layout.width(len(part.cols))
    heading = _heading(part, layout, f"{title} ({number} of {count})" if count > 1 else title, width)
    foot = paragraph(legend(part), look.style(11, "#8b9098"), width - 2 * look.margin, 2)
    given = [*inputs(part, folder)]
    strip_top = look.margin + block_height(heading) + look.gap
    strip_height = look.px(INPUT_SIDE) + look.quiet.line_height + look.gap if given else 0
    rows_top = strip_top + strip_height + look.gap + layout.col_label_height + look.gap // 2
    rows_end = rows_top + sum(layout.row_heights[row] for row in part.rows) + look.gap
    sheet = Image.new("RGB", (width, rows_end + block_height(foot) + look.margin), "white")
    draw = ImageDraw.Draw(sheet)
    draw_block(draw, look.margin, look.margin, heading)
    draw_inputs(sheet, look, strip_top, given)
    draw_block(draw, look.margin, rows_end, foot)
    _draw_col_labels(sheet, part, layout, folder, rows_top - look.gap // 2)
    boxes = dict(_draw_rows(sheet, part, layout, folder, rows_top))
    return Sheet(sheet, boxes)


def _heading(part: Page, layout: Layout, title: str, width: int) -> list[Line]:
    look = layout.look
    room = width - 2 * look.margin
    lines = paragraph(title, look.title, room, 2)
    for text, style, most in (
        (prompt_line(part), look.body, 3),
        *((line, look.quiet, 2) for line in text_lines(part)),
        (facts_line(part), look.quiet, 2),
    ):
        if text:
            lines += [look.spacer, *paragraph(text, style, room, most)]
    return lines


def _draw_col_labels(sheet: Image.Image, part: Page, layout: Layout, folder: Path, bottom: int) -> None:
    for col, left in _columns(part, layout):
        label = layout.col_labels[col]
        top = bottom - block_height(label)
        draw_block(ImageDraw.Draw(sheet), left, top, label)
        draw_input(sheet, layout.look, (left, top), part, part.col_axes, col, folder)


def _draw_rows(
    sheet: Image.Image, part: Page, layout: Layout, folder: Path, top: int
) -> Iterator[tuple[tuple[Key, Key], Box]]:
    draw, look = ImageDraw.Draw(sheet), layout.look
    for row in part.rows:
        label = layout.row_labels[row]
        middle = top + max(0, look.tile[1] - block_height(label)) // 2
        draw_block(draw, look.margin, middle, label)
        draw_input(sheet, look, (look.margin, middle), part, part.row_axes, row, folder)
        for col, left in _columns(part, layout):
            yield (row, col), draw_tile(sheet, left, top, part.cells.get((row, col)), folder, look)
        top += layout.row_heights[row]


def _columns(part: Page, layout: Layout) -> Iterator[tuple[Key, int]]:
    """Each column and its left edge, px."""
    look = layout.look
    for i, col in enumerate(part.cols):
        yield col, look.margin + layout.label_width + i * (look.column + look.gap)
