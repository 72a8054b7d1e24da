"""A picture of a report that cannot be drawn or written leaves the others alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schedcmp.errors import one_line
from schedcmp.guard import shortage


@contextmanager
def tried(name: str, missing: list[str]) -> Iterator[None]:
    """While open, any error is a line in `missing`: what is not there, and why."""
    try:
        yield
    except Exception as error:  # whatever a library that draws may raise
        missing.append(f"{name}: {shortage.told(error) or f'{type(error).__name__}: {one_line(error)}'}")
