"""Files that say how they were made, and what is asked of their pixels: of an image, or of a video's frames."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from PIL import Image, ImageStat
from PIL.PngImagePlugin import PngInfo

from schedcmp.files import to_json

FINGERPRINT_BYTES = 16 * 16 * 3
FLAT_STD = 2.0  # of 255; natural images have 30 to 80


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file's bytes, of one of Pillow's kinds and with its options."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_png(image: Image.Image, settings: Mapping[str, Any], parameters: str) -> bytes:
    """PNG bytes with `settings` as JSON under "schedcmp" and A1111's form under "parameters"."""
    info = PngInfo()
    info.add_itxt("schedcmp", to_json(settings))
    info.add_itxt("parameters", parameters)
    return encoded(image, "PNG", pnginfo=info)


def pixels_sha256(*images: Image.Image) -> str:
    """Of mode, size and pixels; equal images have equal hashes whatever their files say beside."""
    found = sha256()
    for image in images:
        found.update(f"{image.mode} {image.width}x{image.height} ".encode())
        found.update(image.tobytes())
    return found.hexdigest()


def fingerprint(*images: Image.Image) -> bytes:
    """A copy of 16 × 16 px, its levels in rows: images that are equal to one level have such that are, too. Of frames,
    all in one."""
    strip = Image.new("RGB", (16, 16 * len(images)))
    for i, image in enumerate(images):
        strip.paste(image.convert("RGB").resize((16, 16), Image.Resampling.BOX), (0, 16 * i))
    return strip.resize((16, 16), Image.Resampling.BOX).tobytes()


def flatness(*images: Image.Image) -> str | None:
    """A reason to flag an image of one colour, or frames that all are; or None."""
    deviation = max(max(ImageStat.Stat(image).stddev) for image in images)
    return f"the image is flat (standard deviation {deviation:.2g} of 255)" if deviation < FLAT_STD else None


def difference(frames: Sequence[Image.Image], others: Sequence[Image.Image]) -> tuple[float, int] | None:
    """Of two images, or all frames of two videos: root mean square and largest, in levels of 255; None where they
    differ in size."""
    import numpy as np

    if [frame.size for frame in frames] != [other.size for other in others]:
        return None
    squares, largest = [], 0
    for pair in zip(frames, others, strict=True):
        a, b = (np.asarray(image.convert("RGB"), float) for image in pair)
        squares.append(((a - b) ** 2).mean())
        largest = max(largest, int(np.abs(a - b).max()))
    return float(np.sqrt(np.mean(squares))), largest
