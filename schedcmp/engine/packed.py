"""The packed engine: continuous batching of the denoising steps of many cells, whatever their schedulers.

Each cell runs in a lane through the pipeline's own code. Its calls of the denoiser and the VAE are parked; `_step`
chooses parked calls that fit one batch, answers them with one real forward and resumes their lanes. The engine knows
nothing of schedulers, and a lane nothing of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.batch import BatchSize, Sizes, Waiting
from schedcmp.engine.call import Call, NoRowsError, alike, answers_of, apart, every, first_of, join, together, unpacked
from schedcmp.engine.clock import Clock
from schedcmp.engine.job import CONTROLNET, Workbench
from schedcmp.engine.lane import Lane, Models, parking
from schedcmp.engine.openings import Openings
from schedcmp.engine.queue import Queue
from schedcmp.engine.result import harmless_warnings_ignored
from schedcmp.engine.sharing import crews, exact
from schedcmp.engine.streams import Streams
from schedcmp.engine.throughput import Throughput
from schedcmp.guard import shortage
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
        self._fixed_shapes = fixed_shapes
        self._clock = Clock(bench.device)
        self._sizes = Sizes(max_batch, scale=getattr(bench.pipeline, "vae_scale_factor", 8) if sparing else None)
        self._again: list[tuple[Cell, ...]] = []  # alone, since their lane failed
        self._waiting: Waiting[Lane] = Waiting()
        self._streams = Streams(bench.device)
        self._answered: Batch | None = None  # whose lanes have not been told yet: the next one computes meanwhile
        self._unread: list[tuple[BatchSize, int, Any, Any]] = []  # rows and instants of batches that try a size
        self._openings = Openings()
        self._models: Models = {}
        self._compiled: set[tuple[Hashable, int]] = set()
        self._checked: set[str] = set()  # whose first batch was compared with a call alone
        self._asked: set[tuple[str, int]] = set()  # which calls were asked whether they can be packed
        self._shared: dict[str, bool] = {}  # whether a scheduler is exact for several seeds at once
        self._queue: Queue | None = None  # where the cells are known beforehand
        self._idle_since = monotonic()  # when nothing waited for another model than a denoiser
        self.throughput = Throughput()

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Cells of other LoRAs one after another, since the models have other weights for them; of each the longest
        first, so that the short ones keep the last batches full; but one lane is always for the shortest, so that a run
        that is stopped again and again gets on."""
        groups: dict[Worn, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(cell.worn, []).append(cell)
        for worn, alike_dressed in sorted(groups.items(), key=lambda item: bool(item[0])):
            self._bench.wear(worn)
            self._openings = Openings()
            yield from self._run_all(alike_dressed)

    def _run_all(self, cells: list[Cell]) -> Iterator[CellResult]:
        with harmless_warnings_ignored():
            left = list(crews(cells, self.seeds_per_lane))
        left.sort(key=lambda c: (c[0].width or 0, c[0].height or 0, self._cost(c[0]), -c[0].index))
        self._sizes.widen(max(map(_rows_of, left), default=2))
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
        with torch.no_grad(), harmless_warnings_ignored(), parking(pipeline, self._at_once) as self._models:
            self._streams.lanes_follow(self._streams.models_done())
            while True:
                while self._wants_lanes() and (cells := self._again.pop() if self._again else next_cells()):
                    self._sizes.widen(_rows_of(cells))
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
        fit = next(n for n in (_SEEDS, 2, 1) if n == 1 or not (self._sizes.fixed or 0) % _rows_of([cell] * n))
        if fit > 1 and not cell.images and self._bench.makes_several and self._exact(cell.scheduler):
            return fit
        return 1

    def _exact(self, scheduler: str) -> bool:
        if scheduler not in self._shared:
            self._shared[scheduler] = exact(self._bench.recipes[scheduler])
        return self._shared[scheduler]

    def _wants_lanes(self) -> bool:
        """Until the calls that wait for a denoiser fill a batch, the shortest cells' among them; a group that cannot be
        filled is no reason to stop."""
        if self._queue and self._queue.wants_short:
            return True
        denoising = [n for (target, _), n in self._rows().items() if target in DENOISERS]
        return max(denoising, default=0) < self._denoiser_rows() and len(self._waiting) < 2 * self._denoiser_rows()

    def _denoiser_rows(self) -> int:
        return max(self._sizes.of(name).rows for name in self._models if name in DENOISERS)

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
            self._learn()
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
        signature = self._choose()
        return 2 * self._rows()[signature] >= self._sizes.of(signature[0]).rows

    def _learn(self) -> None:
        """Judge batch sizes by batches that have been computed."""
        for size, rows, start, end in self._unread:
            size.observe(rows, self._clock.between(start, end))
        self._unread.clear()

    def _run(self) -> Batch | None:
        """Start the next batch, if anything waits; its answers are there when it is `ready`."""
        if not self._waiting:
            return None
        signature = self._choose()
        if signature[0] not in DENOISERS or all(target in DENOISERS for target, _ in self._rows()):
            self._idle_since = monotonic()
        call = self._waiting.first(signature).call
        assert call is not None
        lanes = self._waiting.take(signature, self._sizes.rows(call))
        self._streams.models_follow()
        answers = self._answers(signature[0], lanes)
        if signature[0] in DENOISERS:
            self._count(lanes)
        return Batch(lanes, answers, self._streams.models_done())

    def _choose(self) -> tuple[str, Hashable]:
        """The fullest group; images wait for the VAE until their batch is full, nothing else is left to do, or so long
        that a run which is stopped would lose much."""
        rows, long_ago = self._rows(), monotonic() - _LONGEST_WAIT_S
        full = [s for s, n in rows.items() if n >= self._sizes.of(s[0]).rows]
        denoising = [s for s in rows if s[0] in DENOISERS]
        others = [s for s in rows if s[0] not in DENOISERS]
        due = [s for s in others if s in full or self._idle_since < long_ago]
        return max(due or full or denoising or rows, key=rows.__getitem__)

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
        if name := unpacked(call):
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

    def _answers(self, target: str, lanes: list[Lane]) -> list[Any]:
        """One answer per lane, from one forward; in halves if memory runs out, alone if the batch cannot run."""
        calls, size = [lane.call for lane in lanes if lane.call is not None], self._sizes.of(target)
        too_wide = calls[0].cells > 1 and self._sizes.rows(calls[0]) < calls[0].rows
        try:
            if not too_wide:
                return self._forward(target, calls, size)
            if len(calls) == 1:
                each = apart(calls[0])
                return [together([self._forward(target, [call], size)[0] for call in each], each[0].rows)]
            part = 1
        except Exception as error:  # whatever a model raises
            if len(calls) == 1 and (too_wide or calls[0].cells == 1):
                return [error]
            smaller = self._made_smaller(target, sum(call.rows for call in calls), error)
            if len(calls) == 1 and not smaller:
                return [error]
            part = max(1, len(lanes) // 2) if shortage.of_memory(error) else 1
        return [answer for i in range(0, len(lanes), part) for answer in self._answers(target, lanes[i : i + part])]

    def _made_smaller(self, target: str, rows: int, error: Exception) -> bool:
        """Whether so many rows were too many; if so, the next batches are smaller."""
        if isinstance(error, NoRowsError):  # nor will the next answer be; by accident it might look like it
            self._sizes.by_target[target] = BatchSize(1, settled=True)
            self.throughput.notes.append(f"not packed: {error}")
        elif shortage.of_memory(error):
            self._sizes.of(target).halve(rows)
            if self._bench.device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            return False
        return True

    def _forward(self, target: str, calls: list[Call], size: BatchSize) -> list[Any]:
        rows = [call.rows for call in calls]
        if self._fixed_shapes and target in DENOISERS and calls[0].parts == 1:
            calls = _filled(calls, self._shape(calls[0], sum(rows), size.rows) - sum(rows))
        start = self._clock.now()
        with calls[0].processors.installed():
            answer = self._models[target](**join(calls))
        if not size.settled and self._is_compiled(calls):
            self._unread.append((size, sum(rows), start, self._clock.now()))
        by_block = target == CONTROLNET
        answers = answers_of(answer, calls, by_block=by_block)[: len(rows)]
        if (len(rows) > 1 or calls[0].cells > 1) and target not in self._checked:
            self._checked.add(target)
            with calls[0].processors.installed():
                alone = self._models[target](**join(apart(calls[0])[:1]))
            if not alike(alone, first_of(answers[0], calls[0].cells, calls[0].rows)):
                raise NoRowsError(f"{target} answers a row differently when others are beside it")
        if target in DENOISERS:
            self.throughput.count(sum(rows), min(size.aim, self._sizes.rows(calls[0])))
        return answers

    def _shape(self, call: Call, rows: int, most: int) -> int:
        """The rows of a batch of fixed shape: the fewest that a program is there for, else the next power of two."""
        compiled = [n for signature, n in self._compiled if signature == call.signature and n >= rows]
        return min(compiled, default=min(1 << (rows - 1).bit_length(), max(rows, most)))

    def _is_compiled(self, calls: list[Call]) -> bool:
        """Whether a batch of this shape has run before; with fixed shapes the first one waits for its compilation."""
        shape = (calls[0].signature, sum(call.rows for call in calls))
        known = not self._fixed_shapes or shape in self._compiled
        self._compiled.add(shape)
        return known


def _rows_of(cells: Sequence[Cell]) -> int:
    """Rows of a denoiser's call for the cells of a lane; pipelines without classifier-free guidance have one each."""
    return len(cells) * (2 if cells[0].guidance_scale > 1 else 1)


def most_rows(cells: Sequence[Cell], cost: Callable[[Cell], int], engines: int = 1) -> int:
    """More rows than this could not be kept full: the longest cell alone would outlast all the others."""
    costs = [cost(c) * _rows_of([c]) for c in cells]
    return max(2, sum(costs) // engines // max(map(cost, cells), default=1))


def _filled(calls: list[Call], missing: int) -> list[Call]:
    """`calls` and so many rows more."""
    return [*calls, *[every(calls[0], 0, calls[0].rows)] * missing]
