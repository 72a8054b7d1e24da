"""PNG files that say how they were made, and what is asked of their pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from PIL import Image, ImageStat
from PIL.PngImagePlugin import PngInfo

from schedcmp.files import to_json

FINGERPRINT_BYTES = 16 * 16 * 3
FLAT_STD = 2.0  # of 255; natural images have 30 to 80


def encode_png(image: Image.Image, settings: Mapping[str, Any], parameters: str) -> bytes:
    """PNG bytes with `settings` as JSON under "schedcmp" and A1111's form under "parameters"."""
    info = PngInfo()
    info.add_itxt("schedcmp", to_json(settings))
    info.add_itxt("parameters", parameters)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def pixels_sha256(image: Image.Image) -> str:
    """Of mode, size and pixels; equal images have equal hashes whatever their files say beside."""
    head = f"{image.mode} {image.width}x{image.height} ".encode()
    return sha256(head + image.tobytes()).hexdigest()


def fingerprint(image: Image.Image) -> bytes:
    """A copy of 16 × 16 px, its levels in rows: images that are equal to one level have such that are, too."""
    return image.convert("RGB").resize((16, 16), Image.Resampling.BOX).tobytes()


def flatness(image: Image.Image) -> str | None:
    """A reason to flag an image of one colour, or None."""
    deviation = max(ImageStat.Stat(image).stddev)
    return f"the image is flat (standard deviation {deviation:.2g} of 255)" if deviation < FLAT_STD else None
