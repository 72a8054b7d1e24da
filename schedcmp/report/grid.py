"""Grids of a run's images: labelled, paged, and small enough for any viewer."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import PIL
from PIL import Image, PngImagePlugin

from schedcmp.axes import AXES, Value
from schedcmp.files import slug
from schedcmp.pictures.image import encoded
from schedcmp.pictures.video import sheet_size
from schedcmp.records import StoredCell
from schedcmp.report.axes import GridAxes, Page, foremost, plan_pages
from schedcmp.report.layout import Layout, lay_out, split
from schedcmp.report.sheet import Sheet, draw_sheet
from schedcmp.store.folder import has_whole_png, place
from schedcmp.store.images import opened
from schedcmp.store.written import Written, mark_of

__all__ = ["GridAxes", "write_grids"]

FOLDER = "grids"
TEXT_KEY = "schedcmp"  # of the PNG's text chunk
DEFAULT_SIZE = 256, 256  # px, where no image tells
MOST_PAGES = 200  # nobody looks at more
_WRITERS = min(4, os.cpu_count() or 1)
_COMPRESSION = 4  # zlib's default, 6, takes half as long again for 3 % less


def write_grids(
    cells: Sequence[StoredCell],
    folder: Path,
    axes: GridAxes,
    title: str,
    told: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Draw `cells`, whose images lie in the run's `folder`, into `folder`/grids; an earlier call's grids go, but for
    those that would come out the same. Of more than `MOST_PAGES` pages the `foremost` are drawn, and that is `told`.

    Returns the files in page order: `grid.png`, or one per page and part. Each says in its text chunk `schedcmp`
    (JSON) which cell lies where, in pixels.
    """
    planned = plan_pages(cells, axes)
    pages = foremost(planned, MOST_PAGES)
    if len(pages) < len(planned):
        told(
            f"{len(pages):,} of {len(planned):,} grids are drawn: nobody looks at more; report.html has all images,"
            " and `grid: {rows: [...], cols: [...]}` puts more on a page"
        )
    native = _native_size(cells, folder)
    drawn, names = Written(folder, FOLDER), []
    drawn.unmark()
    with ThreadPoolExecutor(_WRITERS) as pool:  # packing and writing go on beside the drawing
        writing: deque[Future[None]] = deque()
        for name, part, layout, number, count in _parts(pages, native):
            names.append(name)
            mark = _mark(part, native, folder, (title, number, count))
            if drawn.mark(name) == mark and has_whole_png(folder, f"{FOLDER}/{name}"):
                drawn.keep(name)
                continue
            sheet = draw_sheet(part, layout, title, folder, number, count)
            text = _description(part, sheet, title, number, count)
            writing.append(pool.submit(_write, drawn, name, mark, sheet.image, text))
            while len(writing) > _WRITERS:
                writing.popleft().result()
        for written in writing:
            written.result()
    drawn.close()
    return [folder / FOLDER / name for name in names]


def draw_grids(cells: Sequence[StoredCell], folder: Path, axes: GridAxes, title: str) -> list[Image.Image]:
    """The grids of `write_grids`, drawn and not written."""
    parts = _parts(plan_pages(cells, axes), _native_size(cells, folder))
    return [draw_sheet(part, layout, title, folder, number, count).image for _, part, layout, number, count in parts]


def _parts(pages: Sequence[Page], native: tuple[int, int]) -> Iterator[tuple[str, Page, Layout, int, int]]:
    """Each file with what is on it: a part of a page, of so many."""
    for page, stem in zip(pages, _stems(pages), strict=True):
        layout = lay_out(page, native)
        parts = list(split(page, layout))
        for number, part in enumerate(parts, 1):
            suffix = f"_part-{number}" if len(parts) > 1 else ""
            yield f"{stem}{suffix}.png", part, layout, number, len(parts)


def _mark(part: Page, native: tuple[int, int], folder: Path, heading: tuple[str, int, int]) -> str:
    """Of the cells and their labels, of the image files as they are, and of what draws."""
    stats = [_stat(folder, c.image_path) for c in part.cells.values() if c.image_path]
    return mark_of(PIL.__version__, heading, native, part, stats)


def _stat(folder: Path, name: str) -> tuple[int, int] | None:
    with suppress(OSError):
        found = place(folder, name).lstat()
        return found.st_size, found.st_mtime_ns
    return None


def _write(drawn: Written, name: str, mark: str, image: Image.Image, description: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(TEXT_KEY, description, zip=True)
    drawn.write(name, encoded(image, "PNG", pnginfo=info, compress_level=_COMPRESSION), mark)


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
        return sheet_size(result.frames or 1, (result.width, result.height))
    with suppress(OSError), opened(folder, stored.image_path) as picture:
        return picture.width, picture.height
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
        text = f"{value:0{AXES[axis].digits if axis in AXES else 1}d}"  # as in the folders of images
    else:
        plain = value if isinstance(value, str) else f"{value:g}"
        text = slug(plain.replace(" × ", "x").replace("_", "-"), 32)  # "_" parts the values of a name
    return f"{AXES[axis].short if axis in AXES else axis}-{text or 'none'}"
