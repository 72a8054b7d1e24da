"""The models of a packed engine: many calls answered by one forward, in batches as large as pay and fit."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import nullcontext
from typing import Any

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.batch import BatchSize, Sizes
from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.joining import join, per_cell, take_rows
from schedcmp.engine.calls.splitting import NoRowsError, answers_of, interleave, nearly_equal, rows_of_first
from schedcmp.engine.clock import Clock
from schedcmp.engine.job import CONTROLNET
from schedcmp.engine.lane import Models
from schedcmp.engine.throughput import Throughput
from schedcmp.guard import shortage


class Answering:
    """Answers calls of one signature. Whatever a model raises is an answer.

    Attributes:
        models: by target, while they are parked.
    """

    def __init__(self, sizes: Sizes, throughput: Throughput, clock: Clock, *, fixed_shapes: bool) -> None:
        """
        Args:
            fixed_shapes: fill batches up to a power of two, since the denoiser is compiled anew for each size.
        """
        self.models: Models = {}
        self._sizes, self._throughput, self._clock = sizes, throughput, clock
        self._fixed_shapes = fixed_shapes
        self._unread: list[tuple[BatchSize, int, Any, Any]] = []  # rows and instants of batches that try a size
        self._compiled: set[tuple[Hashable, int]] = set()
        self._checked: set[str] = set()  # whose first batch was compared with a call alone

    def learn(self) -> None:
        """Judge batch sizes by batches that have been computed."""
        for size, rows, start, end in self._unread:
            size.observe(rows, self._clock.between(start, end))
        self._unread.clear()

    def answer(self, calls: list[Call]) -> list[Any]:
        """One answer per call, from one forward; in halves if memory runs out, alone if the batch cannot run."""
        target = calls[0].target
        size = self._sizes.of(target)
        too_wide = calls[0].cells > 1 and self._sizes.rows(calls[0]) < calls[0].rows
        try:
            if not too_wide:
                return self._forward(calls, size)
            if len(calls) == 1:
                each = per_cell(calls[0])
                return [interleave([self._forward([call], size)[0] for call in each], each[0].rows)]
            part = 1
        except Exception as error:  # whatever a model raises
            if len(calls) == 1 and (too_wide or calls[0].cells == 1):
                return [error]
            smaller = self._made_smaller(target, sum(call.rows for call in calls), error)
            if len(calls) == 1 and not smaller:
                return [error]
            part = max(1, len(calls) // 2) if shortage.of_memory(error) else 1
        return [answer for i in range(0, len(calls), part) for answer in self.answer(calls[i : i + part])]

    def _made_smaller(self, target: str, rows: int, error: Exception) -> bool:
        """Whether so many rows were too many; if so, the next batches are smaller."""
        if isinstance(error, NoRowsError):  # nor will the next answer be; by accident it might look like it
            self._sizes.by_target[target] = BatchSize(1, settled=True)
            self._throughput.notes.append(f"not packed: {error}")
        elif shortage.of_memory(error):
            self._sizes.of(target).halve(rows)
            if self._clock.device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            return False
        return True

    def _forward(self, calls: list[Call], size: BatchSize) -> list[Any]:
        target, rows = calls[0].target, [call.rows for call in calls]
        fixed = self._fixed_shapes and target in DENOISERS and calls[0].parts == 1
        if fixed:
            calls = _filled(calls, self._shape(calls[0], sum(rows), size.rows))
        start = self._clock.now()
        answer = self._run(calls, fixed)
        if not size.settled and self._is_compiled(calls):
            self._unread.append((size, sum(rows), start, self._clock.now()))
        by_block = target == CONTROLNET
        answers = answers_of(answer, calls, by_block=by_block)[: len(rows)]
        if (len(rows) > 1 or calls[0].cells > 1) and target not in self._checked:
            self._checked.add(target)
            alone = self._alone(calls, fixed)
            if not nearly_equal(alone, rows_of_first(answers[0], calls[0].cells, calls[0].rows)):
                raise NoRowsError(f"{target} answers a row differently when others are beside it")
        if target in DENOISERS:
            self._throughput.count(sum(rows), min(size.aim, self._sizes.rows(calls[0])))
        return answers

    def _alone(self, calls: list[Call], fixed: bool) -> Any:
        """The answer to the first cell; of a fixed shape beside itself, since its own shape would be compiled too."""
        first = per_cell(calls[0])[:1]
        first = _filled(first, sum(call.rows for call in calls)) if fixed else first
        return answers_of(self._run(first, fixed), first)[0]

    def _run(self, calls: list[Call], fixed: bool) -> Any:
        model, processors = self.models[calls[0].target], calls[0].processors
        with processors.installed() if processors.of else nullcontext():
            return model(**join(calls, float_timesteps=fixed))

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


def _filled(calls: list[Call], rows: int) -> list[Call]:
    """`calls` and others of one row, up to so many rows in all."""
    missing = rows - sum(call.rows for call in calls)
    return [*calls, *[take_rows(calls[0], 0, calls[0].rows)] * missing]
