"""The packed engine: continuous batching of the denoising steps of many cells, whatever their schedulers.

Each cell runs in a lane through the pipeline's own code. Its calls of the denoiser and the VAE are parked; `_step`
chooses parked calls that fit one batch, answers them with one real forward and resumes their lanes. The engine knows
nothing of schedulers, and a lane nothing of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.batch import BatchSize, Waiting
from schedcmp.engine.call import Call, NoRowsError, alike, join, padding, split
from schedcmp.engine.clock import Clock
from schedcmp.engine.job import Workbench
from schedcmp.engine.lane import Lane, Models, parking
from schedcmp.engine.result import harmless_warnings_ignored
from schedcmp.records import Cell, CellResult

Target = str
_VAE_ROWS = 8  # decoding gains little from more, and its activations are large


@dataclass(slots=True)
class Throughput:
    """What a packed run achieved, for the whole of it."""

    images: int = 0
    forwards: int = 0  # of the denoiser
    evaluations: int = 0  # of the denoiser: calls that lanes made
    rows: int = 0  # of the denoiser: an evaluation with classifier-free guidance has two
    wanted_rows: int = 0  # had every forward been full
    wall_s: float = 0.0
    max_batch: int = 0
    notes: list[str] = field(default_factory=list)  # what the user should know

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"occupancy": self.occupancy}

    @property
    def occupancy(self) -> float:
        """Rows per forward over the batch size that was aimed at."""
        return self.rows / self.wanted_rows if self.wanted_rows else 0.0


@dataclass(slots=True)
class _Sizes:
    """A batch size for each model."""

    fixed: int | None
    most: int = 512
    by_target: dict[Target, BatchSize] = field(default_factory=dict)

    def of(self, target: Target) -> BatchSize:
        if target not in self.by_target:
            known = self.fixed or (None if target in DENOISERS else _VAE_ROWS)
            self.by_target[target] = BatchSize(known or 2, settled=known is not None, most=self.most)
        return self.by_target[target]


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
    ) -> None:
        """
        Args:
            cost: denoiser evaluations of a cell.
            max_batch: rows per forward; found by trying if None.
            evaluated: told of the denoiser's evaluations as they are answered.
            fixed_shapes: fill batches up to a power of two, since the denoiser is compiled anew for each size.
        """
        self._bench = bench
        self._cost = cost
        self._evaluated = evaluated
        self._fixed_shapes = fixed_shapes
        self._clock = Clock(bench.device)
        self._sizes = _Sizes(max_batch)
        self._waiting: Waiting[Lane] = Waiting()
        self._models: Models = {}
        self._checked: set[Target] = set()  # whose first batch was compared with a call alone
        self.throughput = Throughput()

    def run(self, cells: Iterable[Cell]) -> Iterator[CellResult]:
        """Longest cells first, so that the short ones keep the last batches full."""
        queue = sorted(cells, key=lambda c: (c.width or 0, c.height or 0, self._cost(c), -c.index))
        return self.serve(lambda: queue.pop() if queue else None, most_rows(queue, self._cost))

    def serve(self, next_cell: Callable[[], Cell | None], most: int) -> Iterator[CellResult]:
        """Run cells as they are given, until there is none and all are finished.

        Args:
            most: rows per batch, at most.
        """
        self._sizes.most = most
        start = self._clock.now()
        # Lanes interleave, so their own no_grad blocks do not nest; one around all of them makes that harmless.
        with torch.no_grad(), harmless_warnings_ignored(), parking(self._bench.pipeline) as self._models:
            while True:
                while self._wants_lanes() and (cell := next_cell()):
                    yield from self._resume(Lane(self._bench, cell))
                if not self._waiting:
                    break
                yield from self._step()
        self.throughput.wall_s += self._clock.since(start)

    @property
    def lanes(self) -> int:
        """How many cells at once keep its batches full, the next larger size included."""
        return 2 * max((size.rows for target, size in self._sizes.by_target.items() if target in DENOISERS), default=2)

    def _wants_lanes(self) -> bool:
        """Until the calls that wait for a denoiser fill a batch; a group that cannot be filled is no reason to stop."""
        denoising = [n for (target, _), n in self._rows().items() if target in DENOISERS]
        return max(denoising, default=0) < self._denoiser_rows() and len(self._waiting) < 2 * self._denoiser_rows()

    def _denoiser_rows(self) -> int:
        return max(self._sizes.of(name).rows for name in self._models if name in DENOISERS)

    def _rows(self) -> dict[tuple[Target, Hashable], int]:
        return self._waiting.rows()  # type: ignore[return-value]

    def _step(self) -> Iterator[CellResult]:
        """Choose, run, hand back."""
        if not self._waiting:
            return
        signature = self._choose()
        size = self._sizes.of(signature[0])
        lanes = self._waiting.take(signature, size.rows)
        for lane, answer in zip(lanes, self._answers(signature[0], lanes, size), strict=True):
            yield from self._resume(lane, answer)

    def _choose(self) -> tuple[Target, Hashable]:
        """The fullest group; images wait for the VAE until their batch is full or nothing else is left to do."""
        rows = self._rows()
        full = [s for s, n in rows.items() if n >= self._sizes.of(s[0]).rows]
        denoising = [s for s in rows if s[0] in DENOISERS]
        return max([s for s in full if s[0] not in DENOISERS] or full or denoising or rows, key=rows.__getitem__)

    def _resume(self, lane: Lane, answer: Any = None) -> Iterator[CellResult]:
        call = lane.resume(answer)
        if call is not None:
            self._waiting.add(lane, call)
            return
        assert lane.result is not None
        self.throughput.images += 1
        yield lane.result

    def _answers(self, target: Target, lanes: list[Lane], size: BatchSize) -> list[Any]:
        """One answer per lane, from one forward; in halves if memory runs out, alone if the batch cannot run."""
        calls = [lane.call for lane in lanes if lane.call is not None]
        try:
            return self._forward(target, calls, size)
        except Exception as error:  # whatever a model raises
            if len(calls) == 1:
                return [error]
            if isinstance(error, NoRowsError):  # nor will the next answer be; by accident it might look like it
                size = self._sizes.by_target[target] = BatchSize(1, settled=True)
                self.throughput.notes.append(f"not packed: {error}")
            if not _out_of_memory(error):
                return [answer for lane in lanes for answer in self._answers(target, [lane], size)]
        size.halve()
        if self._bench.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(lanes) // 2
        return self._answers(target, lanes[:half], size) + self._answers(target, lanes[half:], size)

    def _forward(self, target: Target, calls: list[Any], size: BatchSize) -> list[Any]:
        rows = [call.rows for call in calls]
        if self._fixed_shapes and target in DENOISERS:
            calls = _filled(calls, sum(rows), size.rows)
        start = self._clock.now()
        answer = self._models[target](**join(calls))
        if not size.settled:
            size.observe(sum(rows), self._clock.since(start))
        answers = split(answer, [call.rows for call in calls])[: len(rows)]
        if len(rows) > 1 and target not in self._checked:
            self._checked.add(target)
            if not alike(self._models[target](**calls[0].arguments), answers[0]):
                raise NoRowsError(f"{target} answers a row differently when others are beside it")
        self._account(target, rows, size.aim)
        return answers

    def _account(self, target: Target, rows: list[int], wanted: int) -> None:
        seen, total = self.throughput, sum(rows)
        if target in DENOISERS:
            seen.forwards += 1
            seen.evaluations += len(rows)
            seen.rows += total
            seen.wanted_rows += max(total, wanted)
            seen.max_batch = max(seen.max_batch, total)
            self._evaluated(len(rows))


def most_rows(cells: Sequence[Cell], cost: Callable[[Cell], int], engines: int = 1) -> int:
    """More rows than this could not be kept full: the longest cell alone would outlast all the others."""
    costs = [cost(c) * (2 if c.guidance_scale > 1 else 1) for c in cells]
    return max(2, sum(costs) // engines // max(map(cost, cells), default=1))


def _filled(calls: list[Call], rows: int, most: int) -> list[Call]:
    """`calls` and what brings them up to the next power of two, or to the most that a batch may have."""
    missing = min(1 << (rows - 1).bit_length(), max(rows, most)) - rows
    return [*calls, padding(calls[0], missing)] if missing else calls


def _out_of_memory(error: Exception) -> bool:
    """CUDA has a class for it; the CPU's and MPS's allocators raise a RuntimeError."""
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text or "can't allocate" in text
    )
