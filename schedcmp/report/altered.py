"""Options that a scheduler changed while it ran, which nobody could know before."""

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
