"""How fast a run goes, and how long the rest of it takes at that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from threading import RLock

DENOISING, DECODING = "denoising", "decoding"
_WINDOW_S = 20.0  # the pace is that of the last so many seconds


@dataclass(slots=True)
class Work:
    """Denoiser evaluations, and images to decode."""

    evaluations: int = 0
    images: int = 0

    def lessen(self, evaluations: int, images: int) -> None:
        self.evaluations = max(0, self.evaluations - evaluations)
        self.images = max(0, self.images - images)


class Pace:
    """A run's two parts, and what is left of them.

    Timed cells come first, one by one; packed ones are faster, by how much is known only once they run. Evaluations go
    by a clock that stands still while anything else is done; images by the time that decoding took. Any thread may ask.
    """

    def __init__(self, solo: Work, packed: Work, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = ""  # the last one known
        self._solo, self._packed = replace(solo), replace(packed)
        self._whole = sum((solo.evaluations, solo.images, packed.evaluations, packed.images))
        self._ahead = Work()  # of the solo cell that is not finished yet
        self._clock = clock
        self._lock = RLock()
        self._last = clock()  # when something was known
        self._busy: tuple[str, float, int] | None = None  # phase, since when, images
        self._aside_s = 0.0  # not spent on evaluations
        self._decoding = {True: [0.0, 0], False: [0.0, 0]}  # solo or not: seconds, images
        self._was_solo = True
        self._spent = 0  # evaluations of the present part
        self._seen = deque([(clock(), 0)])  # time of their clock, evaluations spent

    def doing(self, phase: str, images: int) -> None:
        """A model begins to work; with "" it has ended."""
        with self._lock:
            now = self._last = self._clock()
            if phase:
                self.phase, self._busy = phase, (phase, now, images)
            elif self._busy:
                (ended, since, images), self._busy = self._busy, None
                self._end(ended, now - since, images)

    def _end(self, phase: str, seconds: float, images: int) -> None:
        solo = self._is_solo
        if phase == DENOISING:
            if solo:  # the packed engine tells itself of whole batches
                self._ahead.evaluations += 1
                self._count(1)
            return
        self._aside_s += seconds
        if phase == DECODING:
            self._decoding[solo][0] += seconds
            self._decoding[solo][1] += images
            if solo:
                self._ahead.images += images
            else:
                self._packed.lessen(0, images)

    def spend(self, evaluations: int, *, packed: bool, images: int = 0) -> None:
        """So many evaluations are done: of a batch, or of a solo cell with all its images."""
        with self._lock:
            if packed == self._was_solo:  # another pace begins where the last one ended
                self._was_solo, self._spent, self._seen = not packed, 0, deque([(self._seen[-1][0], 0)])
            (self._packed if packed else self._solo).lessen(evaluations, images)
            self._count(max(0, evaluations - self._ahead.evaluations))
            self._ahead = Work()

    def _count(self, evaluations: int) -> None:
        self._last, self._spent = self._clock(), self._spent + evaluations
        now = self._evaluating_s()
        self._seen.append((now, self._spent))
        while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW_S:
            self._seen.popleft()

    @property
    def _is_solo(self) -> bool:
        return self._solo.evaluations > 0

    def _evaluating_s(self) -> float:
        """The clock of evaluations."""
        now = self._clock()
        aside = now - self._busy[1] if self._busy and self._busy[0] != DENOISING else 0.0
        return now - self._aside_s - aside

    @property
    def per_s(self) -> float | None:
        """Evaluations per second; None before the first ones."""
        with self._lock:
            (start, before), (end, after) = self._seen[0], self._seen[-1]
            now, longest = self._evaluating_s(), max((b - a for (a, _), (b, _) in pairwise(self._seen)), default=0.0)
            if now - end > longest:  # the present ones take longer than any before
                end = now
            return (after - before) / (end - start) if end > start and after > before else None

    @property
    def done(self) -> float:
        """0 to 1, of all evaluations and images."""
        with self._lock:
            left = self._left()
            return 1 - (left.evaluations + left.images) / self._whole if self._whole else 0.0

    def _left(self) -> Work:
        solo, packed = self._solo, self._packed
        left = Work(solo.evaluations + packed.evaluations, solo.images + packed.images)
        left.lessen(self._ahead.evaluations, self._ahead.images)
        return left

    def speed(self) -> str:
        """ "1,200 NFE/s", "3.1 NFE/s", "7.4 s/NFE"; "" before any are done."""
        rate = self.per_s
        if not rate:
            return ""
        return f"{rate:,.0f} NFE/s" if rate >= 10 else f"{rate:.1f} NFE/s" if rate >= 1 else f"{1 / rate:.1f} s/NFE"

    def left(self) -> str:
        """How long the rest takes; "" while nothing is known of it.

        "< 0:05:00 left" while a pace is known only of the slower part, "> 0:05:00 left" while that of decoding is not,
        "about 0:05:00 left" while neither is.
        """
        with self._lock:
            rate, left, images_s = self.per_s, self._left(), self._seconds_per_image()
            if not rate or (left.images and not left.evaluations and images_s is None):
                return ""
            waited = self._clock() - self._last
            seconds = left.evaluations / rate + left.images * (images_s or 0.0) - waited
            below = self._goes_by_solo
            above = left.images > 0 and images_s is None and bool(self.phase)
        if seconds <= 0:
            return ""
        if seconds < 1:
            return "" if above else "< 1 s left"
        return f"{'about ' if below and above else '< ' if below else '> ' if above else ''}{duration(seconds)} left"

    @property
    def _goes_by_solo(self) -> bool:
        """Whether something packed is left whose own pace is not known."""
        if self._was_solo:
            return self._packed.evaluations > 0
        return self._packed.images > 0 and self._decoding[True][1] > 0 and not self._decoding[False][1]

    def _seconds_per_image(self) -> float | None:
        """Of the present part; before it has decoded any, of the one before."""
        known = [self._decoding[part] for part in (self._is_solo, True) if self._decoding[part][1]]
        return known[0][0] / known[0][1] if known else None


def duration(seconds: float) -> str:
    """ "0:01:30"; below ten seconds "4.2 s"."""
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))
