"""`schedcmp`, in this process or in one that can be stopped."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from typing import NamedTuple, NoReturn

from typer import Typer
from typer.main import get_command

import schedcmp
from tools.soak.case import Case, Failed
from tools.soak.fence import fenced

WALL_S = 120  # of a machine that others use too
CPU_S = 20.0
MEMORY_BYTES = 1_500_000_000
MOST_OUTPUT = 200_000
_OURS = f'File "{Path(schedcmp.__file__).parent}'
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")


class Said(NamedTuple):
    code: int
    out: str
    err: str


class _TooLong(BaseException):
    pass


def here(case: Case, *arguments: object, codes: tuple[int, ...] = (0, 1, 2)) -> Said:
    """The command in this process. Raises Failed for a traceback, a hang, another code, and for what crosses the
    fence."""
    out, err = StringIO(), StringIO()
    words = [str(argument) for argument in arguments]
    case.say(" ".join(words).replace(str(case.folder) + "/", ""))
    cpu, memory = time.process_time(), _peak_bytes()
    around = (case.folder, case.grounds.folder / "home")
    with fenced(*around) as crossed, _limited(WALL_S), redirect_stdout(out), redirect_stderr(err):
        code = _call(words)
    said = Said(code, out.getvalue(), err.getvalue())
    if crossed:
        raise Failed(f"outside: {'; '.join(dict.fromkeys(crossed))}")
    if (took := time.process_time() - cpu) > CPU_S:
        raise Failed(f"slow: {took:.0f} s of CPU")
    if (grown := _peak_bytes() - memory) > MEMORY_BYTES:
        raise Failed(f"memory: {grown / 1e9:.1f} GB more")
    _look(said, codes)
    return said


@cache  # building it takes a fifth of what checking a sweep does
def _command(app: Callable[..., object]) -> Callable[..., object]:
    return get_command(app) if isinstance(app, Typer) else app


def _call(words: list[str]) -> int:
    from schedcmp.cli import app

    try:
        _command(app)(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 99
    except _TooLong:
        raise Failed(f"hang: over {WALL_S} s, at\n{traceback.format_exc(limit=-6)}") from None
    except BaseException:
        raise Failed(f"traceback:\n{traceback.format_exc(limit=-8)}") from None
    return 0


def _look(said: Said, codes: tuple[int, ...]) -> None:
    if said.code not in codes:
        raise Failed(f"code {said.code}: {said.err[-1500:]}")
    if "Traceback (most recent call last)" in said.err:
        raise Failed(f"traceback:\n{said.err[-3000:]}")
    if said.code == 2 and not said.err.strip():
        raise Failed("code 2 without a word")
    if len(said.err) > MOST_OUTPUT:
        raise Failed(f"message of {len(said.err):,} characters")
    if found := CONTROL.search(said.out + said.err):
        raise Failed(f"control character {found[0]!r} printed: {said.err[-500:]!r}")


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> NoReturn:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TooLong:
        raise Failed(f"hang: over {seconds} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Started:
    """The command in a process of its own. Forked, it has its imports behind it; `fresh`, it begins with Python."""

    def __init__(self, case: Case, *arguments: object, fresh: bool = False) -> None:
        self._case, self._log = case, case.folder / "said.txt"
        words = [str(argument) for argument in arguments]
        case.say(" ".join(words).replace(str(case.folder) + "/", "") + (" (fresh)" if fresh else ""))
        with self._log.open("wb") as log:
            if fresh:
                command = [sys.executable, "-m", "schedcmp", *words]
                to_log = [(os.POSIX_SPAWN_DUP2, log.fileno(), output) for output in (1, 2)]
                self.pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=to_log)
            else:
                self.pid = os.fork() or _become(words, log.fileno())
        self._code: int | None = None

    def send(self, number: signal.Signals) -> None:
        if self.ended() is None:
            os.kill(self.pid, number)

    def ended(self) -> int | None:
        """Its exit code, minus the signal that killed it, or None."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float = WALL_S) -> Said:
        """Its end. Raises Failed for a hang or a traceback."""
        until = time.monotonic() + seconds
        while (code := self.ended()) is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise Failed(f"hang: over {seconds} s: {self._said()[-1500:]}")
            time.sleep(0.002)
        said = Said(code, "", self._said())
        if "Traceback (most recent call last)" not in said.err:
            return said
        if "KeyboardInterrupt" in said.err and _OURS not in said.err:  # Python itself was beginning
            return Said(-signal.SIGINT, "", said.err)
        raise Failed(f"traceback:\n{said.err[-3000:]}")

    def _said(self) -> str:
        return self._log.read_bytes().decode("utf-8", "replace")


def _become(words: list[str], output: int) -> NoReturn:
    """The forked process, as the command."""
    code = 99
    with suppress(BaseException):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.argv = ["schedcmp", *words]
        try:
            from schedcmp.__main__ import command

            command()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:
            traceback.print_exc()
            code = 98
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
