"""The process's global random generators, lent to one run after the other: torch's, Python's and numpy's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from schedcmp.guard.private import mps_generator


@dataclass(frozen=True, slots=True)
class GlobalGenerator:
    """A global generator: how its state is read and written, and what it is after a seed."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    fresh: Callable[[int], Any]


def torch_sources(device: torch.device) -> list[GlobalGenerator]:
    """torch's: the host's, and the device's."""
    return [GlobalGenerator("torch", g.get_state, g.set_state, partial(_fresh, g.device)) for g in _generators(device)]


def sources(device: torch.device) -> list[GlobalGenerator]:
    """All of them."""
    legacy = np.random  # the one that code from elsewhere uses
    return [
        *torch_sources(device),
        GlobalGenerator("random", random.getstate, random.setstate, lambda seed: random.Random(seed).getstate()),
        GlobalGenerator(
            "numpy",
            legacy.get_state,
            legacy.set_state,
            lambda seed: legacy.RandomState(seed % 2**32).get_state(),
        ),
    ]


class Own:
    """Global generators as one run alone has them."""

    def __init__(self, sources: Iterable[GlobalGenerator], seed: int) -> None:
        self._sources = list(sources)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin anew from a seed."""
        self._fresh = self._states = [source.fresh(seed) for source in self._sources]

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """While open, the global generators are this run's."""
        outer = [source.read() for source in self._sources]
        for source, state in zip(self._sources, self._states, strict=True):
            source.write(state)
        try:
            yield
        finally:
            self._states = [source.read() for source in self._sources]
            for source, state in zip(self._sources, outer, strict=True):
                source.write(state)

    def drawn(self) -> frozenset[str]:
        """The names of those that something was drawn from since the seed."""
        states = zip(self._sources, self._fresh, self._states, strict=True)
        return frozenset(source.name for source, fresh, state in states if not _same(fresh, state))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return all(map(np.array_equal, one, other))


def _fresh(device: torch.device, seed: int) -> torch.Tensor:
    return torch.Generator(device).manual_seed(seed).get_state()


def _generators(device: torch.device) -> list[torch.Generator]:
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        return [torch.default_generator, torch.cuda.default_generators[index]]
    if device.type == "mps":
        return [torch.default_generator, mps_generator()]
    return [torch.default_generator]
