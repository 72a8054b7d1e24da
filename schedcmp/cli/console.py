"""The terminal: lines and tables for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(text: str = "") -> None:
    """A plain line; nothing in it is markup and it is not broken."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line for the user that is no part of the output."""
    err.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    err.print(f"warning: {text}", markup=False, soft_wrap=True)


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
        justify: Literal["left", "right"] = "left" if name in left or name in names else "right"
        grid.add_column(name, justify=justify, no_wrap=name not in left, overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    out.print(grid)
