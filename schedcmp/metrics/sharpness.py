"""How much detail an image has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedcmp.metrics.metric import Metric

if TYPE_CHECKING:
    from PIL.Image import Image


class Sharpness(Metric):
    """Standard deviation of the Laplacian of the grey image, in levels of 255 (Pertuz et al. 2013, LAPV's root).

    A number to look at, not a rank: noise is sharp too.
    """

    name = "sharpness"
    label = "sharpness"
    unit = "levels"
    higher = None
    ratio = True
    decides = False
    source = "Pertuz, Puig and Garcia 2013, doi:10.1016/j.patcog.2012.11.011, LAPV"

    def measure(self, image: Image, prompt: str) -> float | None:
        import numpy as np

        grey = np.asarray(image.convert("L"), np.float64)
        if min(grey.shape) < 3:
            return None
        middle = grey[1:-1, 1:-1]
        laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
        return float(laplacian.std())
