"""The packed engine: continuous batching of the denoising steps of many cells, whatever their schedulers.

Each cell runs in a lane through the pipeline's own code. Its calls of the denoiser and the VAE are parked; `_step`
chooses parked calls that fit one batch, answers them with one real forward and resumes their lanes. The engine knows
nothing of schedulers, and a lane nothing of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import Any

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.answering import Answering
from schedcmp.engine.batch import Sizes, Waiting, chosen
from schedcmp.engine.calls.call import Call, why_alone
from schedcmp.engine.clock import Clock
from schedcmp.engine.job import Workbench
from schedcmp.engine.lane import Lane, parking
from schedcmp.engine.openings import Openings
from schedcmp.engine.queue import Queue, most_rows, rows_of
from schedcmp.engine.result import harmless_warnings_ignored
from schedcmp.engine.sharing import exact, lanes_of
from schedcmp.engine.streams import Streams
from schedcmp.engine.throughput import Throughput
from schedcmp.records import Cell, CellResult, Worn

_LONGEST_WAIT_S = 2.0  # of an image, for others to be decoded with
_CHANGED = (
    "packed by seeds alone: the pipeline changes its models for each image (attention processors that know their image,"
    " or the dtype), so that cells of different schedulers cannot share a call"
)
_SEEDS = 4  # in a lane: with more, the last batches of a run are hard to fill


@dataclass(frozen=True, slots=True)
class Batch:
    """Lanes, and what the model answers each of them."""

    lanes: list[Lane]
    answers: list[Any]
    ready: Any  # an event


class PackedEngine:
    """Runs cells together; the results come as they are finished."""

    def __init__(
        self,
        bench: Workbench,
        cost: Callable[[Cell], int],
        max_batch: int | None = None,
        evaluated: Callable[[int], None] = lambda evaluations: None,
        *,
        fixed_shapes: bool = False,
        sparing: bool = False,
    ) -> None:
        """
        Args:
            cost: denoiser evaluations of a cell.
            max_batch: rows per forward; found by trying if None.
            evaluated: told of the denoiser's evaluations as they are answered.
            fixed_shapes: fill batches up to a power of two, since the denoiser is compiled anew for each size.
            sparing: take little more memory than an image alone does, if that is large; for a CPU.
        """
        self._bench = bench
        self._cost = cost
        self._evaluated = evaluated
        self._clock = Clock(bench.device)
        self._sizes = Sizes(max_batch, scale=getattr(bench.pipeline, "vae_scale_factor", 8) if sparing else None)
        self._again: list[tuple[Cell, ...]] = []  # alone, since their lane failed
        self._waiting: Waiting[Lane] = Waiting()
        self._streams = Streams(bench.device)
        self._answered: Batch | None = None  # whose lanes have not been told yet: the next one computes meanwhile
        self._openings = Openings()
        self._asked: set[tuple[str, int]] = set()  # which calls were asked whether they can be packed
        self._exact = cache(lambda scheduler: exact(bench.recipes[scheduler]))  # for several seeds at once
        self._queue: Queue | None = None  # where the cells are known beforehand
        self._idle_since = monotonic()  # when nothing waited for another model than a denoiser
        self.throughput = Throughput()
        self._models = Answering(self._sizes, self.throughput, self._clock, fixed_shapes=fixed_shapes)

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Cells of other LoRAs one after another, since the models have other weights for them; of each the longest
        first, so that the short ones keep the last batches full; but one lane is always for the shortest, so that a run
        that is stopped again and again gets on."""
        groups: dict[Worn, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(cell.dress, []).append(cell)
        for worn, alike_dressed in sorted(groups.items(), key=lambda item: bool(item[0])):
            self._bench.wear(worn)
            self._openings = Openings()
            yield from self._run_all(alike_dressed)

    def _run_all(self, cells: list[Cell]) -> Iterator[CellResult]:
        with harmless_warnings_ignored():
            left = list(lanes_of(cells, self.seeds_per_lane))
        left.sort(key=lambda c: (c[0].extent, self._cost(c[0]), -c[0].index))
        self._sizes.widen(max(map(rows_of, left), default=2))
        queue = self._queue = Queue(left)
        for result in self.serve(queue.next, most_rows(cells, self._cost)):
            queue.finished(result.cell)
            yield result

    def serve(self, next_cells: Callable[[], tuple[Cell, ...]], most: int) -> Iterator[CellResult]:
        """Run cells as they are given, until there are none and all are finished.

        Args:
            next_cells: those of one lane, at most `seeds_per_lane`.
            most: rows that a batch may grow to.
        """
        self._sizes.most = most
        start = self._clock.now()
        # Lanes interleave, so their own no_grad blocks do not nest; one around all of them makes that harmless.
        pipeline = self._bench.pipeline
        with torch.no_grad(), harmless_warnings_ignored(), parking(pipeline, self._at_once) as self._models.models:
            self._streams.lanes_follow(self._streams.models_done())
            while True:
                while self._wants_lanes() and (cells := self._again.pop() if self._again else next_cells()):
                    self._sizes.widen(rows_of(cells))
                    yield from self._resume(Lane(self._bench, *cells))
                if not self._waiting and not self._answered:
                    break
                yield from self._step()
        self.throughput.wall_s += self._clock.since(start)

    @property
    def lanes(self) -> int:
        """How many cells at once keep its batches full, the next larger size included."""
        known = [size.rows for target, size in self._sizes.by_target.items() if target in DENOISERS]
        return 2 * max(known, default=self._sizes.fixed or 2 * _SEEDS)

    def seeds_per_lane(self, cell: Cell) -> int:
        """As many as divide a given batch size, where lanes of several seeds are exact. Of what images become in the
        VAE, pipelines take a sample with the first generator for all."""
        fit = next(n for n in (_SEEDS, 2, 1) if n == 1 or not (self._sizes.fixed or 0) % rows_of([cell] * n))
        if fit > 1 and not cell.images and self._bench.makes_several and self._exact(cell.scheduler):
            return fit
        return 1

    def _wants_lanes(self) -> bool:
        """Until the calls that wait for a denoiser fill a batch, the shortest cells' among them; a group that cannot be
        filled is no reason to stop."""
        if self._queue and self._queue.wants_short:
            return True
        denoising = [n for (target, _), n in self._rows().items() if target in DENOISERS]
        return max(denoising, default=0) < self._denoiser_rows() and len(self._waiting) < 2 * self._denoiser_rows()

    def _denoiser_rows(self) -> int:
        return max(self._sizes.of(name).rows for name in self._models.models if name in DENOISERS)

    def _rows(self) -> dict[tuple[str, Hashable], int]:
        return self._waiting.rows()  # type: ignore[return-value]

    def _step(self) -> Iterator[CellResult]:
        """Choose, run, hand back. On a GPU the next batch is started before the last one is handed back, so that it
        computes while the lanes' schedulers do their work."""
        last = self._answered
        self._answered = self._run() if last is None or self._fills_half() else None
        if not self._streams.overlap:
            last, self._answered = self._answered, None
        if last:
            self._streams.lanes_follow(last.ready)
            self._models.learn()
            for lane, answer in zip(last.lanes, last.answers, strict=True):
                with self._streams.lanes:
                    followers = list(self._openings.told(lane, answer))
                yield from self._resume(lane, answer)
                for follower, same in followers:
                    yield from self._follow(follower, same)

    def _fills_half(self) -> bool:
        """Whether a batch is worth starting now; a smaller one waits for the lanes that are still to be told."""
        if not self._waiting:
            return False
        signature = self._next()
        return 2 * self._rows()[signature] >= self._sizes.of(signature[0]).rows

    def _run(self) -> Batch | None:
        """Start the next batch, if anything waits; its answers are there when it is `ready`."""
        if not self._waiting:
            return None
        signature = self._next()
        if signature[0] not in DENOISERS or all(target in DENOISERS for target, _ in self._rows()):
            self._idle_since = monotonic()
        call = self._waiting.first(signature).call
        assert call is not None
        lanes = self._waiting.take(signature, self._sizes.rows(call))
        self._streams.models_follow()
        answers = self._models.answer([lane.call for lane in lanes if lane.call is not None])
        if signature[0] in DENOISERS:
            self._count(lanes)
        return Batch(lanes, answers, self._streams.models_done())

    def _next(self) -> tuple[str, Hashable]:
        """The signature of the next batch."""
        overdue = self._idle_since < monotonic() - _LONGEST_WAIT_S
        return chosen(self._rows(), lambda target: self._sizes.of(target).rows, overdue=overdue)

    def _resume(self, lane: Lane, answer: Any = None) -> Iterator[CellResult]:
        with self._streams.lanes:
            call = lane.resume(answer)
            known = self._openings.known(lane)
        if known is not None:
            yield from self._follow(lane, known)
            return
        if call is not None:
            if not self._openings.follows(lane):
                self._tell_alone(call)
                self._waiting.add(lane, call)
            return
        if not lane.results:  # alone, only the one to blame will fail
            self._again += [(cell,) for cell in reversed(lane.cells)]
        self.throughput.images += len(lane.results)
        yield from lane.results

    def _follow(self, lane: Lane, answer: Any) -> Iterator[CellResult]:
        """Go on with what another lane was answered; None if that failed."""
        if answer is None:
            assert lane.call is not None
            self._waiting.add(lane, lane.call)
            return
        self._count([lane])
        yield from self._resume(lane, answer)

    def _tell_alone(self, call: Call) -> None:
        """Say once why calls of a denoiser are not packed, if they are not."""
        kind = (call.target, call.rows)  # each is asked once, as the question takes longer than the rest of a step
        if call.target not in DENOISERS or kind in self._asked:
            return
        self._asked.add(kind)
        if name := why_alone(call):
            told = f"packed by seeds alone: nobody can tell which of {call.target}'s {name} is whose"
            if told not in self.throughput.notes:
                self.throughput.notes.append(told)

    def _at_once(self, call: Call) -> None:
        """A lane's call was answered alone, since its pipeline has changed its models."""
        if call.target in DENOISERS:
            self.throughput.count(call.rows, call.rows)
            self.throughput.evaluations += call.evaluations * call.cells
            self._evaluated(call.evaluations * call.cells)
            if _CHANGED not in self.throughput.notes:
                self.throughput.notes.append(_CHANGED)

    def _count(self, lanes: Sequence[Lane]) -> None:
        """Evaluations of the denoiser that are answered, computed or not."""
        evaluations = sum(lane.call.evaluations * len(lane.cells) for lane in lanes if lane.call)
        self.throughput.evaluations += evaluations
        self._evaluated(evaluations)
