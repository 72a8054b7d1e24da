"""Who goes next, and how many at once. Knows rows and groups, not tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from schedcmp.checkpoint.layout import DENOISERS

if TYPE_CHECKING:
    from schedcmp.engine.calls.call import Call

_VAE_ROWS = 8  # decoding gains little from more, and its activations are large
# Pixels of a batch on a CPU: one image of 512 × 512 keeps it busy, and the activations of more only take memory. A
# denoiser's are a quarter of a VAE's decoder's or less (of Stable Diffusion's, for each pixel of the image)
DECODED = 512**2
DENOISED = 8 * DECODED


T = TypeVar("T")


@dataclass(slots=True)
class BatchSize:
    """The rows per batch for one model, found by doubling for as long as that pays.

    A size is judged by the best of a few full batches, because the first one of a shape is slow; and the smaller
    neighbours of the best once more, because they were tried while the whole process was slow. Running out of memory
    halves it for good.
    """

    rows: int = 2
    settled: bool = False
    most: int = 512
    _rates: dict[int, float] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)
    _samples: int = 0

    WORTH = 1.05  # more rows must gain this much: they take memory, and the last batches are harder to fill
    SAMPLES = 3

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of `rows` took so long. Batches that are not full say nothing."""
        if self.settled or rows <= self.rows // 2:
            return
        self._rates[self.rows] = max(self._rates.get(self.rows, 0.0), rows / seconds)
        self._samples += 1
        if self._samples == self.SAMPLES:
            self._samples = 0
            self._grow_or_settle()

    @property
    def aim(self) -> int:
        """The fewest rows that are as fast as any that were tried: a fuller batch would be no faster."""
        best = max(self._rates.values(), default=0.0)
        return min((rows for rows, rate in self._rates.items() if rate * self.WORTH >= best), default=self.rows)

    def widen(self, rows: int) -> None:
        """Calls may have so many rows: smaller batches are not tried any more."""
        if not self.settled and self.rows < rows:
            self.rows, self._samples = rows, 0
            self._rates.clear()

    def halve(self, rows: int) -> None:
        """So many rows did not fit into memory."""
        self.rows, self.settled = max(1, min(self.rows, rows) // 2), True
        self._rates.clear()

    def _grow_or_settle(self) -> None:
        """Two doublings that gain nothing are the end: one may have been measured in a bad moment."""
        best = self.aim
        if not self._again and self.rows < 4 * best and self.rows * 2 <= self.most:
            self.rows *= 2
        elif best // 2 in self._rates.keys() - self._again:
            self.rows = best // 2
            self._again.add(self.rows)
        else:
            self.rows, self.settled = best, True


@dataclass(slots=True)
class Sizes:
    """A batch size for each model."""

    fixed: int | None
    least: int = 2  # rows of the widest lane yet
    most: int = 512
    scale: int | None = None  # pixels to a latent pixel, where a batch is to take little more memory than an image
    by_target: dict[str, BatchSize] = field(default_factory=dict)

    def rows(self, call: Call) -> int:
        """How many rows may go at once with such a call; at least one."""
        most = self.of(call.target).rows
        if call.target not in DENOISERS and not self.fixed:
            most = max(1, most // call.frames)  # what is decoded of each takes as much memory as an image
        if self.scale is None or self.fixed:
            return most
        pixels = DENOISED if call.target in DENOISERS else DECODED
        return max(1, min(most, pixels // (call.area * self.scale**2)))

    def widen(self, rows: int) -> None:
        """Let a lane of so many rows fit, unless its batch size is settled."""
        self.least = max(self.least, rows)
        for size in self.by_target.values():
            size.widen(rows)

    def of(self, target: str) -> BatchSize:
        if target not in self.by_target:
            known = self.fixed or (None if target in DENOISERS else _VAE_ROWS)
            self.by_target[target] = BatchSize(known or self.least, settled=known is not None, most=self.most)
        return self.by_target[target]


class Waiting(Generic[T]):
    """What is parked, in groups that fit one batch; first come, first served within a group."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, dict[T, int]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, owner: T, call: Call) -> None:
        self._groups[call.signature][owner] = call.rows

    def rows(self) -> dict[Hashable, int]:
        """Rows that wait, by signature."""
        return {signature: sum(group.values()) for signature, group in self._groups.items()}

    def first(self, signature: Hashable) -> T:
        """The oldest of a group."""
        return next(iter(self._groups[signature]))

    def take(self, signature: Hashable, most_rows: int) -> list[T]:
        """The owners of the next batch of a group: the oldest, and after it those that fit into so many rows."""
        group = self._groups[signature]
        taken = list(_within(group.items(), most_rows))
        for owner in taken:
            del group[owner]
        if not group:
            del self._groups[signature]
        return taken


def _within(items: Iterable[tuple[T, int]], most_rows: int) -> Iterator[T]:
    total = 0
    for owner, rows in items:
        if not total or total + rows <= most_rows:
            total += rows
            yield owner


def chosen(
    rows: Mapping[tuple[str, Hashable], int], full_at: Callable[[str], int], *, overdue: bool
) -> tuple[str, Hashable]:
    """The fullest group by signature; images wait for the VAE until their batch is full, nothing else is left to do, or
    so long that a run which is stopped would lose much.

    Args:
        rows: that wait.
        full_at: rows of a full batch, by target.
        overdue: whether they have waited so long.
    """
    full = [s for s, n in rows.items() if n >= full_at(s[0])]
    denoising = [s for s in rows if s[0] in DENOISERS]
    due = [s for s in rows if s[0] not in DENOISERS and (s in full or overdue)]
    return max(due or full or denoising or rows, key=rows.__getitem__)
