"""The texts that an image carries, or a file that is such a text: anybody's, so all is bounded and nothing is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from schedcmp.errors import RequestError
from schedcmp.files import from_json, open_regular

_MOST = 4_000_000  # bytes of a text
_FORMATS = ["PNG", "JPEG", "WEBP"]
_EXIF, _USER_COMMENT = 0x8769, 0x9286
_COMMENTS = (_USER_COMMENT, 0x010E, 0x010F, 0x0110)  # the last three: image description, make, model


class Text(NamedTuple):
    """What an image says under one keyword, and what that is as JSON, where it is that."""

    text: str
    data: Any = None


def texts(path: Path) -> list[Text]:
    """All that a file says of itself.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_MOST + 1)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from error
    plain = _plain(head)
    found = [plain] if plain is not None else [*_of_image(path)]
    return [_parsed(text) for text in found if text.strip()]


def _plain(head: bytes) -> str | None:
    """A text file's, as a program exports it; None for an image."""
    if len(head) > _MOST:
        return None
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _of_image(path: Path) -> Iterator[str]:
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file, formats=_FORMATS) as image:
            info = dict(image.info)
            exif = image.getexif() if image.format != "PNG" or "exif" in info else Image.Exif()  # else it is decoded
            tags = {**exif, **exif.get_ifd(_EXIF)}
    except Exception as error:  # Pillow's readers raise what they like of a damaged file
        raise RequestError(
            f"{path}: is no image or text that can be read ({error}); give a PNG, JPEG or WebP as the program saved it"
        ) from error
    yield from (value for name, value in info.items() if isinstance(value, str) and len(value) <= _MOST)
    yield from (_comment(tags[tag]) for tag in _COMMENTS if isinstance(tags.get(tag), str | bytes))


def _comment(value: str | bytes) -> str:
    """An Exif comment, whose first eight bytes say in which encoding it is."""
    if isinstance(value, str):
        text = value
    elif value.startswith(b"UNICODE\0"):
        data = value[8:]
        text = data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace")
    else:
        text = value.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace")
    text = text[:_MOST].strip("\0 ")
    head, colon, rest = text.partition(":")
    return rest if colon and head in ("prompt", "workflow") else text  # as ComfyUI writes them into WebP


def _parsed(text: str) -> Text:
    with suppress(ValueError):
        return Text(text, from_json(text) if text.lstrip()[:1] in ("{", "[") else None)
    return Text(text)
