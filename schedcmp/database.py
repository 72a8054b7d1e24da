"""The database of a run's folder: its tables, and what is done about a damaged one."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from schedcmp.errors import RunError, RunFolderError, SchedcmpError
from schedcmp.image import FINGERPRINT_BYTES
from schedcmp.rows import CELL_COLUMNS, JSON_COLUMNS, PLAIN_COLUMNS

SCHEMA_VERSION = 3
_TABLES = {
    "meta": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "metrics": "id TEXT, name TEXT, value REAL NOT NULL, PRIMARY KEY (id, name)",
    "fingerprints": "id TEXT PRIMARY KEY, pixels BLOB NOT NULL",
    "files": "name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_us INTEGER NOT NULL, digest BLOB NOT NULL",
    "plan": "id TEXT PRIMARY KEY, position INTEGER NOT NULL, nfe_budget INTEGER",
    "cells": f"""
      {", ".join(CELL_COLUMNS).replace("id,", "id TEXT PRIMARY KEY,", 1)},
      key TEXT NOT NULL, machine TEXT NOT NULL, {", ".join(PLAIN_COLUMNS)}, {", ".join(JSON_COLUMNS)},
      image_path TEXT, finished_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))""",
}
# What no row that a run has written is. Of `meta` and `cells` more is known, see `rows`.
UNREADABLE = {
    "metrics": "typeof(id) != 'text' OR typeof(name) != 'text' OR typeof(value) != 'real' OR abs(value) > 1e308",
    "fingerprints": f"typeof(id) != 'text' OR typeof(pixels) != 'blob' OR length(pixels) != {FINGERPRINT_BYTES}",
    "files": "typeof(size) != 'integer' OR typeof(mtime_us) != 'integer' OR typeof(digest) != 'blob'",
    "plan": "typeof(id) != 'text' OR typeof(position) != 'integer' OR typeof(nfe_budget) NOT IN ('null', 'integer')",
}
_MAGIC = b"SQLite format 3\x00"
_DISK = ("SQLITE_FULL", "SQLITE_IOERR")


class DamagedError(RunFolderError):
    """A database that is none, or is broken."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """
    Raises:
        RunFolderError: the file is not a run's database, or one of a newer schedcmp.
        RunError: the disk is full, or fails.
    """
    mode = "rwc" if write else "rw"  # a reader must undo what a killed run left half written
    try:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, check_same_thread=False
        )
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    try:
        database.row_factory, database.text_factory = sqlite3.Row, _text
        _refuse_programs(database, path)
        database.execute("PRAGMA cache_size = -32000")  # KiB: tables of a million rows keep their indexes at hand
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise RunFolderError(f"{path}: was written by a newer schedcmp; upgrade, or choose another folder with -o")
        if write:
            _make_tables(database, version)
        database.execute("SELECT machine, packed FROM cells LIMIT 1")
    except sqlite3.DatabaseError as error:
        database.close()
        raise unusable(path, error) from error
    except BaseException:
        database.close()
        raise
    return database


def _text(data: bytes) -> str | bytes:
    """Text, or the bytes if they are none: whoever reads the row then says so."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _make_tables(database: sqlite3.Connection, version: int) -> None:
    """All that are missing, and what an earlier schedcmp's lack, or nothing."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for name, columns in _TABLES.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        if "nfe_budget" not in _columns(database, "plan"):
            database.execute("ALTER TABLE plan ADD COLUMN nfe_budget INTEGER")
        if version != SCHEMA_VERSION:
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _refuse_programs(database: sqlite3.Connection, path: Path) -> None:
    """A view or a trigger is computed by whoever reads the tables, and need not end. Raises RunFolderError."""
    database.execute("PRAGMA trusted_schema = OFF")
    query = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE '%VIRTUAL%TABLE%'"
    for (name,) in database.execute(query):
        raise RunFolderError(f"{path}: has {name!r}, which no run's database has; choose another folder with -o")


def snapshot(path: Path, target: Path) -> None:
    """Copy a database as it is between two transactions, whoever is writing it."""
    with closing(sqlite3.connect(path, timeout=30)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def unusable(path: Path, error: Exception) -> SchedcmpError:
    """Why a database cannot be used, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_DISK):
        return RunError(f"{path}: {error}. Make room or mend the disk, then repeat the command: it goes on from there")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RunFolderError(f"{path}: another program keeps it locked; end that, or wait, and repeat the command")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return RunFolderError(f"{path}: cannot be used as a run's database: {error}; is it a file that you may write?")
    return DamagedError(
        f"{path}: cannot be used as a run's database: {error}. `schedcmp check {path.parent} --repair` saves what can "
        "be read of it; `schedcmp run ... --fresh` makes everything again. Either keeps the damaged file"
    )


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
            old.row_factory, old.text_factory = sqlite3.Row, _text
            for table in _TABLES:
                columns = _columns(database, table)
                for row in _readable(old, table):
                    there = {name: row[name] for name in row.keys() if name in columns}  # noqa: SIM118
                    insert(database, table, there, otherwise="IGNORE")
        aside = set_aside(path)
        new.rename(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise RunError(f"{path}: what can be read of it could not be saved: {error}") from error
    finally:
        copy.unlink(missing_ok=True)
    return aside


def _readable(database: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """A damaged table's rows from both ends to where reading fails."""
    last = -1
    with suppress(sqlite3.DatabaseError):
        for row in database.execute(f"SELECT rowid AS place, * FROM {table} ORDER BY rowid"):
            last = row["place"]
            yield row
        return
    with suppress(sqlite3.DatabaseError):
        yield from database.execute(
            f"SELECT rowid AS place, * FROM {table} WHERE rowid > ? ORDER BY rowid DESC", (last,)
        )


def insert(database: sqlite3.Connection, table: str, values: Mapping[str, Any], *, otherwise: str = "REPLACE") -> None:
    """Put a row into a table; `otherwise` is what is done where there is one already."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(f"INSERT OR {otherwise} INTO {table} ({names}) VALUES ({marks})", [*values.values()])
