"""The database of a run's folder: its tables, and what is done about a damaged one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from schedcmp.errors import RunError, RunFolderError, SchedcmpError
from schedcmp.pictures.image import FINGERPRINT_BYTES
from schedcmp.store.folder import refuse_links
from schedcmp.store.rows import CELL_COLUMNS, JSON_COLUMNS, LATER_COLUMNS, LATER_RESULTS, PLAIN_COLUMNS

SCHEMA_VERSION = 3
TABLES = {
    "meta": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "metrics": "id TEXT, name TEXT, value REAL NOT NULL, PRIMARY KEY (id, name)",
    "fingerprints": "id TEXT PRIMARY KEY, pixels BLOB NOT NULL",
    "features": "id TEXT PRIMARY KEY, origin TEXT NOT NULL, numbers BLOB NOT NULL",
    "files": "name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_us INTEGER NOT NULL, digest BLOB NOT NULL",
    "seals": "name TEXT PRIMARY KEY, digest BLOB",
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
    "features": "typeof(id) != 'text' OR typeof(origin) != 'text' OR typeof(numbers) != 'blob' OR length(numbers) % 4",
    "files": "typeof(size) != 'integer' OR typeof(mtime_us) != 'integer' OR typeof(digest) != 'blob'",
    "plan": "typeof(id) != 'text' OR typeof(position) != 'integer' OR typeof(nfe_budget) NOT IN ('null', 'integer')",
}
PROGRAMS = "FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE '%VIRTUAL%TABLE%'"
_DISK = ("SQLITE_FULL", "SQLITE_IOERR")


class DamagedError(RunFolderError):
    """A database that is none, or is broken."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """
    Raises:
        RunFolderError: the file is not a run's database, or one of a newer schedcmp.
        RunError: the disk is full, or fails.
    """
    refuse_links(path.parent)
    mode = "rwc" if write else "rw"  # a reader must undo what a killed run left half written
    address = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with ExitStack() as failing:
            database = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
            failing.callback(database.close)
            database.row_factory, database.text_factory = sqlite3.Row, decoded
            _refuse_programs(database, path)
            database.execute("PRAGMA cache_size = -32000")  # KiB: tables of a million rows keep their indexes at hand
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise RunFolderError(
                    f"{path}: was written by a newer schedcmp; upgrade, or choose another folder with -o"
                )
            if write:
                _make_tables(database, version)
            database.execute("SELECT machine, packed FROM cells LIMIT 1")
            failing.pop_all()
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    return database


def decoded(data: bytes) -> str | bytes:
    """Text, or the bytes if they are none: whoever reads the row then says so."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _make_tables(database: sqlite3.Connection, version: int) -> None:
    """All that are missing, and what an earlier schedcmp's lack, or nothing."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for name, columns in TABLES.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
        if "nfe_budget" not in column_names(database, "plan"):
            database.execute("ALTER TABLE plan ADD COLUMN nfe_budget INTEGER")
        known = column_names(database, "cells")
        for name in (*LATER_COLUMNS, *LATER_RESULTS):
            if name not in known:
                database.execute(f"ALTER TABLE cells ADD COLUMN {name}")
        if version != SCHEMA_VERSION:
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def column_names(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _refuse_programs(database: sqlite3.Connection, path: Path) -> None:
    """A view or a trigger is computed by whoever reads the tables, and need not end. Raises RunFolderError."""
    database.execute("PRAGMA trusted_schema = OFF")
    for (name,) in database.execute(f"SELECT name {PROGRAMS}"):
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


def insert(database: sqlite3.Connection, table: str, values: Mapping[str, Any], *, otherwise: str = "REPLACE") -> None:
    """Put a row into a table; `otherwise` is what is done where there is one already."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(f"INSERT OR {otherwise} INTO {table} ({names}) VALUES ({marks})", [*values.values()])
