"""What Ctrl-C does outside of a command: it ends the process at once, without a word. Imports almost nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)
