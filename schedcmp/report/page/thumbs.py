"""Small copies of large images and contact sheets of videos, made once, so that a page of thousands stays quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, features

from schedcmp.files import slug
from schedcmp.pictures.image import encoded
from schedcmp.records import StoredCell
from schedcmp.report.tiles import open_picture
from schedcmp.store.folder import open_file
from schedcmp.store.written import Written

FOLDER = "thumbs"
SIDE = 320  # px, the longer one: the page's largest tile; images up to this size need no copy
_FORMAT = ("webp", "WEBP") if features.check("webp") else ("jpg", "JPEG")


def thumbnails(cells: Iterable[StoredCell], folder: Path) -> Mapping[str, str]:
    """By cell id: the thumbnail's path relative to `folder`; those of no cell are removed. Raises OSError."""
    made = Written(folder, FOLDER)
    large = {
        stored.cell.id: (stored, f"{slug(str(stored.result.image_sha256 or stored.cell.id))}.{_FORMAT[0]}")
        for stored in cells
        if _is_wanted(stored)
    }
    with ThreadPoolExecutor() as pool:  # decoding and reducing leave other threads alone
        there = pool.map(lambda item: _is_there(item[0], folder, item[1], made), large.values())
        found = {id_: f"{FOLDER}/{name}" for (id_, (_, name)), has in zip(large.items(), there, strict=True) if has}
    made.close()
    return found


def _is_wanted(stored: StoredCell) -> bool:
    result = stored.result
    large = (result.frames or 1) > 1 or max(result.width or 0, result.height or 0) > SIDE
    return large and stored.image_path is not None


def _is_there(stored: StoredCell, folder: Path, name: str, made: Written) -> bool:
    try:
        open_file(folder, f"{FOLDER}/{name}").close()
    except OSError:
        return _make(stored, folder, name, made)
    made.keep(name)
    return True


def _make(stored: StoredCell, folder: Path, name: str, made: Written) -> bool:
    """False where the image cannot be read."""
    try:
        picture = open_picture(folder, stored.image_path)
    except OSError:
        return False
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    made.write(name, encoded(picture, _FORMAT[1], quality=85))
    return True
