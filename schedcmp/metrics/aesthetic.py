"""How pleasing people find an image, by a small head on a CLIP model's embedding."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schedcmp.errors import CheckpointError
from schedcmp.metrics.clip import DEFAULT, ClipScore
from schedcmp.metrics.weights import origin_of, weights_file

if TYPE_CHECKING:
    from PIL.Image import Image

HEAD = "ttj/sac-logos-ava1-l14-linearMSE"


class Aesthetic(ClipScore):
    """LAION's aesthetic predictor: linear layers, one after the other, on the image's embedding."""

    name = "aesthetic"
    label = "aesthetic score"
    source = "https://github.com/christophschuhmann/improved-aesthetic-predictor"
    paths = ("model", "head")

    def __init__(self, model: str = DEFAULT, head: str = HEAD) -> None:
        """
        Args:
            model: as of `ClipScore`; the one that the head was trained on.
            head: the layers' weights and biases in the safetensors format: a file, a folder or a hub id.
        """
        super().__init__(model)
        self.head = head

    def prepare(self) -> None:
        assert self._head
        assert self._clip

    @cached_property
    def _head(self) -> tuple[Path, list[str]]:
        """The file, and its layers' names in their order. Raises CheckpointError."""
        path, shapes = weights_file(self.head, self.column)
        names = sorted((n.removesuffix("weight") for n in shapes if n.endswith("weight")), key=_numbers)
        widths = [self._clip.width, *((*shapes[f"{name}weight"], 0)[0] for name in names)]
        wanted: dict[str, tuple[int, ...]] = {}
        for name, (before, width) in zip(names, pairwise(widths), strict=True):
            wanted |= {f"{name}weight": (width, before), f"{name}bias": (width,)}
        if shapes != wanted or widths[-1] != 1:
            raise CheckpointError(
                f"{self.column}: {path} is no head of linear layers from {self.model}'s {widths[0]} numbers to one;"
                " give the model that it was trained on, or another head"
            )
        return path, names

    @property
    def origin(self) -> str:
        return f"{super().origin} {origin_of(self._head[0])}"

    @property
    def told(self) -> str:
        return f"an aesthetic predictor reads the images: {self.head} on {self.model}"

    @cached_property
    def _layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        from safetensors.numpy import load_file

        path, names = self._head
        tensors = load_file(path)
        return [(tensors[f"{name}weight"], tensors[f"{name}bias"]) for name in names]

    def measure(self, image: Image, prompt: str) -> float | None:
        values = self.embedding(image)
        for weight, bias in self._layers:
            values = weight @ values + bias
        return float(values[0])


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]
