"""Time and memory as the device sees them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_EAGER = 0.25  # of the wall time; a thread that wants to run for less has nothing to do with the images


class Clock:
    """Instants on a device's own time line.

    On CUDA an instant is an event in the stream: recording it does not wait, so measuring does not take away the
    overlap of host and device that makes a pipeline fast. `wait` once, then read the differences.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"

    def now(self) -> Any:
        """This instant; opaque, for `seconds`."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self.device))
            return event
        self.wait()
        return time.perf_counter()

    def seconds(self, start: Any, end: Any) -> float:
        """From one instant to another. On CUDA, only after `wait`."""
        return float(start.elapsed_time(end) / 1e3 if self._cuda else end - start)

    def between(self, start: Any, end: Any) -> float:
        """Seconds from one instant to another, waiting for no more than the latter."""
        if self._cuda:
            end.synchronize()
        return self.seconds(start, end)

    def since(self, start: Any) -> float:
        """Seconds from an instant until the device has done all that it was asked to by now."""
        end = self.now()
        self.wait()
        return self.seconds(start, end)

    def wait(self) -> None:
        """Until the device has done all that it was asked to."""
        if self._cuda:
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class RunDelay:
    """How long this process has waited for a processor that others had, since it was made.

    On Linux, the wait of the thread that waited longest, of those that wanted to run (the second number of its
    schedstat, see the kernel's sched-stats.rst), and what a hypervisor took (`steal` in man 5 proc_stat).
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._before, self._stolen = _threads(), _stolen_s()

    def seconds(self) -> float | None:
        """None where the system does not tell."""
        if not self._before:
            return None
        wall = time.perf_counter() - self._began
        spans = [
            (ran - self._before[thread][0], waited - self._before[thread][1])
            for thread, (ran, waited) in _threads().items()
            if thread in self._before
        ]
        eager = [waited for ran, waited in spans if ran + waited > _EAGER * wall]
        return max(eager, default=0.0) + _stolen_s() - self._stolen


def _threads() -> dict[str, tuple[float, float]]:
    """By this process's threads: seconds that each has run, and that it has waited for a processor."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError):  # it has ended
            ran, waited, _ = map(int, path.read_text().split())
            found[path.parent.name] = (ran / 1e9, waited / 1e9)
    return found


def _stolen_s() -> float:
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
    return 0.0


class PeakMemory:
    """The most memory that was in use since `reset`, in bytes: the device's, or this process's on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu":
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets VmHWM

    def read(self) -> int | None:
        """None where the system does not tell (anything but CUDA and Linux)."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        if self.device.type == "cpu":
            with suppress(OSError):
                lines = Path("/proc/self/status").read_text().splitlines()
                return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        return None
