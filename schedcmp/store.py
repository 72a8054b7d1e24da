"""A run's folder: `run.sqlite` and the images, the only thing that reports read.

A cell is stored when it is finished: first its image (written beside its place and moved there), then its row (one
transaction). A crash between the two leaves an image without a row, which the next run writes again. Nothing is ever
half there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from schedcmp.database import connect, from_row, insert, to_row, unusable
from schedcmp.errors import RunError, RunFolderError
from schedcmp.files import slug
from schedcmp.folder import (
    DATABASE,
    LOCK,
    RESULTS,
    TIMINGS,
    has_whole_png,
    is_an_image,
    open_file,
    refuse_foreign,
    refuse_links,
    remove_empty,
    remove_file,
    remove_unfinished,
    write_file,
)
from schedcmp.records import Cell, CellResult, Reference, StoredCell, Task
from schedcmp.written import Written

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the image and the timings of a stored cell came about."""

    key: str  # of all that determines the image beside the cell itself
    machine: str  # of what determines the timings
    packed: bool
    timings: int


class Store:
    """One run's results. Open it with `Store.create` to write, with `Store.open` to read."""

    def __init__(
        self, folder: Path, database: sqlite3.Connection, lock: FileLock | None = None, *, new: bool = False
    ) -> None:
        self.folder = folder
        self._new = new
        self._one_at_a_time = Lock()  # a run's images are written by a thread of their own
        self._database = database
        self._lock = lock

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Open a run's folder for writing, alone.

        Raises:
            RunFolderError: it cannot be written, another run is using it, or it holds something else.
        """
        try:
            new = not folder.exists()
            refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder)
            lock = FileLock(folder / LOCK)
            lock.acquire(timeout=0)
            remove_unfinished(folder)
        except LockTimeout as error:
            raise RunFolderError(
                f"{folder}: another run is writing here; wait for it, or choose another folder with -o"
            ) from error
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from error
        return cls(folder, connect(folder / DATABASE, write=True), lock, new=new)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a run's folder for reading; it may be being written. Raises RunFolderError."""
        refuse_links(folder)
        if not (folder / DATABASE).is_file():
            raise RunFolderError(f"{folder}: has no {DATABASE}; give the folder of a run, such as outputs/quickstart")
        return cls(folder, connect(folder / DATABASE, write=False))

    def close(self) -> None:
        self._database.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        unused = self._new and self.planned() == 0
        self.close()
        if unused:  # the request was refused after all: leave nothing behind
            with suppress(OSError):
                for name in (DATABASE, LOCK):
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()

    def clear(self) -> None:
        """Forget all results, and remove what a run has made; other files stay. Raises RunError."""
        try:
            self._remove_files()
        except OSError as error:
            raise _stopped(self.folder, error) from error
        with self._transaction() as database:
            for name in ("plan", "cells", "metrics", "fingerprints", "meta"):
                database.execute(f"DELETE FROM {name}")

    def _remove_files(self) -> None:
        for top in ("grids", "plots", "thumbs"):
            Written(self.folder, top).clear()
        for id_, image in self._database.execute("SELECT id, image_path FROM cells"):
            for name in (_latents_name(id_), *([image] if is_an_image(image) else [])):
                with suppress(OSError):  # a name that is none of a run's
                    remove_file(self.folder, name)
        for name in (*RESULTS, *TIMINGS):
            remove_file(self.folder, name)
        remove_empty(self.folder)

    def begin(self, cells: Sequence[Cell], meta: Mapping[str, Any]) -> None:
        """Make these cells the run's plan. Results of earlier plans stay, and are used if they come back."""
        with self._transaction() as database:
            database.execute("DELETE FROM plan")
            database.executemany("INSERT INTO plan VALUES (?, ?, ?)", ((c.id, c.index, c.nfe_budget) for c in cells))
            rows = [(name, json.dumps(value)) for name, value in meta.items()]
            names = [(c.prompt_name, c.id, c.prompt_name) for c in cells]  # an automatic name changes with the plan
            database.executemany("UPDATE cells SET prompt_name = ? WHERE id = ? AND prompt_name != ?", names)
            database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def pending(self, cells: Iterable[Cell], enough: Callable[[Cell, Provenance], bool]) -> list[Cell]:
        """The cells that still have to be made: not there, failed, image gone, or not made well `enough`."""
        query = (
            "SELECT id, key, machine, packed, json_array_length(timings) AS timings, image_path "
            "FROM cells WHERE status NOT IN ('failed', 'unsupported')"
        )
        with self._readable():
            found = {row["id"]: row for row in self._database.execute(query)}
        return [c for c in cells if c.id not in found or not self._is_done(c, found[c.id], enough)]

    def _is_done(self, cell: Cell, row: sqlite3.Row, enough: Callable[[Cell, Provenance], bool]) -> bool:
        made = Provenance(row["key"], row["machine"], bool(row["packed"]), row["timings"])
        return enough(cell, made) and has_whole_png(self.folder, row["image_path"])

    def add(
        self,
        result: CellResult,
        key: str,
        machine: str,
        image_path: str,
        png: bytes | None,
        latents: bytes | None = None,
    ) -> None:
        """Store a finished cell, its files first; the cell of an earlier plan whose image it replaces goes.

        Args:
            latents: a .npy file's bytes, where they will be needed.

        Raises:
            RunError: the disk is full or gone.
        """
        values = to_row(result, key, image_path if png else None) | {"machine": machine}
        try:
            if png:
                write_file(self.folder, image_path, png)
            if latents:
                write_file(self.folder, _latents_name(result.cell.id), latents)
            else:
                remove_file(self.folder, _latents_name(result.cell.id))  # of an earlier image
        except OSError as error:
            raise _stopped(self.folder, error) from error
        with self._transaction() as database:
            database.execute("DELETE FROM cells WHERE image_path = ? AND id != ?", (image_path, result.cell.id))
            for table in ("metrics", "fingerprints"):  # of an earlier image
                database.execute(f"DELETE FROM {table} WHERE id = ?", (result.cell.id,))
            if result.fingerprint:
                database.execute("INSERT INTO fingerprints VALUES (?, ?)", (result.cell.id, result.fingerprint))
            insert(database, values)

    def refuse(self, results: Iterable[CellResult]) -> None:
        """Store cells that cannot be made, and why."""
        with self._transaction() as database:
            for result in results:
                insert(database, to_row(result, "", None) | {"machine": ""})

    def measure(self, metrics: Mapping[str, Mapping[str, float]], instead_of: Iterable[str] = ()) -> None:
        """Keep what was measured of finished cells: cell id → metric → value; it replaces what is there.

        Args:
            instead_of: metrics of these cells that are forgotten if they are not given anew.
        """
        rows = [(id_, name, value) for id_, found in metrics.items() for name, value in found.items()]
        with self._transaction() as database:
            for name in instead_of:
                database.executemany("DELETE FROM metrics WHERE id = ? AND name = ?", ((i, name) for i in metrics))
            database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)", rows)

    def forget(self, metric: str) -> None:
        """Forget a metric of all cells, also of those that are not in the present plan."""
        with self._transaction() as database:
            database.execute("DELETE FROM metrics WHERE name = ?", (metric,))

    def has_latents(self, cell_id: str) -> bool:
        with suppress(OSError):
            open_file(self.folder, _latents_name(cell_id)).close()
            return True
        return False

    def latents(self, cell_id: str) -> npt.NDArray[np.float32] | None:
        """What a cell's VAE was given, as the pipeline has it, (1, channels, ...); None if it was not kept."""
        import numpy as np

        try:
            with open_file(self.folder, _latents_name(cell_id)) as file:
                found: npt.NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError):
            return None
        return found

    def references(self) -> dict[Task, Reference]:
        """The converged image of each task, where the run has looked for one."""
        rows = self.meta("references") or ()
        return {reference.task: reference for reference in (Reference(**r | {"task": tuple(r["task"])}) for r in rows)}

    def found(self, ids: Iterable[str]) -> dict[str, StoredCell]:
        """The finished cells among these, in the present plan or not, by their ids."""
        query = "SELECT *, 0 AS position, NULL AS nfe_budget FROM cells WHERE id = ?"
        with self._readable():
            rows = [self._database.execute(query, (id_,)).fetchone() for id_ in ids]
        return {row["id"]: from_row(row) for row in rows if row}

    def note(self, name: str, value: Any) -> None:
        """Keep a value that the run found out about itself, for `meta`."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the run's folder, whole or not at all. Raises RunError."""
        try:
            return write_file(self.folder, name, text.encode("utf-8"))
        except OSError as error:
            raise _stopped(self.folder, error) from error

    def cells(self) -> Iterator[StoredCell]:
        """The finished cells of the present plan, in the sweep's order."""
        query = "SELECT cells.*, plan.* FROM cells JOIN plan USING (id) ORDER BY position"
        with self._readable():
            metrics = self.metrics()
            for row in self._database.execute(query):
                yield replace(from_row(row), metrics=metrics.get(row["id"], {}))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Cell id → metric → value, of all finished cells, in the present plan or not."""
        found: dict[str, dict[str, float]] = {}
        for row in self._rows("metrics"):
            found.setdefault(row["id"], {})[row["name"]] = row["value"]
        return found

    def fingerprints(self) -> dict[str, bytes]:
        """Cell id → its image's fingerprint, see `image.fingerprint`."""
        return {row["id"]: row["pixels"] for row in self._rows("fingerprints")}

    def _rows(self, table: str) -> Iterable[sqlite3.Row]:
        """All rows of a table that runs of an earlier schedcmp lack."""
        there = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return self._database.execute(f"SELECT * FROM {table}") if there else ()

    def planned(self) -> int:
        """How many cells the present plan has."""
        return int(self._database.execute("SELECT count(*) FROM plan").fetchone()[0])

    def meta(self, name: str) -> Any:
        """What `begin` was given under this name, or None."""
        row = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(row["value"]) if row else None

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise unusable(self.folder / DATABASE, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._one_at_a_time, self._database:
                yield self._database
        except sqlite3.OperationalError as error:
            raise _stopped(self.folder, error) from error


def _latents_name(cell_id: str) -> str:
    return f"latents/{cell_id}.npy"


def image_path(cell: Cell, folders: Iterable[str] = (), top: str = "images") -> str:
    """Where a cell's image goes, relative to the run's folder; `folders` tell prompts or guidance apart."""
    parts = [slug(part) for part in (*folders, cell.scheduler)]
    return "/".join([top, *parts, f"steps-{cell.steps:03d}", f"seed-{cell.seed:04d}.png"])


def _stopped(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"{folder}: writing failed ({error}); what was finished is kept. "
        "Make room or mend the disk, then repeat the command: it goes on from there"
    )
