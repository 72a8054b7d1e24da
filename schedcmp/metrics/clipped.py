"""How much of an image lies beyond black and white."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedcmp.metrics.metric import Metric

if TYPE_CHECKING:
    from PIL.Image import Image


class Clipped(Metric):
    """The share of colour values at 0 or 255: high guidance and diverging solvers saturate.

    Flat drawings on white have much of it by themselves: compare images of one prompt.
    """

    name = "clipped"
    label = "share of clipped values"
    higher = False
    decides = False
    source = "Lin et al. 2024 (arXiv:2305.08891), section 3.4, on over-exposure"

    def measure(self, image: Image, prompt: str) -> float | None:
        import numpy as np

        pixels = np.asarray(image)
        return float(((pixels == 0) | (pixels == 255)).mean())
