"""A run is asked to stop, once or several times quickly: it says so in one line, and goes on when it is repeated."""

from __future__ import annotations

import signal
import time
from functools import partial

from tools.soak.case import Case, Failed
from tools.soak.commands import Started
from tools.soak.grounds import STOPPED
from tools.soak.runs import Stored, bring_to_its_end, look_into, stop

_ENDS_IN_S = 60  # on a machine that others use too
# Finished; interrupted; ended before the command had taken the signal for an interrupt
_CODES = (0, 130, -signal.SIGTERM, -signal.SIGINT)


def attack(case: Case) -> None:
    """Three stops of one run. Counts each."""
    name, run = case.random.choice(STOPPED), case.folder / "run"
    usual_s = case.random.choice((0.3, 0.6, 0.9)) * case.grounds.seconds[name]
    before: Stored = {}
    for _ in range(3):
        fresh = case.random.random() < 0.3
        started = Started(case, "run", case.grounds.sweep(name), "-o", run, fresh=fresh)
        numbers = case.random.choices((signal.SIGINT, signal.SIGTERM), k=case.random.choice((1, 1, 2, 3)))
        case.say(" ".join(number.name for number in numbers))
        send = partial(_send, case, numbers)
        alive = stop(case, started, run, 2 * usual_s if fresh else usual_s, send)
        case.seen["signals" if alive else "ended before"] += 1
        said = started.wait(_ENDS_IN_S)
        if said.code not in _CODES:
            raise Failed(f"code {said.code} after {numbers}: {said.err[-1000:]}")
        before = look_into(case, run, before)
    bring_to_its_end(case, name, run, before)


def _send(case: Case, numbers: list[signal.Signals], started: Started) -> None:
    for number in numbers:
        started.send(number)
        time.sleep(case.random.choice((0, 0.001, 0.05, 0.3)))
