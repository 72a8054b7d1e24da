"""A run is killed (SIGKILL) again and again, each time it is repeated; at last it comes to its end."""

from __future__ import annotations

import signal
import time

from tools.soak.case import Case
from tools.soak.commands import Started
from tools.soak.grounds import STOPPED
from tools.soak.runs import Stored, bring_to_its_end, look_into, stop

_MOST = 12
_OTHERS = ("report", "check")


def attack(case: Case) -> None:
    """A storm of kills on one run. Counts each."""
    name, run = case.random.choice(STOPPED), case.folder / "run"
    usual_s = case.random.choice((0.3, 0.6, 0.9)) * case.grounds.seconds[name]
    before: Stored = {}
    for _ in range(case.random.randint(3, _MOST)):
        begun = time.monotonic()
        started = _start(case, name, bool(before))
        alive = stop(case, started, run, usual_s, lambda one: one.send(signal.SIGKILL))
        started.wait()
        case.seen["kills" if alive else "ended before"] += 1
        if not alive:
            usual_s = 0.8 * (time.monotonic() - begun)
        if case.random.random() < 0.7 or not alive:  # else the next command meets what is there as it is
            before = look_into(case, run, before)
    bring_to_its_end(case, name, run, before)


def _start(case: Case, name: str, begun: bool) -> Started:
    run, sweep = case.folder / "run", case.grounds.sweep(name)
    if begun and case.random.random() < 0.15:
        other = case.random.choice(_OTHERS)
        return Started(case, other, run, *(["--repair"] if other == "check" else []))
    return Started(case, "run", sweep, "-o", run, fresh=case.random.random() < 0.05)
