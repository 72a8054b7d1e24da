"""One Brownian motion over the noise levels for each run, for samplers that ask for overlapping parts of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

_SAME = 1e-5  # relative: levels that a function computes twice, in float32, by a logarithm and back

Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class _Piece:
    high: float
    low: float
    unit: Tensor  # the increment over the piece, divided by the root of its length: standard normal

    @property
    def length(self) -> float:
        return self.high - self.low


@dataclass
class BrownianPath:
    """Increments of one Brownian motion, each divided by the root of its interval's length.

    Intervals that follow each other are independent draws, one each, in the order in which they are asked for. Where an
    interval reaches into one that is known, that one is divided by Lévy's bridge, so that the two share their common
    part. What lies above the latest interval is forgotten, as samplers go down; whoever goes up begins a new path.
    """

    _pieces: list[_Piece] = field(default_factory=list)  # disjoint, from high to low

    def between(self, start: float, end: float, draw: Draw) -> Tensor:
        """Standard normal noise for the step from one level to another; `draw` gives what is not known yet."""
        start, end = self._known(start), self._known(end)
        if not start > end:  # upwards, or nowhere: nothing that the path has
            self._pieces = []
            return draw()
        self._pieces = [piece for piece in self._pieces if piece.low < start]
        self._divide(start, draw)
        self._divide(end, draw)
        self._fill(start, end, draw)
        within = [piece for piece in self._pieces if piece.high <= start and piece.low >= end]
        if len(within) == 1:
            return within[0].unit.clone()  # its own: functions may change what they are given
        return torch.stack([p.unit * math.sqrt(p.length / (start - end)) for p in within]).sum(0)

    def _known(self, level: float) -> float:
        """The level, as it was called before."""
        ends = (end for piece in self._pieces for end in (piece.high, piece.low))
        return next((end for end in ends if math.isclose(end, level, rel_tol=_SAME)), level)

    def _divide(self, level: float, draw: Draw) -> None:
        """Cut the piece that the level lies in."""
        for i, piece in enumerate(self._pieces):
            if piece.low < level < piece.high:
                above = math.sqrt((piece.high - level) / piece.length)
                below = math.sqrt((level - piece.low) / piece.length)
                bridge = draw()
                self._pieces[i : i + 1] = [
                    _Piece(piece.high, level, above * piece.unit + below * bridge),
                    _Piece(level, piece.low, below * piece.unit - above * bridge),
                ]
                return

    def _fill(self, start: float, end: float, draw: Draw) -> None:
        """Draw what is missing between start and end, from above."""
        edges = [(p.high, p.low) for p in self._pieces if p.high <= start and p.low >= end]
        highs, lows = [high for high, _ in edges] + [end], [start] + [low for _, low in edges]
        self._pieces += [_Piece(low, high, draw()) for low, high in zip(lows, highs, strict=True) if low > high]
        self._pieces.sort(key=lambda piece: -piece.high)
