"""Metrics of a CLIP model: how well an image fits its prompt, and which of two images people would prefer."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from schedcmp.metrics.clip_model import Clip, clip_score, opened_clip
from schedcmp.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

DEFAULT = "openai/clip-vit-large-patch14"


class ClipScore(Metric):
    """100 times the cosine of the image's and the prompt's embedding."""

    name = "clip"
    label = "CLIP score"
    source = "Hessel et al. 2021 (arXiv:2104.08718)"
    paths: ClassVar[tuple[str, ...]] = ("model",)

    def __init__(self, model: str = DEFAULT) -> None:
        """`model`: a folder or hub id of a CLIP or SigLIP model in transformers' format, with safetensors weights."""
        self.model = model

    @cached_property
    def _clip(self) -> Clip:
        return opened_clip(self.model)

    def prepare(self) -> None:
        self._clip.refuse_unreadable()

    @property
    def origin(self) -> str:
        return self._clip.origin

    @property
    def told(self) -> str:
        return f"CLIP reads the images: {self.model}"

    def embedding(self, image: Image) -> npt.NDArray[np.float64]:
        """(d,), of length 1."""
        return np.asarray(self._clip.images([image])[0])

    def measure(self, image: Image, prompt: str) -> float | None:
        return clip_score(self._clip.images([image]), self._clip.text(prompt))


class Preference(ClipScore):
    """The score of a CLIP model that was trained on which of two images people prefer: its logit, the cosine times the
    scale that it learnt. PickScore is one (yuvalkirstain/PickScore_v1), HPS in transformers' format another."""

    name = "preference"
    label = "preference score"
    source = "Kirstain et al. 2023 (arXiv:2305.01569), section 4"

    def __init__(self, model: str = "yuvalkirstain/PickScore_v1") -> None:
        super().__init__(model)

    @property
    def told(self) -> str:
        return f"a preference model reads the images: {self.model}"

    def measure(self, image: Image, prompt: str) -> float | None:
        return self._clip.logit(self._clip.images([image]), self._clip.text(prompt))
