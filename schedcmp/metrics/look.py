"""What of an image counts when sets of images are compared: a short vector, which the store keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from schedcmp.metrics.clip import ClipScore
from schedcmp.metrics.metric import Metric

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = npt.NDArray[np.float64]

_FIELDS = 4  # on a side
_OCTAVES = 3
_WEIGHT = 16  # of detail, whose values are small: with it, both have a say; see docs/metrics.md


@dataclass(frozen=True, slots=True)
class Look:
    """A way to see images."""

    origin: str  # what is seen with: vectors of another are taken again
    of: Callable[[Image], Floats]


def look_of(metrics: Iterable[Metric]) -> Look:
    """By the CLIP model that the sweep reads images with, where it has one; else by colours and detail."""
    clip = next((metric for metric in metrics if type(metric) is ClipScore), None)
    return Look(clip.origin, clip.embedding) if clip else Look("colours and detail 1", colours_and_detail)


def colours_and_detail(image: Image) -> Floats:
    """Of 4 × 4 fields the mean colour, and how much detail of each of three octaves is there; (96,) if the image has 32
    pixels on a side or more.

    Detail is the mean size of Haar's wavelet coefficients, so it sees noise and blur, wherever in a field.
    """
    pixels = np.asarray(image.convert("RGB"), np.float64) / 255
    detail = [_fields(octave)[..., 0].ravel() for octave in _octaves(pixels)]
    return np.concatenate([_fields(pixels).ravel(), *(_WEIGHT * values for values in detail)])


def _octaves(pixels: Floats) -> Iterator[Floats]:
    """(h / 2, w / 2, 1) and so on: the size of detail, finest first."""
    for _ in range(_OCTAVES):
        height, width = (n // 2 * 2 for n in pixels.shape[:2])
        if min(height, width) < 2 * _FIELDS:
            return
        a, b, c, d = (pixels[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
        sizes = np.abs(a - b + c - d) + np.abs(a + b - c - d) + np.abs(a - b - c + d)
        yield sizes.mean(axis=-1, keepdims=True) / 4
        pixels = (a + b + c + d) / 4


def _fields(values: Floats) -> Floats:
    """(4, 4, c): means of fields of equal size; what is over at the edges is left out."""
    height, width, channels = values.shape
    rows, columns = max(1, height // _FIELDS), max(1, width // _FIELDS)
    cut = values[: rows * _FIELDS, : columns * _FIELDS]
    if cut.shape[:2] != (rows * _FIELDS, columns * _FIELDS):  # an image of fewer pixels than fields
        return np.asarray(values.mean(axis=(0, 1), keepdims=True))
    return np.asarray(cut.reshape(_FIELDS, rows, _FIELDS, columns, channels).mean(axis=(1, 3)))
