"""How far a run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Timer
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from schedcmp.cli.console import err, note
from schedcmp.cli.pace import Pace, Work, duration
from schedcmp.guard.texts import visible

_LOG_EVERY_S = 5.0
_REFRESHES_PER_S = 4
_BESIDE = 20  # columns of the bar, the time and the gaps
_NOTHING = Work()
Occupancy = Callable[[], float | None]


class Advance:
    """Told of models at work, of evaluations as they are spent and of cells as they are finished; shows nothing."""

    def __init__(self, count: int, things: str, pace: Pace, occupancy: Occupancy) -> None:
        self.done = 0
        self._count, self._things, self._pace, self._occupancy = count, things, pace, occupancy

    def doing(self, phase: str, images: int) -> None:
        self._pace.doing(phase, images)
        if phase:
            self._show()

    def solo(self, evaluations: int, images: int = 0) -> None:
        self._pace.spend(evaluations, packed=False, images=images)
        self._show()

    def packed(self, evaluations: int) -> None:
        self._pace.spend(evaluations, packed=True)
        self._show()

    def finish(self, text: str) -> None:
        self.done += 1
        self._show(text)

    @property
    def count(self) -> str:
        return f"{self.done}/{self._count} {self._things}"

    def facts(self) -> list[str]:
        """What is done, what is left, the pace, and how full the batches are, as far as they are known."""
        pace, full = self._pace, self._occupancy()
        speed = pace.speed() if self._things == "cells" else ""
        return [*filter(None, [pace.phase, pace.left(), speed]), *([] if full is None else [f"{full:.0%} full"])]

    def _show(self, finished: str | None = None) -> None:
        pass


@contextmanager
def progress(
    count: int,
    solo: Work,
    packed: Work = _NOTHING,
    occupancy: Occupancy = lambda: None,
    *,
    things: str = "cells",
    silent: bool = False,
) -> Iterator[Advance]:
    """Shows how many of `count` things are finished, the time left, and of cells the pace.

    Args:
        solo: what runs alone, repeats included.
        packed: the rest.
        occupancy: 0 to 1, how full batches were up to now; None before there are any.
    """
    pace = Pace(solo, packed)
    if silent:
        yield Advance(count, things, pace, occupancy)
    elif err.is_terminal and (not err.is_jupyter or find_spec("ipywidgets")):  # without them rich shows nothing there
        with _bar() as bar:
            yield _Shown(bar, count, things, pace, occupancy)
    else:
        yield _Log(count, things, pace, occupancy)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Shows that something is done, and for how long, before or after the cells are made."""
    if err.is_terminal:
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=err, transient=True, refresh_per_second=_REFRESHES_PER_S) as bar:
            bar.add_task(name, total=None)
            yield
        return
    late = Timer(_LOG_EVERY_S, note, [name])
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


class _Shown(Advance):
    """Progress as a bar, which goes on by itself while a model takes its time."""

    def __init__(self, bar: Progress, *others: Any) -> None:
        super().__init__(*others)
        self.bar = bar
        self._task = bar.add_task("", total=1.0, advance=self)

    def _show(self, finished: str | None = None) -> None:
        name = {} if finished is None else {"description": escape(visible(finished))}
        done = 1.0 if self.done == self._count else min(self._pace.done, 0.99)  # a full bar's time stands still
        self.bar.update(self._task, completed=done, **name)  # type: ignore[arg-type]

    @property
    def fitting(self) -> str:
        """As many of the facts as there is room for, the first ones first."""
        facts = self.facts()
        while facts and len("  ".join(facts)) > err.width - len(self.count) - _BESIDE:
            facts.pop()
        return "  ".join(facts)


class _Log(Advance):
    """Progress as plain lines, for logs and CI."""

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        self._start = self._last = time.monotonic()

    def _show(self, finished: str | None = None) -> None:
        now, over = time.monotonic(), finished is not None and self.done == self._count
        if over or now - self._last >= _LOG_EVERY_S:
            self._last = now
            note(", ".join([self.count, duration(now - self._start), *([] if over else self.facts())]))


def _bar() -> Progress:
    """On one line of any width: the bar and the last cell's name take what the numbers leave."""
    whole: dict[str, Any] = {"no_wrap": True}
    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
        TextColumn("{task.fields[advance].count}", markup=False),
        TimeElapsedColumn(table_column=Column(**whole)),
        TextColumn("{task.fields[advance].fitting}", markup=False),
        TextColumn("{task.description}", style="dim", table_column=Column(ratio=2, overflow="ellipsis", **whole)),
        console=err,
        transient=True,
        expand=True,
        refresh_per_second=_REFRESHES_PER_S,
    )
