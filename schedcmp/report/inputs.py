"""Above a grid: the images that its cells were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw

from schedcmp.report.axes import Page
from schedcmp.report.layout import FAINT, Look
from schedcmp.report.text import draw_block, paragraph
from schedcmp.report.tiles import open_picture
from schedcmp.store.images import input_path

INPUT_SIDE = 64  # px at scale 1


def inputs(part: Page, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """What each of them is, and its picture, as far as the run's folder has it."""
    given = dict.fromkeys(item for stored in part.cells.values() for item in stored.cell.images.items())
    for key, token in given:
        with suppress(OSError):
            yield key.replace("_", " "), open_picture(folder, input_path(token))


def draw_inputs(sheet: Image.Image, look: Look, top: int, given: Sequence[tuple[str, Image.Image]]) -> None:
    """Side by side, as many as the sheet is wide."""
    side, left = look.px(INPUT_SIDE), look.margin
    for label, picture in given:
        if left + side > sheet.width:
            return
        picture.thumbnail((side, side))
        sheet.paste(picture, (left, top))
        draw = ImageDraw.Draw(sheet)
        draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=FAINT)
        draw_block(draw, left, top + side, paragraph(label, look.quiet, 2 * side, 1))
        left += 2 * side
