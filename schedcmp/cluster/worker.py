"""A worker: a process of the cluster that loads the pipeline once and makes the cells that it is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Condition

from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.queue import lanes_of
from schedcmp.engine.throughput import Throughput
from schedcmp.prepare import prepare_sweep
from schedcmp.prepare.origin import Origin
from schedcmp.records import Cell, CellResult
from schedcmp.runs.background import in_background
from schedcmp.runs.encode import encoded
from schedcmp.runs.engines import Engines
from schedcmp.sweep.document import checked
from schedcmp.sweep.source import parse

_SOLO_CELLS = 2  # one that runs and the next


@dataclass(frozen=True, slots=True)
class Report:
    """A result, and how the worker is doing. Without a result: the worker is ready."""

    result: CellResult | None
    want: int  # how many cells it should hold
    evaluations: int  # of the denoiser, since the last report
    throughput: Throughput | None  # of all it has packed


class Inbox:
    """Cells that are not begun, in the order in which they came; filled and emptied by different threads."""

    def __init__(self) -> None:
        self._cells: deque[Cell] = deque()
        self._changed = Condition()

    def put(self, cells: Iterable[Cell], *, urgent: bool = False) -> None:
        """Behind the others, or before them."""
        with self._changed:
            (self._cells.extendleft if urgent else self._cells.extend)(cells)
            self._changed.notify()

    def pop(self, most: Callable[[Cell], int] = lambda cell: 1) -> tuple[Cell, ...]:
        """The next one, with those soon after it that share its lane; empty if there is none."""
        with self._changed:
            near = list(islice(self._cells, most(self._cells[0]) if self._cells else 0))
            mates = next(lanes_of(near, most), ())
            for cell in mates:
                self._cells.remove(cell)
            return mates

    def wait(self) -> None:
        """Until there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._cells)

    def take_back(self, most: int) -> list[str]:
        """Ids of the last ones, which nobody gets now."""
        with self._changed:
            return [self._cells.pop().id for _ in range(min(most, len(self._cells)))]


class Worker:
    """An actor. `work` runs in one thread for as long as the worker lives; the other methods answer beside it."""

    def __init__(self, text: str, name: str) -> None:
        """
        Args:
            text: the sweep, resolved.
            name: its file, for messages.
        """
        self._text, self._name = text, name
        self._timed, self._inbox = False, Inbox()
        self._loading, self._most = Condition(), 0
        self._evaluations = 0

    def load(self, most: int) -> None:
        """Go on from the introduction; `most` rows per batch."""
        with self._loading:
            self._most = most
            self._loading.notify()

    def give(self, cells: list[Cell], *, timed: bool = False, urgent: bool = False) -> None:
        """Cells to make. Timed ones and others do not come while the worker holds some of the other kind.

        Args:
            urgent: begin the first one before others that wait.
        """
        self._timed = timed
        self._inbox.put(cells[:1], urgent=urgent)
        self._inbox.put(cells[1:])

    def hand_back(self, most: int) -> list[str]:
        """Ids of cells that have not been begun and will not be."""
        return self._inbox.take_back(most)

    def work(self) -> Iterator[Origin | Report]:
        """Raises RequestError: the sweep cannot be run here."""
        source = parse(self._text, self._name)
        prepared = prepare_sweep(checked(source), source)
        yield prepared.origin
        with self._loading:
            self._loading.wait_for(lambda: self._most)
        engines = Engines(prepared, prepared.loader.load(), self._count)
        yield self._report(engines)
        while True:
            self._inbox.wait()
            for result in in_background(self._made(engines), lambda result: encoded(prepared, result)):
                yield self._report(engines, result)

    def _made(self, engines: Engines) -> Generator[CellResult]:
        """What there is to make, and what comes meanwhile."""
        if self._timed:
            yield from engines.timed.run(self._inbox.pop())
        elif isinstance(engines.other, PackedEngine):
            most = engines.other.seeds_per_lane
            yield from engines.other.serve(lambda: self._untimed(most), self._most)
        else:
            for cells in iter(self._untimed, ()):
                yield from engines.other.run(cells)

    def _untimed(self, most: Callable[[Cell], int] = lambda cell: 1) -> tuple[Cell, ...]:
        """Timed cells, which may have come meanwhile, stay where they are."""
        return () if self._timed else self._inbox.pop(most)

    def _report(self, engines: Engines, result: CellResult | None = None) -> Report:
        evaluations, self._evaluations = self._evaluations, 0
        want = engines.other.lanes if isinstance(engines.other, PackedEngine) else _SOLO_CELLS
        return Report(result, want, evaluations, next(iter(engines.throughput), None))

    def _count(self, evaluations: int) -> None:
        self._evaluations += evaluations
