"""Calls of code from elsewhere: plug-in classes, sampler functions, entry points. They may fail; they may not end the
run, nor hang it."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from greenlet import GreenletExit

TRIAL_S = 5.0  # of a plug-in on a tiny latent, which takes milliseconds
IMPORT_S = 120.0
_PATIENCE = 6  # times its CPU seconds on a busy machine; what sleeps or waits takes no CPU
_AGAIN_S = 0.5  # what catches everything is interrupted again
_MEANT = (Exception, KeyboardInterrupt, GreenletExit, GeneratorExit)


class RunawayError(RuntimeError):
    """Code from elsewhere that would have ended the run."""


class OvertimeError(RunawayError):
    """Code from elsewhere that did not end in time."""


class _Overtime(BaseException):
    """Raised in code that takes too long; no `except Exception` of its own may keep it."""


@contextmanager
def contained(limit: float | None = None, wall: float | None = None) -> Iterator[None]:
    """While open, what would end the process is an error like any other, Ctrl-C apart.

    Args:
        limit: CPU seconds of this thread, after which the code is interrupted where Python can do that.
        wall: seconds on the clock, likewise; several times `limit` if None.

    Raises:
        OvertimeError: it took longer.
        RunawayError: it raised something beyond `Exception`, such as by `sys.exit`.
    """
    try:
        if limit is None:
            yield
        else:
            with _watched(_Watch(limit, _PATIENCE * limit if wall is None else wall)):
                yield
    except _MEANT:
        raise
    except _Overtime as error:
        raise OvertimeError(f"it had not ended after {limit:g} s, when it was at {_place(error)}") from None
    except BaseException as error:
        raise RunawayError(f"{error!r} at {_place(error)} would have ended the run") from error


def _place(error: BaseException) -> str:
    """The innermost function that is not the standard library's nor this module's, with file and line."""
    frames, step = [], error.__traceback__
    while step:
        frames.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    names = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in frames]
    theirs = [
        at for at, name in zip(frames, names, strict=True)
        if name not in sys.stdlib_module_names and at[0].f_code.co_filename != __file__
    ]  # fmt: skip
    frame, line = (theirs or frames)[-1]
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})"


@dataclass(slots=True)
class _Watch:
    """The time that a call may take."""

    cpu: float
    wall: float
    on: bool = True
    cpu_start: float = field(default_factory=time.thread_time)
    start: float = field(default_factory=time.monotonic)

    @property
    def first(self) -> float:
        return max(min(self.cpu, self.wall), 1e-3)

    def late(self, cpu: float) -> bool:
        """Whether it is time, when the watched thread has had so many CPU seconds."""
        return self.on and (cpu - self.cpu_start >= self.cpu or time.monotonic() - self.start >= self.wall)


_here = threading.local()  # .watched: whether a call of this thread is already


@contextmanager
def _watched(watch: _Watch) -> Iterator[None]:
    """Raises _Overtime inside when it is time. Within another one only the outer counts."""
    if getattr(_here, "watched", False):
        yield
        return
    signals = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    _here.watched = True
    try:
        with _by_signal(watch) if signals else _by_thread(watch):
            yield
    finally:
        _here.watched = False


@contextmanager
def _by_signal(watch: _Watch) -> Iterator[None]:
    """In the main thread: reaches sleeping code too, in whichever greenlet it runs."""

    def ring(number: int, frame: FrameType | None) -> None:
        if watch.late(time.thread_time()):
            raise _Overtime

    before = signal.signal(signal.SIGALRM, ring)
    left, again = signal.setitimer(signal.ITIMER_REAL, watch.first, min(_AGAIN_S, watch.first))
    try:
        yield
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - watch.start), 1e-3), again)


@contextmanager
def _by_thread(watch: _Watch) -> Iterator[None]:
    """In any other thread, and where there are no such signals: code that sleeps is reached when it wakes."""
    ident, lock, over = threading.get_ident(), threading.Lock(), threading.Event()

    def ring() -> None:
        while not over.wait(min(_AGAIN_S, watch.first)):
            with lock:
                if watch.late(_cpu_of(ident, watch)):
                    _raise_in(ident, _Overtime)

    threading.Thread(target=ring, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            watch.on = False
            _raise_in(ident, None)
        over.set()


def _cpu_of(ident: int, watch: _Watch) -> float:
    """CPU seconds of a thread; where the system does not tell, only the clock counts."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return watch.cpu_start
    return time.clock_gettime(time.pthread_getcpuclockid(ident))


def _raise_in(ident: int, what: type[BaseException] | None) -> None:
    """Raise in another thread at its next line of Python; None takes it back."""
    thing = ctypes.py_object(what) if what else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), thing)
