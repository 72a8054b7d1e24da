"""A run's images: what they are called, and the way to open them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from PIL import Image

from schedcmp.files import slug
from schedcmp.pictures.video import frames_of
from schedcmp.records import Cell
from schedcmp.store.folder import open_file

_LONGEST_STEM, _LONGEST_NAME = 40, 64


def image_path(cell: Cell, folders: Iterable[str] = (), top: str = "images", name: str = "") -> str:
    """Where a cell's image goes, relative to the run's folder.

    Args:
        folders: tell prompts or guidance apart.
        name: instead of the scheduler's label.
    """
    parts = [slug(part) for part in (*folders, name or cell.scheduler)]
    return "/".join([top, *parts, f"steps-{cell.steps:03d}", f"seed-{cell.seed:04d}.png"])


def stem_of(path: Path) -> str:
    """What an image of a file is called where it is given to cells."""
    return path.stem[:_LONGEST_STEM]


def name_of(path: str) -> str:
    """Likewise of an image of a run, by its `image_path`: the folders tell it from others; of a long one, the end."""
    parts = PurePosixPath(path).with_suffix("").parts
    return "-".join(part for part in parts if part != "images")[-_LONGEST_NAME:]


def input_path(token: str) -> str:
    """Where an image that cells were given lies, relative to the run's folder; `token` as cells carry it."""
    return f"inputs/{slug(token.replace('@', '-'))}.png"


@contextmanager
def opened(folder: Path, name: object) -> Iterator[Image.Image]:
    """An image of a run's folder, by its name. Raises OSError for what is none, there or while it is read."""
    try:
        with open_file(folder, name) as file, Image.open(file, formats=["PNG", "WEBP"]) as picture:
            yield picture
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # of Pillow's readers
        raise OSError(f"{name}: is no image: {error}") from error


def read_frames(folder: Path, name: object) -> list[Image.Image]:
    """The frames of a video of a run's folder; an image is one. Raises OSError for what is neither."""
    with opened(folder, name) as picture:
        frames = frames_of(picture)
        frames[0].load()
        return frames
