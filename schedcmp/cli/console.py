"""The terminal: tables for people, and progress that also reads well in a log."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LOG_EVERY_S = 5.0


class Advance(Protocol):
    """Tell that a cell is finished, what it cost, and which one it was."""

    def __call__(self, cost: int, text: str) -> None: ...


def say(text: str = "") -> None:
    """A plain line; nothing in it is markup and it is not broken."""
    out.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    err.print(f"warning: {text}", markup=False, soft_wrap=True)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    names: Collection[str] = (),
    left: Collection[str] = (),
) -> None:
    """A table. Columns in `names` are set left and never broken, those in `left` may wrap, the others are numbers."""
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for name in head:
        justify: Literal["left", "right"] = "left" if name in left or name in names else "right"
        grid.add_column(name, justify=justify, no_wrap=name not in left, overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    out.print(grid)


@contextmanager
def progress(cells: int, cost: int) -> Iterator[Advance]:
    """A bar with the time left on a terminal, else a line now and then. Time goes with `cost` (evaluations)."""
    if err.is_terminal:
        with _bar() as bar:
            task = bar.add_task("", total=cost, cells=cells, done=0)
            done = 0

            def advance(cost: int, text: str) -> None:
                nonlocal done
                done += 1
                bar.update(task, advance=cost, done=done, description=escape(text))

            yield advance
    else:
        yield _Log(cells, cost)


class _Log:
    """Progress as plain lines, for logs and CI."""

    def __init__(self, cells: int, cost: int) -> None:
        self._cells, self._cost = cells, cost
        self._done = self._spent = 0
        self._start = self._last = time.monotonic()

    def __call__(self, cost: int, text: str) -> None:
        self._done += 1
        self._spent += cost
        now = time.monotonic()
        if now - self._last >= _LOG_EVERY_S or self._done == self._cells:
            self._last = now
            left = (now - self._start) / max(self._spent, 1) * (self._cost - self._spent)
            ending = f"about {duration(left)} left" if self._done < self._cells else duration(now - self._start)
            err.print(f"{self._done}/{self._cells} cells, {ending}", markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """ "0:01:30"; below ten seconds "4.2 s"."""
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def _bar() -> Progress:
    return Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.fields[done]}/{task.fields[cells]} cells"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style="dim"),
        console=err,
        transient=True,
    )
