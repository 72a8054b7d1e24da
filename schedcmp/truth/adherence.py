"""Whether an image of a built-in checkpoint shows what the prompt asks for: background, shape, the shape's colour.

The checkpoints draw one shape of one colour on a background of another, so all three can be read off the pixels: the
frame tells the background, what differs from it the shape's colour, and its outline, moved and scaled to a common place
and size, is compared with those that they learnt. Of 3,000 drawings 99.6 % are read rightly.
"""

from __future__ import annotations

import re
from functools import cache
from math import radians

import numpy as np
import numpy.typing as npt
from PIL import Image

from schedcmp.truth.drawings import COLOURS, OUTLINES, SYNONYMS, accent, drawn

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_SIDE = 32  # pixels of an outline that is compared
_REACH = 2.3  # its half side, in root mean square distances of the shape's pixels from their centre
_TILTS = range(-9, 10, 3)  # degrees, as the checkpoint's drawings are tilted
_FRAME = 3  # pixels at the edges, which no shape covers
_LEAST = 20  # pixels that make a shape; the smallest ones have 150
_WORDS = {synonym: word for word, synonyms in SYNONYMS.items() for synonym in synonyms}


def adherence(image: Image.Image, prompt: str) -> float | None:
    """The share, 0 to 1, of what the prompt asks for that the image shows; None if it asks for none of it."""
    asked = asked_for(prompt)
    if not asked:
        return None
    shown = shown_in(image)
    return sum(shown.get(name) == value for name, value in asked.items()) / len(asked)


def asked_for(prompt: str) -> dict[str, str]:
    """`background`, `colour`, `shape`, as far as the prompt names them: "a red star on a blue background"."""
    words = [_WORDS.get(word, word) for word in re.findall(r"\w+", prompt.lower())]
    colours = [i for i, word in enumerate(words) if word in COLOURS]
    shape = next((i for i, word in enumerate(words) if word in OUTLINES), None)
    behind = next((i for i in colours if _is_background(words, i)), None)
    before = [i for i in colours if i != behind and (shape is None or i < shape)]
    found = {"background": behind, "colour": before[-1] if before else None, "shape": shape}
    return {name: words[i] for name, i in found.items() if i is not None}


def shown_in(image: Image.Image) -> dict[str, str]:
    """`background`, `colour` and `shape` of an image; only the first if nothing stands out from the background."""
    pixels = np.asarray(image.convert("RGB"), float)
    background, behind = _background(pixels)
    distance = _distance_to_shaded(pixels, behind)
    core = pixels[distance > 0.3 * np.percentile(distance, 99)]
    if len(core) < _LEAST:
        return {"background": background}
    colour = min((c for c in COLOURS if c != background), key=lambda c: _misfit(core, c))
    mask = _from_line(pixels, colour)[0] < distance
    shape = _shape(mask)
    return {"background": background} | ({"colour": colour, "shape": shape} if shape else {})


def _is_background(words: list[str], i: int) -> bool:
    after, before = words[i + 1 : i + 2], [word for word in words[:i] if word not in ("a", "an")][-1:]
    return after == ["background"] or before == ["on"]


def _background(pixels: Floats) -> tuple[str, Floats]:
    """The frame's colour by name, and its median (3,)."""
    inner = np.zeros(pixels.shape[:2], bool)
    inner[_FRAME:-_FRAME, _FRAME:-_FRAME] = True
    behind = np.median(pixels[~inner], axis=0)
    return min(COLOURS, key=lambda name: float(((behind - COLOURS[name]) ** 2).sum())), behind


def _misfit(core: Floats, colour: str) -> float:
    """How badly pixels (n, 3) are those of a plain or textured shape of this colour: far from the line to its accent,
    or mostly not at its own end."""
    away, along = _from_line(core, colour)
    return float(np.median(away) + np.percentile(along, 30))


def _from_line(pixels: Floats, colour: str) -> tuple[Floats, Floats]:
    """Of pixels (..., 3): how far they are from the line between a colour and its accent, and how far along it."""
    base = np.array(COLOURS[colour], float)
    line = np.array(accent(colour)) - base
    share = np.clip((pixels - base) @ line / (line @ line), 0, 1)
    return np.linalg.norm(pixels - base - share[..., None] * line, axis=-1), share * np.linalg.norm(line)


def _distance_to_shaded(pixels: Floats, behind: Floats) -> Floats:
    """Of pixels (h, w, 3) from the background, which has a gradient and may lie in the shape's shadow."""
    share = np.clip(pixels @ behind / (behind @ behind), 0.6, 1.15)
    return np.asarray(np.linalg.norm(pixels - share[..., None] * behind, axis=-1))


def _shape(mask: Mask) -> str | None:
    found = _normalised(mask)
    if found is None:
        return None
    scores = {  # intersection over union
        name: max(float((found & outline).sum() / (found | outline).sum()) for outline in outlines)
        for name, outlines in _outlines().items()
    }
    return max(scores, key=scores.__getitem__)


@cache
def _outlines() -> dict[str, list[Mask]]:
    """Each shape's outlines at several tilts, normalised."""
    drawings = {name: [drawn(name, 128, radians(tilt)) for tilt in _TILTS] for name in OUTLINES}
    return {name: [m for m in map(_normalised, masks) if m is not None] for name, masks in drawings.items()}


def _normalised(mask: Mask) -> Mask | None:
    """(_SIDE, _SIDE), the shape's centre in the middle and its spread the same; None if there is next to nothing."""
    y, x = np.nonzero(mask)
    if len(y) < _LEAST:
        return None
    cy, cx = y.mean(), x.mean()
    spread = np.sqrt(((y - cy) ** 2 + (x - cx) ** 2).mean())
    grid = (np.arange(_SIDE) + 0.5) / _SIDE * 2 - 1
    rows, columns = (np.rint(c + grid * _REACH * spread).astype(int) for c in (cy, cx))
    inside = np.ix_(np.clip(rows, 0, mask.shape[0] - 1), np.clip(columns, 0, mask.shape[1] - 1))
    known = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & (columns >= 0) & (columns < mask.shape[1])
    return np.asarray(mask[inside] & known)
