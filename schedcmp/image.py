"""PNG files that say how they were made, and what is asked of their pixels."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from PIL import Image, ImageStat
from PIL.PngImagePlugin import PngInfo

from schedcmp import __version__
from schedcmp.files import to_json
from schedcmp.records import Cell

FINGERPRINT_BYTES = 16 * 16 * 3
FLAT_STD = 2.0  # of 255; natural images have 30 to 80


def encode_png(image: Image.Image, settings: Mapping[str, Any], parameters: str) -> bytes:
    """PNG bytes with `settings` as JSON under "schedcmp" and A1111's one-line form under "parameters"."""
    info = PngInfo()
    info.add_itxt("schedcmp", to_json(settings))
    info.add_itxt("parameters", parameters)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def a1111_parameters(cell: Cell, sampler: str, size: tuple[int, int], model: str, model_hash: str) -> str:
    """The text that A1111 and what reads its images understand ("infotext")."""
    lines = [cell.prompt, *([f"Negative prompt: {cell.negative_prompt}"] if cell.negative_prompt else [])]
    schedule = {} if cell.sigma_schedule == "default" else {"Schedule type": cell.sigma_schedule.title()}
    fields = {
        "Steps": cell.steps,
        "Sampler": sampler,
        **schedule,
        "CFG scale": f"{cell.guidance_scale:g}",
        "Seed": cell.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": model_hash[:10],
        "Model": model,
        "Version": f"schedcmp {__version__}",
    }
    return "\n".join([*lines, ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items())])


def _quoted(value: object) -> str:
    """As A1111 does: a value with a separator in it is a JSON string."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


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
