"""Grids of a run's images: labelled, paged, and small enough for any viewer."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from schedcmp.files import slug, write_atomically
from schedcmp.records import StoredCell
from schedcmp.report.axes import GridAxes, Page, Value, plan_pages
from schedcmp.report.layout import lay_out, split
from schedcmp.report.sheet import Sheet, draw_sheet

__all__ = ["GridAxes", "write_grids"]

OWN_NAMES = re.compile(r"grid(_[a-z0-9.+-]+)*\.png")
TEXT_KEY = "schedcmp"  # of the PNG's text chunk
DEFAULT_SIZE = 256, 256  # px, where no image tells
NAMES = {"guidance_scale": "guidance", "sigma_schedule": "sigma", "negative_prompt": "negative"}
DIGITS = {"seed": 4, "steps": 3}  # as in the folders of images


def write_grids(cells: Sequence[StoredCell], folder: Path, axes: GridAxes, title: str) -> list[Path]:
    """Draw `cells`, whose images lie in the run's `folder`, into `folder`/grids; an earlier call's grids go.

    Returns the files in page order: `grid.png`, or one per page and part. Each says in its text chunk `schedcmp`
    (JSON) which cell lies where, in pixels.
    """
    grids = folder / "grids"
    grids.mkdir(parents=True, exist_ok=True)
    pages = plan_pages(cells, axes)
    native = _native_size(cells, folder)
    written: list[Path] = []
    for page, stem in zip(pages, _stems(pages), strict=True):
        written += _write_page(page, stem, native, folder, title)
    for stale in {path for path in grids.iterdir() if OWN_NAMES.fullmatch(path.name)} - {*written}:
        stale.unlink()
    return written


def _write_page(page: Page, stem: str, native: tuple[int, int], folder: Path, title: str) -> list[Path]:
    layout = lay_out(page, native)
    parts = list(split(page, layout))
    paths = []
    for number, part in enumerate(parts, 1):
        suffix = f"_part-{number}" if len(parts) > 1 else ""
        path = folder / "grids" / f"{stem}{suffix}.png"
        sheet = draw_sheet(part, layout, title, folder, number, len(parts))
        write_atomically(path, _png(sheet.image, _description(part, sheet, title, number, len(parts))))
        paths.append(path)
    return paths


def _png(image: Image.Image, description: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(TEXT_KEY, description, zip=True)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _description(part: Page, sheet: Sheet, title: str, number: int, count: int) -> str:
    cells = [
        {"id": part.cells[place].cell.id, "row": i, "col": j, "box": sheet.boxes[place]}
        for i, row in enumerate(part.rows)
        for j, col in enumerate(part.cols)
        if (place := (row, col)) in part.cells
    ]
    content = {
        "title": title,
        "axes": {"rows": part.row_axes, "cols": part.col_axes, "page": tuple(part.values)},
        "page": part.values,
        "part": [number, count],
        "rows": part.rows,
        "cols": part.cols,
        "cells": cells,  # box: left, top, width, height in px
    }
    return json.dumps(content)


def _native_size(cells: Iterable[StoredCell], folder: Path) -> tuple[int, int]:
    """The largest width and height among the images, px."""
    sizes = [size for stored in cells if (size := _image_size(stored, folder))]
    return (max(w for w, _ in sizes), max(h for _, h in sizes)) if sizes else DEFAULT_SIZE


def _image_size(stored: StoredCell, folder: Path) -> tuple[int, int] | None:
    result = stored.result
    if result.width and result.height:
        return result.width, result.height
    if stored.image_path is None:
        return None
    try:
        with Image.open(folder / stored.image_path) as picture:
            return picture.width, picture.height
    except OSError:
        return None


def _stems(pages: Sequence[Page]) -> list[str]:
    """A file name per page, without its end: safe on any file system, short and unique."""
    stems: list[str] = []
    for number, page in enumerate(pages, 1):
        stem = "_".join(["grid", *(_value_name(axis, value) for axis, value in page.values.items())])
        stems.append(stem if stem not in stems else f"{stem}_page-{number}")
    return stems


def _value_name(axis: str, value: Value) -> str:
    if isinstance(value, int):
        text = f"{value:0{DIGITS.get(axis, 1)}d}"
    else:
        plain = value if isinstance(value, str) else f"{value:g}"
        text = slug(plain.replace(" × ", "x").replace("_", "-"), 32)  # "_" parts the values of a name
    return f"{NAMES.get(axis, axis)}-{text or 'none'}"
