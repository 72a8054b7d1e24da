"""Work on results beside the making of the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from schedcmp.records import CellResult

T = TypeVar("T")
_MOST_WAITING = 32  # images in memory, so that a slow disk bounds it
_MOST_PIXELS = 16 * 1024**2  # of them


def in_background(results: Generator[CellResult], work: Callable[[CellResult], T]) -> Generator[T]:
    """What `work` makes of each result, in order, in a thread of its own; never beside the making of a timed cell.
    `results` are closed in any case."""
    with closing(results), ThreadPoolExecutor(1) as worker:
        waiting: deque[Future[T]] = deque()
        for result in results:
            waiting.append(worker.submit(work, result))
            pixels = max(1, (result.width or 0) * (result.height or 0) * (result.frames or 1))
            most = 0 if result.timings else min(_MOST_WAITING, _MOST_PIXELS // pixels)
            while waiting and (len(waiting) > most or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
