"""A run that is sent to its address while it is being made."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

from schedcmp.addresses.mirror import Mirror
from schedcmp.errors import SchedcmpError

EVERY_S = 60.0
_SHARE = 0.1  # of the run's time, at most, when sending takes longer


class Following:
    """Sends every minute or more seldom, beside the run; but between cells, and not beside one, where they are timed.

    What fails is told once and tried again: the run goes on.
    """

    def __init__(self, mirror: Mirror, told: Callable[[str], None]) -> None:
        self._mirror, self._told = mirror, told
        self._aside = True  # nothing is sent before the run has begun
        self._failing = False
        self._ended = Event()
        self._due = time.monotonic() + EVERY_S
        self._thread = Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def between_cells(self, *, timed: bool) -> None:
        """To be called by the run after each cell: `timed` if the next one may be timed too."""
        self._aside = timed
        if timed and time.monotonic() >= self._due:
            self._try(self._mirror.send)

    def _follow(self) -> None:
        while not self._ended.wait(max(self._due - time.monotonic(), 0) or EVERY_S):
            self._try(self._mirror.keep_claim if self._aside else self._mirror.send)

    def _try(self, work: Callable[[], object]) -> None:
        start = time.monotonic()
        try:
            work()
            self._failing = False
        except SchedcmpError as error:
            if not self._failing:
                self._told(f"{error}; the run goes on, and that is tried again")
            self._failing = True
        end = time.monotonic()
        if work == self._mirror.send:
            self._due = end + max(EVERY_S, (end - start) / _SHARE)
