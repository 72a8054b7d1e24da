"""Attacks in lanes, one beside the other. Each works in a forked process that is watched, and ended if it hangs."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tools.soak.case import Case, Failed, Grounds
from tools.soak.table import ATTACKS

_SILENT_S = 600  # no case takes so long
_ADDRESS_SPACE_BYTES = 8 << 30  # beyond what is mapped: an attack on the memory is none on the machine

Told = Callable[[dict[str, Any]], None]


@dataclass
class Lane:
    """Every `of`-th case of each attack, beginning with `first`: attack after attack, each for its time in seconds."""

    grounds: Grounds
    seed: int
    first: int
    of: int
    times: Mapping[str, float]
    single: int | None = None  # this case alone
    keep: bool = False  # the folders of cases that failed
    _left: Iterator[tuple[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        turn = [*self.times.items()]
        self._left = iter(turn[self.first % len(turn) :] + turn[: self.first % len(turn)])
        self._attack, self._until = "", 0.0
        self._number = self.first
        self._next_attack()

    def _next_attack(self) -> None:
        self._attack, seconds = next(self._left, ("", 0.0))
        self._until, self._number = time.monotonic() + seconds, self.first
        self._open()

    def _open(self) -> None:
        """Begin the attack in a process of its own, or go on with it after the process was ended."""
        self.pid, self.output = 0, None
        if not self._attack:
            return
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            os.setpgid(0, 0)
            self._work(os.fdopen(writer, "w", buffering=1))
        os.close(writer)
        self.output: IO[bytes] | None = os.fdopen(reader, "rb", buffering=0)
        self._heard, self._partial = time.monotonic(), b""

    def _work(self, tell: IO[str]) -> None:
        code = 1
        try:
            _bound_memory()
            while True:
                case = self._case()
                tell.write(json.dumps(_outcome(case, keep=self.keep)) + "\n")
                self._number += self.of
                if self.single is not None or time.monotonic() > self._until:
                    break
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            tell.flush()
            os._exit(code)

    def _case(self) -> Case:
        number = self._number if self.single is None else self.single
        folder = self.grounds.folder / f"lane-{self.first}" / self._attack
        return Case(self._attack, self.seed, number, self.grounds, folder / (str(number) if self.keep else "case"))

    def hear(self, told: Told) -> None:
        """Take what the process has told; when it has ended, begin the next attack."""
        assert self.output
        data = os.read(self.output.fileno(), 1 << 16)
        self._heard = time.monotonic()
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._number += self.of
            told(json.loads(line))
        if not data:
            _, status = os.waitpid(self.pid, 0)
            self.output.close()
            if os.waitstatus_to_exitcode(status):
                self._ended(told, f"ended with {os.waitstatus_to_exitcode(status)}")
            else:
                self._next_attack()

    def watch(self, told: Told) -> None:
        if self.output and time.monotonic() - self._heard > _SILENT_S:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.output.close()
            self._ended(told, f"hang: nothing for {_SILENT_S} s, and no signal helped")

    def _ended(self, told: Told, why: str) -> None:
        told({"attack": self._attack, "number": self._number, "failed": why, "seen": {}, "done": [], "seconds": 0})
        self._number += self.of
        if time.monotonic() < self._until and self.single is None:
            self._open()
        else:
            self._next_attack()


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + _ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def _outcome(case: Case, *, keep: bool) -> dict[str, Any]:
    begun, failed = time.monotonic(), None
    try:
        ATTACKS[case.attack].of_a_case(case)
    except Failed as error:
        failed = str(error)
    except Exception:
        failed = f"the attack itself: {traceback.format_exc(limit=-6)}"
    if not (failed and keep):
        shutil.rmtree(case.folder, ignore_errors=True)
    return {
        "attack": case.attack, "number": case.number, "failed": failed, "seen": dict(case.seen),
        "done": case.done if failed else [], "seconds": time.monotonic() - begun,
    }  # fmt: skip


def run_lanes(lanes: list[Lane], told: Told) -> None:
    while working := [lane for lane in lanes if lane.output]:
        ready, _, _ = select.select([lane.output for lane in working], [], [], 1)
        for lane in working:
            if lane.output in ready:
                lane.hear(told)
            else:
                lane.watch(told)
