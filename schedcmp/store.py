"""A run's folder: `run.sqlite` and the images, the only thing that reports read.

A cell is stored when it is finished: first its image (written beside its place and moved there), then its row (one
transaction). A crash between the two leaves an image without a row, which the next run writes again. Nothing is ever
half there.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from schedcmp.database import connect, from_row, insert, to_row, unusable
from schedcmp.errors import RunError, RunFolderError
from schedcmp.files import is_whole_png, slug, write_atomically
from schedcmp.folder import DATABASE, LOCK, RESULT_FOLDERS, RESULTS, TIMINGS, is_of_a_run, refuse_foreign
from schedcmp.records import Cell, CellResult, Reference, StoredCell, Task

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


@dataclass(frozen=True, slots=True)
class Held:
    """The images that a folder has, of whatever plans."""

    paths: Mapping[str, str]  # cell id → its own image's
    owners: Mapping[str, str]  # the reverse
    values: Mapping[str, AbstractSet[object]]  # an axis of the sweep → what there are images of


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
            lock = FileLock(folder / LOCK)
            lock.acquire(timeout=0)
        except LockTimeout as error:
            raise RunFolderError(
                f"{folder}: another run is writing here; wait for it, or choose another folder with -o"
            ) from error
        except OSError as error:
            raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from error
        for torn in folder.glob("**/.*.part"):
            torn.unlink()
        return cls(folder, connect(folder / DATABASE, write=True), lock, new=new)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a run's folder for reading; it may be being written. Raises RunFolderError."""
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
            shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Forget all results, and remove what a run has made; other files stay."""
        with self._transaction() as database:
            for name in ("plan", "cells", "metrics", "fingerprints", "meta"):
                database.execute(f"DELETE FROM {name}")
        for name in RESULT_FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in [self.folder / name for name in RESULTS] + list(self.folder.glob(TIMINGS)):
            path.unlink(missing_ok=True)

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
        return enough(cell, made) and is_whole_png(self.folder / row["image_path"])

    def add(
        self,
        result: CellResult,
        key: str,
        machine: str,
        image_path: str,
        png: bytes | None,
        latents: bytes | None = None,
    ) -> None:
        """Store a finished cell, its files first.

        Args:
            image_path: where no other cell's image is, see `paths`.
            latents: a .npy file's bytes, where they will be needed.

        Raises:
            RunError: the disk is full or gone.
        """
        values = to_row(result, key, image_path if png else None) | {"machine": machine}
        try:
            if png:
                write_atomically(self.folder / image_path, png)
            if latents:
                write_atomically(self._latents_path(result.cell.id), latents)
            else:
                self._latents_path(result.cell.id).unlink(missing_ok=True)  # of an earlier image
        except OSError as error:
            raise _stopped(self.folder, error) from error
        with self._transaction() as database:
            for table in ("metrics", "fingerprints"):  # of an earlier image
                database.execute(f"DELETE FROM {table} WHERE id = ?", (result.cell.id,))
            if result.fingerprint:
                database.execute("INSERT INTO fingerprints VALUES (?, ?)", (result.cell.id, result.fingerprint))
            insert(database, values)

    def held(self) -> Held:
        """The images of all plans' cells. A place that two of them claim is nobody's own."""
        query = (
            "SELECT id, image_path, prompt, negative_prompt, guidance_scale, width, height "
            "FROM cells WHERE image_path IS NOT NULL"
        )
        paths: dict[str, str] = {}
        owners: dict[str, str] = {}
        prompts, negatives, guidances, sizes = set(), set(), set(), set()
        with self._readable():
            for id_, path, prompt, negative, guidance, width, height in self._database.execute(query):
                paths[id_] = path
                owners[path] = "" if path in owners or not is_of_a_run(path) else id_
                prompts.add(prompt)
                negatives.add(negative)
                guidances.add(guidance)
                sizes.add((width, height))
        values = {"prompt": prompts, "negative_prompt": negatives, "guidance_scale": guidances, "size": sizes}
        return Held({i: path for i, path in paths.items() if owners[path]}, owners, values)

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
        return self._latents_path(cell_id).is_file()

    def latents(self, cell_id: str) -> npt.NDArray[np.float32] | None:
        """What a cell's VAE was given, as the pipeline has it, (1, channels, ...); None if it was not kept."""
        import numpy as np

        try:
            found: npt.NDArray[np.float32] = np.load(self._latents_path(cell_id), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found

    def _latents_path(self, cell_id: str) -> Path:
        return self.folder / "latents" / f"{cell_id}.npy"

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
        path = self.folder / name
        try:
            write_atomically(path, text.encode("utf-8"))
        except OSError as error:
            raise _stopped(self.folder, error) from error
        return path

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


def image_path(cell: Cell, folders: Iterable[str] = (), top: str = "images") -> str:
    """Where a cell's image goes, relative to the run's folder; `folders` tell prompts or guidance apart."""
    parts = [slug(part) for part in (*folders, cell.scheduler)]
    return "/".join([top, *parts, f"steps-{cell.steps:03d}", f"seed-{cell.seed:04d}.png"])


def _stopped(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"{folder}: writing failed ({error}); what was finished is kept. "
        "Make room or mend the disk, then repeat the command: it goes on from there"
    )
