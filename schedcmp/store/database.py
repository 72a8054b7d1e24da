"""A run's database while it is open: its failures in our words, and a note of what no run has written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Self

from schedcmp.errors import RunError
from schedcmp.records import StoredCell
from schedcmp.store.folder import DATABASE, write_file
from schedcmp.store.rows import from_row
from schedcmp.store.schema import connect, unusable


class RunFolder:
    """A run's folder that is open."""

    folder: Path

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the folder, whole or not at all. Raises RunError."""
        with writing_files(self.folder):
            return write_file(self.folder, name, text.encode("utf-8"))


@contextmanager
def writing_files(folder: Path) -> Iterator[None]:
    """Raises RunError where the folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise _stopped(folder, error) from error


def _stopped(folder: Path, error: Exception) -> RunError:
    """Why a run ends that could not write into its folder."""
    if not (folder / DATABASE).exists():
        return RunError(
            f"{folder / DATABASE}: was removed while the run was writing it; repeat the command to begin anew"
        )
    return RunError(
        f"{folder}: writing failed ({error}); what was finished is kept. "
        "Make room or mend the disk, then repeat the command: it goes on from there"
    )


class Database:
    """The tables of a run; see `schema`."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        """
        Raises:
            RunFolderError: the file is not a run's database, or one of a newer schedcmp.
            RunError: the disk is full, or fails.
        """
        self.folder = folder
        self.unreadable: dict[str, str] = {}  # cell id or what is kept beside cells → why
        self._connection = connect(folder / DATABASE, write=write)
        self._one_at_a_time = Lock()  # a run's images are written by a thread of their own

    def close(self) -> None:
        with self._one_at_a_time:  # SQLite does not survive that its connection goes while it writes
            self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Raises RunFolderError or RunError where it cannot be read."""
        try:
            yield self._connection
        except sqlite3.DatabaseError as error:
            raise unusable(self.folder / DATABASE, error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises RunFolderError or RunError where it fails."""
        try:
            with self._one_at_a_time, self._connection:
                yield self._connection
        except sqlite3.OperationalError as error:
            raise _stopped(self.folder, error) from error
        except sqlite3.DatabaseError as error:
            raise unusable(self.folder / DATABASE, error) from error

    def rows(self, table: str, where: str = "", *values: object) -> Iterable[sqlite3.Row]:
        """Rows of a table that runs of an earlier schedcmp lack."""
        return self._connection.execute(f"SELECT * FROM {table} {where}", values) if self.has(table) else ()

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return bool(self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())

    def cell(self, row: sqlite3.Row) -> StoredCell | None:
        """None for a row that cannot be read."""
        try:
            return from_row(dict(row))
        except ValueError as error:
            self.unreadable[f"the cell {row['id']}"] = str(error)
            return None
