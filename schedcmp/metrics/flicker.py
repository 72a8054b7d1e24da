"""How much a video changes from one frame to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from schedcmp.metrics.metric import Metric
from schedcmp.pipelines.videos import makes_video

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.checkpoint.source import Checkpoint


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
        import numpy as np

        pairs = pairwise(np.asarray(frame, np.float32) for frame in frames)
        apart = [float(np.abs(a - b).mean()) for a, b in pairs]
        return sum(apart) / len(apart) if apart else None
