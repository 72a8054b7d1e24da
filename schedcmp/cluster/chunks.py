"""Which cells go out next, to whom, and what becomes of a dead worker's. Knows cells and workers, not Ray.

Cells go out longest first, each worker's engine holding what fills its batches and little more, so that the tail of a
run is short whatever the workers' speeds; but one of a worker's is always of the shortest, so that a run that is
stopped again and again gets on. What killed a worker is found by running what it left one cell at a time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

from schedcmp.records import Cell

Worker = TypeVar("Worker")
Kind = Literal["timed", "suspect", "plain"]

KILLS = 2  # so many workers a cell may kill


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one worker gets at once; a timed or suspect cell comes alone."""

    cells: Sequence[Cell]
    kind: Kind
    urgent: bool = False  # the first one is begun before others that wait


@dataclass(slots=True)
class _Hand:
    """A worker, and what it holds."""

    host: str
    times: bool  # it may measure latencies
    ready: bool = False
    kind: Kind = "plain"
    held: dict[str, Cell] = field(default_factory=dict)
    short: str = ""  # the id of the one that is of the shortest

    @property
    def closed(self) -> bool:
        """Whether nothing may come beside what it holds."""
        return bool(self.held) and self.kind != "plain"


class Ledger(Generic[Worker]):
    """All cells of a run that are not finished, and who has them.

    Latencies are measured by one worker, one cell at a time, while no other worker of its host loads; where `quiet`,
    while none of them does anything.
    """

    def __init__(
        self, timed: Iterable[Cell], others: Iterable[Cell], cost: Callable[[Cell], int], *, quiet: bool = False
    ) -> None:
        """
        Args:
            timed: in the order in which they are to be measured.
            cost: denoiser evaluations of a cell.
            quiet: other work on the same host would disturb a measurement.
        """
        self._size: Callable[[Cell], tuple[int, int, int, int, int]] = lambda c: (*c.extent, cost(c), -c.index)
        self._timed = deque(timed)
        self._pool = sorted(others, key=self._size)  # longest last
        self._suspects: deque[Cell] = deque()
        self._kills = Counter[str]()
        self._hands: dict[Worker, _Hand] = {}
        self._timer: Worker | None = None
        self._quiet = quiet

    @property
    def left(self) -> int:
        return len(self._timed) + len(self._pool) + len(self._suspects) + sum(map(self.holds, self._hands))

    def holds(self, worker: Worker) -> int:
        return len(self._hands[worker].held)

    def join(self, worker: Worker, host: str, *, times: bool) -> None:
        """A worker that is getting ready."""
        self._hands[worker] = _Hand(host, times)

    def ready(self, worker: Worker) -> None:
        self._hands[worker].ready = True

    def next_for(self, worker: Worker, want: int) -> Chunk | None:
        """What a worker gets now, if anything.

        Args:
            want: how many cells it should hold for its batches to be full.
        """
        hand = self._hands[worker]
        if not hand.ready or hand.closed:
            return None
        if self._timed or any(hand.closed and hand.kind == "timed" for hand in self._hands.values()):
            timer = self._chosen_timer()
            if worker == timer:
                return self._give(hand, "timed", [self._timed.popleft()]) if self._may_time(hand) else None
            if self._quiet and timer is not None and self._hands[timer].host == hand.host:
                return None
        if self._suspects and not hand.held:
            return self._give(hand, "suspect", [self._suspects.popleft()])
        count = min(self._share(), want - len(hand.held)) if 4 * len(hand.held) <= 3 * want else 0
        short = [*self._shortest(hand)]
        cells = [*short, *(self._pool.pop() for _ in range(count - len(short)))]
        return replace(self._give(hand, "plain", cells), urgent=bool(short)) if cells else None

    def give_up_timing(self) -> None:
        """Nobody is left whose latencies could stand beside the others': the rest runs untimed, to be timed later."""
        for cell in self._timed:
            insort(self._pool, cell, key=self._size)
        self._timed.clear()

    def finished(self, worker: Worker, cell_id: str) -> None:
        del self._hands[worker].held[cell_id]

    def richest(self, thief: Worker) -> tuple[Worker, int] | None:
        """When all is given out: whom to ask for cells that it has not begun, and for how many."""
        if self._pool or self._suspects or not self._hands[thief].ready or self._hands[thief].closed:
            return None
        open_hands = {w: len(h.held) for w, h in self._hands.items() if not h.closed}
        rich = max(open_hands, key=lambda w: open_hands[w], default=thief)
        spare = (open_hands.get(rich, 0) - len(self._hands[thief].held)) // 2
        return (rich, spare) if spare > 0 else None

    def returned(self, worker: Worker, cell_ids: Iterable[str]) -> None:
        """A worker gave back cells that it had not begun."""
        for cell_id in cell_ids:
            insort(self._pool, self._hands[worker].held.pop(cell_id), key=self._size)

    def lost(self, worker: Worker, *, died: bool) -> list[Cell]:
        """A worker is gone: what it held goes to others.

        Args:
            died: by itself, and maybe of a cell; not with its whole node, and not because we sent it away.

        Returns:
            Cells that nobody gets any more: each has killed two workers that held nothing else.
        """
        hand = self._hands.pop(worker)
        if not died:
            self._put_back(hand)
            return []
        if len(hand.held) > 1:  # any of them may have done it
            self._suspects.extend(hand.held.values())
            return []
        self._kills.update([*hand.held])
        convicted = [c for i, c in hand.held.items() if self._kills[i] >= KILLS]
        hand.kind = "timed" if hand.kind == "timed" else "suspect"
        hand.held = {} if convicted else hand.held
        self._put_back(hand)
        return convicted

    def _put_back(self, hand: _Hand) -> None:
        if hand.kind == "plain":
            for cell in hand.held.values():
                insort(self._pool, cell, key=self._size)
        else:
            (self._timed if hand.kind == "timed" else self._suspects).extendleft(hand.held.values())

    def _give(self, hand: _Hand, kind: Kind, cells: Sequence[Cell]) -> Chunk:
        hand.kind = kind
        hand.held |= {c.id: c for c in cells}
        return Chunk(cells, kind)

    def _share(self) -> int:
        """At most half of what each would get of the rest, so that the last ones go to who is free."""
        workers = sum(hand.ready for hand in self._hands.values())
        return -(-len(self._pool) // (2 * workers))

    def _shortest(self, hand: _Hand) -> Iterator[Cell]:
        """One of the size whose turn it is, for a worker that has none."""
        if not self._pool or hand.short in hand.held:
            return
        *size, longest, _ = self._size(self._pool[-1])
        first = bisect_left(self._pool, tuple(size), key=lambda c: self._size(c)[:3])
        if self._size(self._pool[first])[3] < longest:
            hand.short = self._pool[first].id
            yield self._pool.pop(first)

    def _chosen_timer(self) -> Worker | None:
        """Always the same worker, as long as it lives."""
        if self._timer not in self._hands:
            able = [w for w, hand in self._hands.items() if hand.times and hand.ready]
            self._timer = min(able, key=self.holds, default=None)
        return self._timer

    def _may_time(self, timer: _Hand) -> bool:
        others = [hand for hand in self._hands.values() if hand.host == timer.host and hand is not timer]
        disturbed = any(not hand.ready or (self._quiet and hand.held) for hand in others)
        return bool(self._timed) and not timer.held and not disturbed
