"""What is done about a run's database that is damaged: find out, keep it under another name, save what can be read."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from schedcmp.errors import RunError
from schedcmp.store.schema import PROGRAMS, TABLES, DamagedError, column_names, connect, decoded, insert, unusable

_MAGIC = b"SQLite format 3\x00"


def damage(path: Path) -> str | None:
    """What is wrong with a database, found by reading all of it; None if nothing is.

    Raises:
        RunFolderError: it is another program's, or a newer schedcmp's.
        RunError: the disk fails.
    """
    try:
        with closing(connect(path, write=False)) as database:
            found = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except DamagedError as error:
        return str(error.__cause__)
    except sqlite3.DatabaseError as error:
        why = unusable(path, error)
        if not isinstance(why, DamagedError):
            raise why from error
        return str(error)
    return None if found == "ok" else " ".join(found.split())


def set_aside(path: Path) -> Path:
    """Rename a database, with what belongs to it; returns its new name. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-")
    for ending in ("-journal", "-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{ending}", f"{aside}{ending}")  # noqa: PTH104  not only the name's last part
    return aside


def rescue(path: Path) -> Path:
    """Replace a damaged database by one that has what can be read of it; returns where the damaged one is then.

    Raises:
        RunError: the disk is full, or fails.
    """
    copy, new = path.with_name(f".{path.name}.copy"), path.with_name(f".{path.name}.new")
    try:
        for left in (copy, new):
            left.unlink(missing_ok=True)
        copy.write_bytes(_MAGIC + path.read_bytes()[len(_MAGIC) :])  # often the beginning alone is gone
        with closing(sqlite3.connect(copy)) as old, closing(connect(new, write=True)) as database, database:
            old.row_factory, old.text_factory = sqlite3.Row, decoded
            for table in TABLES:
                known = column_names(database, table)
                for row in _readable(old, table):
                    there = {name: row[name] for name in row.keys() if name in known}  # noqa: SIM118
                    insert(database, table, there, otherwise="IGNORE")
        aside = set_aside(path)
        new.rename(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise RunError(f"{path}: what can be read of it could not be saved: {error}") from error
    finally:
        copy.unlink(missing_ok=True)
    return aside


def _readable(database: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """A damaged table's rows from both ends to where reading fails. What is computed, and need not end, is no table."""
    last = -1
    with suppress(sqlite3.DatabaseError):
        if table in [name for (name,) in database.execute(f"SELECT name {PROGRAMS}")]:
            return
        for row in database.execute(f"SELECT rowid AS place, * FROM {table} ORDER BY rowid"):
            last = row["place"]
            yield row
        return
    with suppress(sqlite3.DatabaseError):
        yield from database.execute(
            f"SELECT rowid AS place, * FROM {table} WHERE rowid > ? ORDER BY rowid DESC", (last,)
        )
