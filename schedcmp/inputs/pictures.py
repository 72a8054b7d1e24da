"""Image files that were given to us: opened with bounds, known by their pixels, brought to a cell's size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from schedcmp.files import open_regular, user_path
from schedcmp.pictures.image import pixels_sha256
from schedcmp.store.images import stem_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # of those that are taken from a folder
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MOST_PIXELS = 64_000_000  # 8000 × 8000
_MOST_BYTES = 256_000_000
MOST_FILES = 1_000  # of a folder
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel, or fewer
_SHOWN = 256  # pixels a side, of what is shown beside images


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file as it was when the sweep was read."""

    path: Path
    token: str  # its name and a hash of its pixels: what cells carry
    size: tuple[int, int]  # width and height, pixels

    def at(self, size: tuple[int | None, int | None], *, mask: bool = False) -> Image.Image:
        """At a size; None: at its own. Raises ValueError if the file is no longer what it was."""
        width, height = size
        return _at(self, (width or self.size[0], height or self.size[1]), mask)

    def small(self) -> Image.Image:
        """To be looked at. Raises ValueError if the file is no longer what it was."""
        image = self.at((None, None)).copy()
        image.thumbnail((_SHOWN, _SHOWN))
        return image


def place_of(name: str, folder: Path) -> Path | None:
    """Where a file or folder is that a sweep names; None: nowhere.

    Args:
        folder: where relative names are looked for first, before the current folder.
    """
    return next((p for p in (folder / user_path(name), user_path(name)) if p.exists()), None)


def pictures_of(name: str, folder: Path) -> Iterator[Picture]:
    """The picture of a file, or those of a folder in the order of their names.

    Args:
        folder: as of `place_of`.

    Raises:
        ValueError: it is not there, is no image, or too large; the message says what to do.
    """
    path = place_of(name, folder)
    if path is None:
        raise ValueError(f"there is no file or folder {name} (seen from {folder.absolute()})")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not 0 < len(files) <= MOST_FILES:
            raise ValueError(f"{name} holds {len(files):,} images ({', '.join(SUFFIXES)}); give 1 to {MOST_FILES:,}")
    for file in files:
        image = opened(file)
        yield known(file, image, stem_of(file))


def opened(path: Path) -> Image.Image:
    """The image of a file in RGB, turned as its EXIF says, its transparent parts white.

    Raises:
        ValueError: it cannot be read, is no image that is known here, or has more pixels than are taken.
    """
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what else the file holds
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise ValueError(f"{path} has over {_MOST_BYTES:,} bytes; save it smaller")
            with Image.open(file, formats=_FORMATS) as image:
                _refuse(path, image)
                return _in_rgb(ImageOps.exif_transpose(image))
    except (ValueError, OSError) as error:
        if str(error).startswith(str(path)):
            raise
        reason = getattr(error, "strerror", None) or "it is no PNG, JPEG, WebP or BMP image, or a torn one"
        raise ValueError(f"{path} cannot be read: {reason}; give a whole image") from error
    except Exception as error:  # decoders raise what they like
        raise ValueError(f"{path} cannot be read: it is no whole image; save it again as PNG") from error


def _refuse(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{path} has {width} × {height} pixels, over {_MOST_PIXELS:,}; make it smaller")
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{path} is a film of {getattr(image, 'n_frames', 1)} images; give one of them")
    if image.mode not in _MODES:
        raise ValueError(f"{path} has pixels of more than 8 bits a channel ({image.mode}); save it with 8")


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def known(path: Path, image: Image.Image, name: str) -> Picture:
    """The picture of a file that was opened."""
    return Picture(path, f"{name}@{_mark(image)}", image.size)


def _mark(image: Image.Image) -> str:
    return pixels_sha256(image)[:12]


@lru_cache(maxsize=16)
def _at(picture: Picture, size: tuple[int, int], mask: bool) -> Image.Image:
    """Scaled until it covers the size, and its middle cut out; one that has the size is left as it is."""
    image = opened(picture.path)
    if _mark(image) != picture.token.rpartition("@")[2]:
        raise ValueError(f"{picture.path} has changed since the run began; run the sweep again")
    if image.size != size:
        resampling = Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS
        image = ImageOps.fit(image, size, resampling)
    return image.convert("L") if mask else image
