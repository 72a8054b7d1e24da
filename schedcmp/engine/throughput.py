"""What a packed run achieved, for the whole of it; never a latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Throughput:
    """Of one engine, or of several together."""

    images: int = 0
    forwards: int = 0  # of the denoiser
    evaluations: int = 0  # of the denoiser, for all cells; a whole solve stands for several
    rows: int = 0  # of the denoiser: an evaluation with classifier-free guidance has two
    wanted_rows: int = 0  # had every forward been full
    wall_s: float = 0.0
    max_batch: int = 0
    notes: list[str] = field(default_factory=list)  # what the user should know

    def count(self, rows: int, wanted: int) -> None:
        """A forward of the denoiser, and the rows that it could have had."""
        self.forwards += 1
        self.rows += rows
        self.wanted_rows += max(rows, wanted)
        self.max_batch = max(self.max_batch, rows)

    @property
    def occupancy(self) -> float:
        """Rows per forward over the batch size that was aimed at."""
        return self.rows / self.wanted_rows if self.wanted_rows else 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"occupancy": self.occupancy}


_SUMS = ("images", "forwards", "evaluations", "rows", "wanted_rows")


def total(parts: Sequence[Throughput]) -> Throughput:
    """Of engines that ran side by side; how long that took all of them is for the caller to say."""
    return Throughput(
        **{name: sum(getattr(part, name) for part in parts) for name in _SUMS},
        max_batch=max((part.max_batch for part in parts), default=0),
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )
