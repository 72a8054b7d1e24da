"""A run's images: what they are called, and the way to open them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from schedcmp.files import slug
from schedcmp.records import Cell
from schedcmp.store.folder import open_file


def image_path(cell: Cell, folders: Iterable[str] = (), top: str = "images", name: str = "") -> str:
    """Where a cell's image goes, relative to the run's folder.

    Args:
        folders: tell prompts or guidance apart.
        name: instead of the scheduler's label.
    """
    parts = [slug(part) for part in (*folders, name or cell.scheduler)]
    return "/".join([top, *parts, f"steps-{cell.steps:03d}", f"seed-{cell.seed:04d}.png"])


def input_path(token: str) -> str:
    """Where an image that cells were given lies, relative to the run's folder; `token` as cells carry it."""
    return f"inputs/{slug(token.replace('@', '-'))}.png"


@contextmanager
def opened(folder: Path, name: object) -> Iterator[Image.Image]:
    """An image of a run's folder, by its name. Raises OSError for what is none, there or while it is read."""
    try:
        with open_file(folder, name) as file, Image.open(file, formats=["PNG"]) as picture:
            yield picture
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # of Pillow's readers
        raise OSError(f"{name}: is no image: {error}") from error
