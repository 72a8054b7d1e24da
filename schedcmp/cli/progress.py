"""How far a run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from schedcmp.cli.console import err, note
from schedcmp.texts import visible

_LOG_EVERY_S = 5.0
_WINDOW_S = 20.0  # the pace is that of the last so many seconds


class Pace:
    """The evaluations of a run's two parts, how fast they go, and how long the rest takes at that.

    Timed cells come first, one by one; packed ones are faster, by how much is known only once they run.
    """

    def __init__(self, solo: int, packed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = {"solo": solo, "packed": packed}
        self._clock = clock
        self._part = "solo"
        self._spent = 0  # of the present part
        self._seen = deque([(clock(), 0)])  # time, evaluations spent

    def spend(self, evaluations: int, *, packed: bool) -> None:
        part = "packed" if packed else "solo"
        if part != self._part:  # another pace begins where the last one ended
            self._part, self._spent, self._seen = part, 0, deque([(self._seen[-1][0], 0)])
        self._spent += evaluations
        self._left[part] = max(0, self._left[part] - evaluations)
        now = self._clock()
        self._seen.append((now, self._spent))
        while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float | None:
        """Evaluations per second; None before the first ones."""
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - start) if end > start else None

    def left(self) -> str:
        """ "0:01:30 left"; "< 0:05:00 left" while only the slower part's pace is known; "" before any is."""
        if not self.per_s:
            return ""
        bound = "< " if self._part == "solo" and self._left["packed"] else ""
        return f"{bound}{duration(sum(self._left.values()) / self.per_s)} left"


Occupancy = Callable[[], float | None]


class Advance:
    """Told of what goes on: evaluations as they are spent, cells as they are finished."""

    def __init__(self, count: int, things: str, pace: Pace, occupancy: Occupancy) -> None:
        self.done = 0
        self._count, self._things, self._pace, self._occupancy = count, things, pace, occupancy

    def solo(self, evaluations: int) -> None:
        self._spend(evaluations, packed=False)

    def packed(self, evaluations: int) -> None:
        self._spend(evaluations, packed=True)

    def finish(self, text: str) -> None:
        self.done += 1
        self._show(0, text)

    @property
    def count(self) -> str:
        return f"{self.done}/{self._count} {self._things}"

    def facts(self) -> list[str]:
        """What is left, the pace, and how full the batches are, as far as they are known."""
        pace, full = self._pace, self._occupancy()
        speed = [f"{pace.per_s:,.0f} NFE/s"] if pace.per_s and self._things == "cells" else []
        return [*filter(None, [pace.left()]), *speed, *([] if full is None else [f"{full:.0%} full"])]

    def _spend(self, evaluations: int, *, packed: bool) -> None:
        self._pace.spend(evaluations, packed=packed)
        self._show(evaluations)

    def _show(self, evaluations: int, finished: str | None = None) -> None:
        raise NotImplementedError


@contextmanager
def progress(
    count: int, solo: int, packed: int = 0, occupancy: Occupancy = lambda: None, *, things: str = "cells"
) -> Iterator[Advance]:
    """Shows how many of `count` things are finished, the time left, and of cells the evaluations per second.

    Args:
        solo: evaluations of what runs alone, repeats included.
        packed: evaluations of the rest.
        occupancy: 0 to 1, how full batches were up to now; None before there are any.
    """
    pace = Pace(solo, packed)
    if err.is_terminal:
        with _bar() as bar:
            yield _Shown(bar, solo + packed, count, things, pace, occupancy)
    else:
        yield _Log(count, things, pace, occupancy)


class _Shown(Advance):
    """Progress as a bar."""

    def __init__(self, bar: Progress, total: int, *others: Any) -> None:
        super().__init__(*others)
        self.bar = bar
        self._task = bar.add_task("", total=total, count=self.count, facts="")

    def _show(self, evaluations: int, finished: str | None = None) -> None:
        name = {} if finished is None else {"description": escape(visible(finished))}
        facts = "  ".join(self.facts())
        self.bar.update(self._task, advance=evaluations, count=self.count, facts=facts, **name)  # type: ignore[arg-type]


class _Log(Advance):
    """Progress as plain lines, for logs and CI."""

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        self._start = self._last = time.monotonic()

    def _show(self, evaluations: int, finished: str | None = None) -> None:
        now, over = time.monotonic(), finished is not None and self.done == self._count
        if over or now - self._last >= _LOG_EVERY_S:
            self._last = now
            facts = [duration(now - self._start)] if over else self.facts()
            note(", ".join([self.count, *facts]))


def duration(seconds: float) -> str:
    """ "0:01:30"; below ten seconds "4.2 s"."""
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def _bar() -> Progress:
    """On one line of any width: the bar and the last cell's name take what the numbers leave."""
    whole: dict[str, Any] = {"no_wrap": True}
    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
        TextColumn("{task.fields[count]}", table_column=Column(**whole)),
        TimeElapsedColumn(table_column=Column(**whole)),
        TextColumn("{task.fields[facts]}", table_column=Column(**whole)),
        TextColumn("{task.description}", style="dim", table_column=Column(ratio=2, overflow="ellipsis", **whole)),
        console=err,
        transient=True,
        expand=True,
    )
