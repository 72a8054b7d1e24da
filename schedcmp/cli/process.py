"""A command as a process: its exit codes, what becomes of an error, and who collects garbage."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from schedcmp.errors import RequestError, SchedcmpError
from schedcmp.guard import shortage
from schedcmp.guard.interrupts import interruptible

is_ours = False  # whether nothing but a command runs in this process
REFUSED, UNFINISHED, INTERRUPTED = 2, 1, 130
NO_ROOM = b"error: the memory is full. What was finished is kept: repeat the command to go on\n"
_LIBRARY_SETTINGS = {
    # Our own checks say what matters, and the libraries' remarks break tables and progress bars
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
}


class Commands(TyperGroup):
    """Turns our errors into one message and an exit code; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        for name, value in _LIBRARY_SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            with interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # whoever read our output has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UNFINISHED) from None
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
            from schedcmp.cli.console import note

            note(f"error: {message}")
            raise typer.Exit(REFUSED if isinstance(error, RequestError) else UNFINISHED) from error


def _message(error: Exception) -> str | None:
    """What the user is told; None for a bug."""
    if isinstance(error, SchedcmpError):
        return str(error)
    short = shortage.told(error)
    if short:
        return f"{short}. What was finished is kept: repeat the command to go on"
    return str(error) if isinstance(error, OSError) else None


@contextmanager
def starting() -> Iterator[None]:
    """Around the imports and the loading of a command: almost all of the million objects that they make stay, and
    looking through them for garbage took a third of that time."""
    gc.disable()
    try:
        yield
    finally:
        if is_ours:
            gc.freeze()
        gc.enable()
