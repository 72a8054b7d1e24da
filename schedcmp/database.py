"""The database of a run's folder: its tables, and cells as rows of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from schedcmp.errors import RunFolderError
from schedcmp.files import to_json
from schedcmp.records import Cell, CellResult, StoredCell, Timing

SCHEMA_VERSION = 2
_OF_THE_PLAN = ("index", "nfe_budget")  # the same cell may stand elsewhere in another plan
_CELL_COLUMNS = tuple(f.name for f in fields(Cell) if f.name not in _OF_THE_PLAN)
_JSON_COLUMNS = ("timings", "scheduler_config", "timesteps")
_PLAIN_COLUMNS = (
    "status", "error", "nfe", "made_width", "made_height", "image_sha256", "peak_memory_bytes", "packed",
)  # fmt: skip
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS metrics (id TEXT, name TEXT, value REAL NOT NULL, PRIMARY KEY (id, name));
CREATE TABLE IF NOT EXISTS fingerprints (id TEXT PRIMARY KEY, pixels BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS plan (id TEXT PRIMARY KEY, position INTEGER NOT NULL, nfe_budget INTEGER);
CREATE TABLE IF NOT EXISTS cells (
  {", ".join(_CELL_COLUMNS).replace("id,", "id TEXT PRIMARY KEY,", 1)},
  key TEXT NOT NULL, machine TEXT NOT NULL, {", ".join(_PLAIN_COLUMNS)}, {", ".join(_JSON_COLUMNS)},
  image_path TEXT, finished_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')));
"""
_UPGRADE = "ALTER TABLE plan ADD COLUMN nfe_budget INTEGER;"


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Raises RunFolderError when the file is not a run's database, or one of a newer schedcmp."""
    try:
        mode = "rwc" if write else "rw"  # a reader must undo what a killed run left half written
        address = f"{path.absolute().as_uri()}?mode={mode}"
        database = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
        database.row_factory = sqlite3.Row
        _refuse_programs(database, path)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise RunFolderError(f"{path}: was written by a newer schedcmp; upgrade, or choose another folder with -o")
        if write:
            upgrade = _UPGRADE if version == 1 else ""
            database.executescript(f"{upgrade} {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
        database.execute("SELECT machine, packed FROM cells LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    return database


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


def unusable(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"{path}: cannot be used as a run's database: {error}")


def insert(database: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(f"INSERT OR REPLACE INTO cells ({names}) VALUES ({marks})", [*values.values()])


def to_row(result: CellResult, key: str, path: str | None) -> dict[str, Any]:
    values = {name: getattr(result.cell, name) for name in _CELL_COLUMNS}
    values |= {name: getattr(result, name.replace("made_", "")) for name in _PLAIN_COLUMNS}
    timings = [asdict(t) for t in result.timings]
    return values | {
        "key": key,
        "image_path": path,
        "timings": json.dumps(timings),
        "scheduler_config": to_json(result.scheduler_config),
        "timesteps": json.dumps(result.timesteps),
    }


def from_row(row: sqlite3.Row) -> StoredCell:
    budget = row["nfe_budget"] if "nfe_budget" in row.keys() else None  # noqa: SIM118  a run of an earlier schedcmp
    cell = Cell(index=row["position"], nfe_budget=budget, **{name: row[name] for name in _CELL_COLUMNS})
    timings = [Timing(**t | {"step_s": tuple(t["step_s"])}) for t in json.loads(row["timings"])]
    plain = {name.replace("made_", ""): row[name] for name in _PLAIN_COLUMNS}
    result = CellResult(
        cell,
        timings=tuple(timings),
        scheduler_config=json.loads(row["scheduler_config"]),
        timesteps=tuple(json.loads(row["timesteps"])),
        machine=row["machine"],
        **plain,
    )
    return StoredCell(result, row["image_path"])
