"""The images that cells were given, small: above a grid, at its labels, and on the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, features

from schedcmp.axes import AXES, Value
from schedcmp.pictures.image import encoded
from schedcmp.records import Cell
from schedcmp.report.axes import Key, Page
from schedcmp.report.layout import FAINT, INPUT_SIDE, Look
from schedcmp.report.text import draw_block, paragraph
from schedcmp.report.tiles import open_picture
from schedcmp.store.several import input_of

_ON_PAGE = 96  # px, twice of what a label has room for
_FORMAT = "WEBP" if features.check("webp") else "JPEG"


def inputs(part: Page, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """What each of them is that no label shows, and its picture, as far as the run's folder has it."""
    axes = {AXES[axis].key for axis in (*part.row_axes, *part.col_axes) if axis in AXES}
    given = {(key, token): stored.cell for stored in part.cells.values() for key, token in stored.cell.images.items()}
    for (key, token), cell in given.items():
        if key not in axes:
            with suppress(OSError):
                yield key.replace("_", " "), open_picture(folder, input_of(cell, token))


def draw_inputs(sheet: Image.Image, look: Look, top: int, given: Sequence[tuple[str, Image.Image]]) -> None:
    """Side by side, as many as the sheet is wide."""
    side, left = look.px(INPUT_SIDE), look.margin
    for label, picture in given:
        if left + side > sheet.width:
            return
        _draw(sheet, look, left, top, picture)
        draw_block(ImageDraw.Draw(sheet), left, top + side, paragraph(label, look.quiet, 2 * side, 1))
        left += 2 * side


def draw_input(
    sheet: Image.Image, look: Look, at: tuple[int, int], part: Page, axes: Sequence[str], key: Key, folder: Path
) -> None:
    """At a row's or column's label, the image that it names, if it names one and the run's folder has it.

    Args:
        at: left and top, px.
        key: the row's or column's values on these `axes`.
    """
    named = [(axis, value) for axis, value in zip(axes, key, strict=True) if axis in AXES and AXES[axis].pictured]
    for axis, value in named:
        with suppress(OSError):
            _draw(sheet, look, *at, open_picture(folder, input_of(part.cell_of(axis, value), str(value))))
        at = at[0] + look.px(INPUT_SIDE) + look.gap, at[1]


def _draw(sheet: Image.Image, look: Look, left: int, top: int, picture: Image.Image) -> None:
    """At the foot of a square, near the words below it."""
    side = look.px(INPUT_SIDE)
    picture.thumbnail((side, side))
    top += side - picture.height
    sheet.paste(picture, (left, top))
    ImageDraw.Draw(sheet).rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=FAINT)


def address_of(folder: Path, axis: str, cell: Cell, value: Value) -> str | None:
    """A cell's value on an axis as the address of a small picture, `data:image/...`; None where there is none."""
    if axis not in AXES or not AXES[axis].pictured or not value:
        return None
    with suppress(OSError):
        return _address(folder, input_of(cell, str(value)))
    return None


@lru_cache(maxsize=1024)  # a page is written again and again while its run goes on
def _address(folder: Path, name: str) -> str:
    picture = open_picture(folder, name)
    picture.thumbnail((_ON_PAGE, _ON_PAGE))
    return f"data:image/{_FORMAT.lower()};base64,{b64encode(encoded(picture, _FORMAT, quality=80)).decode()}"
