"""What Ctrl-C does outside of a command: it ends the process at once, without a word. Imports almost nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOON_S = 0.01


def _end(number: int, _: object) -> None:
    os._exit(128 + number)


def end_at_once() -> None:
    """From here on, unless whoever began the process has Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextmanager
def interruptible() -> Iterator[None]:
    """While open, Ctrl-C is a KeyboardInterrupt again, so that a command can end well."""
    if signal.getsignal(signal.SIGINT) is not _end:  # this process is somebody else's
        yield
        return
    sys.unraisablehook = _raised_again
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)
        sys.unraisablehook = sys.__unraisablehook__


def _raised_again(lost: Any) -> None:
    """An interrupt that came where nothing can be raised, as while a lock of an import is freed, comes again."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    from threading import Timer

    again = Timer(_SOON_S, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()
