"""What is read off pixels alone: detail, what lies beyond black and white, how a video changes from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from schedcmp.metrics.metric import Metric
from schedcmp.pipelines.videos import makes_video

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.checkpoint.source import Checkpoint


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
        grey = np.asarray(image.convert("L"), np.float64)
        if min(grey.shape) < 3:
            return None
        middle = grey[1:-1, 1:-1]
        laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
        return float(laplacian.std())


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
        pixels = np.asarray(image)
        return float(((pixels == 0) | (pixels == 255)).mean())


class Flicker(Metric):
    """Mean absolute difference of neighbouring frames, in levels of 255.

    A number to look at, not a rank: what moves changes too, and a still has none.
    """

    name = "flicker"
    label = "difference of neighbouring frames"
    brief = "flicker"
    unit = "levels"
    higher = None
    decides = False
    source = "Huang et al. 2024, VBench (arXiv:2311.17982), temporal flickering"

    def refusal(self, checkpoint: Checkpoint) -> str:
        pipeline = checkpoint.pipeline_class
        return "" if makes_video(pipeline) else f"{self.column} is of frames, and {pipeline} makes images"

    def measure_frames(self, frames: Sequence[Image], prompt: str) -> float | None:
        pairs = pairwise(np.asarray(frame, np.float32) for frame in frames)
        apart = [float(np.abs(a - b).mean()) for a, b in pairs]
        return sum(apart) / len(apart) if apart else None
