"""The attacks, and which share of the time each gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.soak import checkpoints, corruption, crafted, kills, signals, sweeps
from tools.soak.case import Case


@dataclass(frozen=True)
class Attack:
    """`of_a_case` is called once for each case; it raises Failed where a promise does not hold."""

    of_a_case: Callable[[Case], None]
    share: float
    counted: str  # in `Case.seen` if it is there, else cases are counted


ATTACKS = {
    "kills": Attack(kills.attack, 0.32, "kills"),
    "signals": Attack(signals.attack, 0.07, "signals"),
    "sweeps": Attack(sweeps.attack, 0.27, "sweeps"),
    "corruption": Attack(corruption.attack, 0.18, "damaged runs"),
    "crafted": Attack(crafted.attack, 0.09, "crafted runs"),
    "checkpoints": Attack(checkpoints.attack, 0.07, "hostile checkpoints"),
}
