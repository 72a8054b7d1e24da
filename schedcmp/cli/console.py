"""The terminal: lines and tables for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from schedcmp.errors import RunFolderError
from schedcmp.files import write_atomically
from schedcmp.guard.texts import visible


class _Terminal(Console):
    """What is printed comes from checkpoints, stores and plug-ins too: nothing in it commands the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


# Without emoji: the end of "sweep.yaml:100:" would be one
out = _Terminal(highlight=False, emoji=False)
err = _Terminal(stderr=True, highlight=False, emoji=False)


def say(text: str = "") -> None:
    """A plain line; nothing in it is markup and it is not broken."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line for the user that is no part of the output."""
    err.print(text, markup=False, soft_wrap=True)


def write(path: Path, data: bytes) -> None:
    """A file that was asked for. Raises RunFolderError."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror or error}") from error


def warn(text: str) -> None:
    note(f"warning: {text}")


def warn_of(texts: Collection[str], most: int, rest: str) -> None:
    """So many of the first; of the others how many there are, and the `rest` of that sentence."""
    for text in islice(texts, most):
        warn(text)
    if len(texts) > most:
        warn(f"and {len(texts) - most:,} more{rest}")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    names: Collection[str] = (),
    left: Collection[str] = (),
) -> None:
    """A table. Columns in `names` are set left and never broken, those in `left` may wrap, the others are numbers."""
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for name in head:
        is_left = name in left or name in names
        grid.add_column(name, justify="left" if is_left else "right", no_wrap=name not in left, overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    out.print(grid)
