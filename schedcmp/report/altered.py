"""What came out otherwise than it was asked for, which nobody could know before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schedcmp.records import Length, StoredCell, length_of


def altered(cells: Iterable[StoredCell], trajectories: Mapping[Length, Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each option of a scheduler that was planned otherwise than it ran.

    Args:
        trajectories: the plan of each scheduler at a number of steps, with its `config`.
    """
    found: dict[tuple[str, str, str, str], dict[int, None]] = {}
    for stored in cells:
        cell, ran = stored.cell, stored.result.scheduler_config
        planned = trajectories.get(length_of(cell), {}).get("config") or {}
        for name, value in planned.items():
            if ran and ran.get(name, value) != value:
                found.setdefault((cell.scheduler, name, repr(value), repr(ran[name])), {})[cell.steps] = None
    for (scheduler, name, value, other), steps in found.items():
        at = ", ".join(map(str, steps))
        yield f"{scheduler} turned {name} from {value} into {other} while it ran (at {at} steps)."


def resized(cells: Iterable[StoredCell]) -> Iterator[str]:
    """A sentence for each size that was asked for and that images did not get."""
    found: dict[tuple[str, str, str], int] = {}
    for stored in cells:
        cell, made = stored.cell, stored.result
        if cell.width and made.width and (made.width, made.height) != (cell.width, cell.height):
            key = (cell.model, f"{cell.width}x{cell.height}", f"{made.width}x{made.height}")
            found[key] = found.get(key, 0) + 1
    for (model, asked, size), count in found.items():
        whose = f"{model}: " if model else ""
        yield f"{whose}{count:,} images of {asked} came out as {size}: the pipeline chooses sizes of its own."
