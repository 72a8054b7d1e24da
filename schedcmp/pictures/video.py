"""Videos as files: animated WebP without loss, which Pillow writes and browsers play."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from schedcmp.files import from_json, to_json
from schedcmp.pictures.image import encoded

SUFFIX = ".webp"
_EXIF, _USER_COMMENT, _DESCRIPTION = 0x8769, 0x9286, 0x010E
_MOST_PIXELS = 2**30  # of all frames: 1,165 of 1280 × 720
_ON_A_SHEET = 4  # frames
_GAP = 1 / 64  # of their width
_LOOP, _FAST = 0, 0  # for ever; more effort saves a sixth of the bytes and takes six times as long


def encode_webp(frames: Sequence[Image.Image], settings: Mapping[str, Any], parameters: str, fps: float) -> bytes:
    """The file's bytes, with `settings` as JSON in its Exif description and A1111's form in its Exif comment."""
    ms = frame_ms(fps)
    exif, told = Image.Exif(), {**settings, "video": {"frames": len(frames), "frame_ms": ms}}
    exif[_DESCRIPTION] = to_json(told).encode()
    exif.get_ifd(_EXIF)[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    return encoded(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=ms, loop=_LOOP, lossless=True,
        method=_FAST, quality=_FAST, exif=exif,
    )  # fmt: skip


def frame_ms(fps: float) -> int:
    """For how many milliseconds a frame is shown, which a file has as a whole number."""
    return max(1, round(1000 / fps))


def settings_in(picture: Image.Image) -> str | None:
    """What an image's or a video's file says of how it was made, as JSON; None where it says nothing."""
    if picture.format != "WEBP":
        return picture.info.get("schedcmp")
    try:
        found = picture.getexif().get(_DESCRIPTION)
    except Exception:  # Pillow's readers raise what they like of a damaged file
        return None
    return found.encode("latin-1", "replace").decode("utf-8", "replace") if isinstance(found, str) else None


def frames_of(picture: Image.Image) -> list[Image.Image]:
    """An open file's frames; an image is one. Raises ValueError where they are not those that were written."""
    if picture.format != "WEBP":
        return [picture]
    frames, ms = _told(picture)
    if not 0 < frames * picture.width * picture.height <= _MOST_PIXELS:
        raise ValueError(f"has {frames} frames of {picture.width} × {picture.height} px, more than are read")
    count = getattr(picture, "n_frames", 1)
    found: list[Image.Image] = []
    for i in range(count):
        picture.seek(i)
        frame = picture.copy()
        # The file has a frame that is equal to the one before it as a longer showing of that
        times = frames if count == 1 else round(picture.info.get("duration", 0) / ms)
        found += [frame] * min(times, frames + 1 - len(found))
    if len(found) != frames:
        raise ValueError(f"has not the {frames} frames that it says it has")
    return found


def _told(picture: Image.Image) -> tuple[int, int]:
    """Frames, and for how many milliseconds each is shown. Raises ValueError."""
    try:
        told = from_json(settings_in(picture) or "")["video"]
        return int(told["frames"]), max(1, int(told["frame_ms"]))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError("says not how many frames it has") from error


def contact_sheet(frames: Sequence[Image.Image]) -> Image.Image:
    """Up to four frames, evenly spaced from the first to the last, side by side in rows; one as it is."""
    if len(frames) == 1:
        return frames[0]
    count, columns, gap = _sheet(len(frames), frames[0].width)
    width, height = (side + gap for side in frames[0].size)
    sheet = Image.new("RGB", sheet_size(len(frames), frames[0].size), "white")
    for i in range(count):
        frame = frames[round(i * (len(frames) - 1) / (count - 1))]
        sheet.paste(frame, (i % columns * width, i // columns * height))
    return sheet


def sheet_size(frames: int, size: tuple[int, int]) -> tuple[int, int]:
    """Of the contact sheet of so many frames of `size`, in pixels."""
    count, columns, gap = _sheet(frames, size[0])
    return columns * (size[0] + gap) - gap, math.ceil(count / columns) * (size[1] + gap) - gap


def _sheet(frames: int, width: int) -> tuple[int, int, int]:
    """Frames on a sheet, columns, and pixels between them."""
    count = min(_ON_A_SHEET, frames)
    return count, math.ceil(math.sqrt(count)), math.ceil(width * _GAP)
