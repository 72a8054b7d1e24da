"""Attention processors that a pipeline puts into its models for the length of an image.

Perturbed-attention guidance's tell rows apart by where they stand: a batch is cut into two or three equal parts, with
and without the prompt, and perturbed. Each lane has its own while it runs, and a batch those of its lanes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Processors:
    """Of some attention layers, put in by a pipeline."""

    of: tuple[tuple[Any, Any], ...] = ()  # (layer, processor)

    @property
    def kind(self) -> Hashable:
        """Equal for those that do the same."""
        return tuple((id(layer), type(processor)) for layer, processor in self.of)

    @property
    def know_their_image(self) -> bool:
        """Whether one has something to remember, so that nobody else can use it."""
        return any(vars(processor) for _, processor in self.of)

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = [(layer, layer.processor) for layer, _ in self.of]
        _put(self.of)
        try:
            yield
        finally:
            _put(before)


NOTHING = Processors()
_processor = attrgetter("processor")


class Layers:
    """The attention layers of a pipeline's models, and the processors that they have on their own."""

    def __init__(self, pipeline: Any, components: Iterable[str]) -> None:
        models = {name: getattr(pipeline, name, None) for name in components}
        self._own: Mapping[str, list[tuple[Any, Any]]] = {
            name: [(layer, layer.processor) for layer in model.modules() if hasattr(layer, "processor")]
            for name, model in models.items()
            if isinstance(model, torch.nn.Module)
        }
        pairs = [pair for own in self._own.values() for pair in own]
        self._layers, self._processors = [layer for layer, _ in pairs], [processor for _, processor in pairs]

    @property
    def untouched(self) -> bool:
        """Whether all are as they were: asked at each step of each lane."""
        return list(map(_processor, self._layers)) == self._processors

    def put_in(self, *components: str) -> Processors:
        """What pipelines have put in, by default anywhere."""
        pairs = (pair for name in components or self._own for pair in self._own.get(name, ()))
        return Processors(tuple((layer, layer.processor) for layer, own in pairs if layer.processor is not own))

    @contextmanager
    def restored(self) -> Iterator[None]:
        """While open, the layers are as they were; then as they are now."""
        now = self.put_in()
        self.restore()
        yield
        _put(now.of)

    def restore(self) -> None:
        """Take out what a pipeline has put in."""
        for pairs in self._own.values():
            _put(pairs)


def _put(processors: Iterable[tuple[Any, Any]]) -> None:
    for layer, processor in processors:
        if layer.processor is not processor:
            layer.processor = processor
