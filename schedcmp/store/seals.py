"""A digest of each row as it was written, for `check`: of timings, metrics and the plan no image tells."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2s

from schedcmp.files import from_json

# What is sealed as one, by the values of its key; rows without a seal are an earlier schedcmp's
_SEALED = {
    "cells": "SELECT * FROM cells WHERE id = ?",
    "metrics": "SELECT * FROM metrics WHERE id = ? AND name = ?",
    "meta": "SELECT * FROM meta WHERE name = ?",
    "plan": "SELECT * FROM plan ORDER BY position",
}


def seal(database: sqlite3.Connection, table: str, keys: Iterable[Sequence[str]] = ((),)) -> None:
    """Note what the rows are now, or that they are gone, in the transaction that has changed them."""
    rows = ((json.dumps([table, *key]), _digest(database, table, key)) for key in keys)
    database.executemany("INSERT OR REPLACE INTO seals VALUES (?, ?)", rows)


def broken(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Table and key of rows that are not what was written, or are gone."""
    return [name for name, known in _seals(database) if _digest(database, name[0], name[1:]) != known]


def _seals(database: sqlite3.Connection) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, known in database.execute("SELECT name, digest FROM seals"):
        with suppress(ValueError, TypeError):  # a name that has rotted seals nothing
            table, *key = map(str, from_json(name))
            if table in _SEALED and len(key) == _SEALED[table].count("?"):
                yield (table, *key), known


def _digest(database: sqlite3.Connection, table: str, key: Sequence[str]) -> bytes | None:
    """Of names and values as they are now; NULL is nothing, as a column that comes later has it in rows that are there.
    None for no row."""
    rows = database.execute(_SEALED[table], key)
    told = [[(name, row[name]) for name in row.keys() if row[name] is not None] for row in rows]  # noqa: SIM118
    return blake2s(repr(told).encode("utf-8", "backslashreplace"), digest_size=8).digest() if told else None
