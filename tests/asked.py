"""Sweep files, read and prepared without the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schedcmp.files import slug
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.sweep.document import Sweep, checked
from schedcmp.sweep.source import Source, read


def load(path: Path, overrides: tuple[str, ...] = ()) -> tuple[Sweep, Source]:
    """A sweep, called as its file where it has no name, and where its parts stand."""
    source = read(path, overrides)
    sweep = checked(source)
    return (sweep if sweep.name else sweep.model_copy(update={"name": slug(path.stem)})), source


def prepare(path: Path, overrides: tuple[str, ...] = (), **options: Any) -> Prepared:
    """Everything that can be known of a sweep without loading weights."""
    return prepare_sweep(*load(path, overrides), **options)
