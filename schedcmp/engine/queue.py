"""Which cells start next: the longest, so that short ones keep the last batches full; and one lane of the shortest."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from schedcmp.records import Cell


class Queue:
    """The cells of lanes that have not started, given in ascending order of size and cost, size after size.

    One lane is always for the shortest cells, so that a run that is stopped again and again gets on.
    """

    def __init__(self, lanes: Sequence[tuple[Cell, ...]]) -> None:
        self._sizes = [deque(of_one) for _, of_one in groupby(lanes, key=lambda c: c[0].extent)]
        self._short: set[str] = set()  # cells in flight of the lane for the shortest

    @property
    def wants_short(self) -> bool:
        """Whether no lane of the shortest cells is in flight."""
        return not self._short

    def next(self) -> tuple[Cell, ...]:
        """The cells of the next lane; none if all have started."""
        while self._sizes and not self._sizes[-1]:
            self._sizes.pop()
        if not self._sizes:
            return ()
        if self._short:
            return self._sizes[-1].pop()
        self._short.update(c.id for c in self._sizes[-1][0])
        return self._sizes[-1].popleft()

    def finished(self, cell: Cell) -> None:
        self._short.discard(cell.id)


def lanes_of(cells: Iterable[Cell], most: Callable[[Cell], int]) -> Iterator[tuple[Cell, ...]]:
    """Cells that differ by their seeds, at most `most` together; by powers of two, whose rows fill a batch evenly."""
    alike: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[replace(cell, id="", index=0, seed=0)].append(cell)
    for like, seeds in alike.items():
        left, size = seeds, most(like)
        while left:
            size = min(size, 1 << (len(left).bit_length() - 1))
            yield tuple(left[:size])
            left = left[size:]


def rows_of(cells: Sequence[Cell]) -> int:
    """Rows of a denoiser's call for the cells of a lane; pipelines without classifier-free guidance have one each."""
    return len(cells) * (2 if cells[0].guidance_scale > 1 else 1)


def most_rows(cells: Sequence[Cell], cost: Callable[[Cell], int], engines: int = 1) -> int:
    """More rows than this could not be kept full: the longest cell alone would outlast all the others."""
    costs = [cost(c) * rows_of([c]) for c in cells]
    return max(2, sum(costs) // engines // max(map(cost, cells), default=1))
