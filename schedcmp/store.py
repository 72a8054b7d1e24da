"""A run's folder: `run.sqlite` and the images, the only thing that reports read.

A cell is stored when it is finished: first its image (written beside its place and moved there), then its row (one
transaction). A crash between the two leaves an image without a row, which the next run writes again. Nothing is ever
half there.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from schedcmp.database import UNREADABLE, connect, damage, insert, unusable
from schedcmp.errors import RunError, RunFolderError, SchedcmpError
from schedcmp.files import slug
from schedcmp.folder import (
    DATABASE,
    LOCK,
    RESULTS,
    TIMINGS,
    is_an_image,
    is_of_a_run,
    refuse_foreign,
    refuse_links,
    remove_empty,
    remove_file,
    remove_unfinished,
    write_file,
)
from schedcmp.image import FINGERPRINT_BYTES
from schedcmp.records import Cell, CellResult, Reference, StoredCell, Task
from schedcmp.rows import from_row, read_meta, read_sweep, to_row
from schedcmp.stamps import Files, Stamp, latents_name
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
        self.files = Files(folder, self._stamp)
        self._unreadable: dict[str, str] = {}  # cell id or what is kept beside cells → why
        self.set_aside: Path | None = None  # a damaged database that this one replaces

    @classmethod
    def create(cls, folder: Path, *, mend: Callable[[Path], Path] | None = None) -> Store:
        """Open a run's folder for writing, alone.

        Args:
            mend: what is done to a damaged database, see `database.set_aside` and `rescue`; otherwise it is refused.

        Raises:
            RunFolderError: it cannot be written, another run is using it, or it holds something else.
            RunError: the disk is full, or fails.
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
        with _undone(folder, lock, new=new):
            damaged = mend and (folder / DATABASE).exists() and damage(folder / DATABASE)
            aside = mend(folder / DATABASE) if mend and damaged else None
            store = cls(folder, connect(folder / DATABASE, write=True), lock, new=new)
        store.set_aside = aside
        return store

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
            for name in ("plan", "cells", "metrics", "fingerprints", "files", "meta"):
                database.execute(f"DELETE FROM {name}")

    def _remove_files(self) -> None:
        for top in ("grids", "plots", "thumbs"):
            Written(self.folder, top).clear()
        for id_, image in self._database.execute("SELECT id, image_path FROM cells"):
            for name in (latents_name(id_), *([image] if is_an_image(image) else [])):
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
            for name, stamp in self.files.seen.items():
                insert(database, "files", {"name": name, **asdict(stamp)})

    def pending(self, cells: Iterable[Cell], enough: Callable[[Cell, Provenance], bool]) -> list[Cell]:
        """The cells that still have to be made: not there, failed, unreadable, image gone or damaged, or not made well
        `enough`."""
        wanted = {cell.id: cell for cell in cells}
        done = set()
        query = "SELECT * FROM cells WHERE status NOT IN ('failed', 'unsupported')"
        with self._readable():
            for row in self._database.execute(query):
                cell, stored = wanted.get(row["id"]), self._read(row) if row["id"] in wanted else None
                if cell and stored and stored.image_path:
                    made = Provenance(row["key"], row["machine"], stored.result.packed, len(stored.result.timings))
                    if enough(cell, made) and self.files.is_intact(stored.image_path, stored.result.image_sha256):
                        done.add(cell.id)
        return [cell for id_, cell in wanted.items() if id_ not in done]

    def _read(self, row: sqlite3.Row) -> StoredCell | None:
        """None for a row that cannot be read."""
        try:
            return from_row(dict(row))
        except ValueError as error:
            self._unreadable[f"the cell {row['id']}"] = str(error)
            return None

    def every_cell(self) -> Iterator[tuple[str, StoredCell | None, str]]:
        """Id, cell and why it cannot be read, of all plans."""
        with self._readable():
            for row in self._database.execute("SELECT * FROM cells"):
                stored = self._read(row)
                yield row["id"], stored, "" if stored else self._unreadable[f"the cell {row['id']}"]

    def unreadable_rows(self) -> dict[str, int]:
        """How many rows of which tables beside `cells` no run has written."""
        with self._readable():
            names = [row[0] for row in self._database.execute("SELECT name FROM meta")]
            counts = {
                table: int(self._database.execute(f"SELECT count(*) FROM {table} WHERE {wrong}").fetchone()[0])
                for table, wrong in UNREADABLE.items()
                if self._has(table)
            }
        for name in names:
            self.meta(name)
        counts["meta"] = len([name for name in names if name in self._unreadable])
        return {table: count for table, count in counts.items() if count}

    def drop(self, ids: Iterable[str]) -> None:
        """Forget these cells, and all rows that no run has written."""
        dropped = [(id_,) for id_ in ids]
        with self._transaction() as database:
            for table in ("cells", "metrics", "fingerprints"):
                database.executemany(f"DELETE FROM {table} WHERE id IS ?", dropped)
            database.executemany("DELETE FROM files WHERE name = ?", ((latents_name(id_),) for (id_,) in dropped))
            for table, wrong in UNREADABLE.items():
                database.execute(f"DELETE FROM {table} WHERE {wrong}")
            database.executemany("DELETE FROM meta WHERE name = ?", ((name,) for name in self._unreadable))

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What of the database was found so far to be nothing that a run has written, and why."""
        return self._unreadable

    def _stamp(self, name: str) -> Stamp | None:
        with self._readable():
            rows = [*self._rows("files", "WHERE name = ?", name)]
        return Stamp(**{key: rows[0][key] for key in ("size", "mtime_us", "digest")}) if rows else None

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
        files = {image_path: png, latents_name(result.cell.id): latents}
        stamps = {}
        try:
            for name, data in files.items():
                if data:
                    stamps[name] = Stamp.of(write_file(self.folder, name, data).stat(), data)
            if not latents:
                remove_file(self.folder, latents_name(result.cell.id))  # of an earlier image
        except OSError as error:
            raise _stopped(self.folder, error) from error
        with self._transaction() as database:
            for table in ("metrics", "fingerprints"):  # of an earlier image
                database.execute(f"DELETE FROM {table} WHERE id = ?", (result.cell.id,))
            if result.fingerprint:
                database.execute("INSERT INTO fingerprints VALUES (?, ?)", (result.cell.id, result.fingerprint))
            for name in files:
                if name in stamps:
                    insert(database, "files", {"name": name, **asdict(stamps[name])})
                else:
                    database.execute("DELETE FROM files WHERE name = ?", (name,))
            insert(database, "cells", values)

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
                if not isinstance(path, str) or not is_of_a_run(path):
                    continue
                paths[id_] = path
                owners[path] = "" if path in owners else id_
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
                insert(database, "cells", to_row(result, "", None) | {"machine": ""})

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
        """Whether they were kept, and are what was kept."""
        return self.files.is_intact(latents_name(cell_id))

    def latents(self, cell_id: str) -> npt.NDArray[np.float32] | None:
        """What a cell's VAE was given, as the pipeline has it, (1, channels, ...); None if it was not kept."""
        return self.files.latents(cell_id)

    def references(self) -> dict[Task, Reference]:
        """The converged image of each task, where the run has looked for one."""
        rows = self.meta("references") or ()
        return {reference.task: reference for reference in (Reference(**r | {"task": tuple(r["task"])}) for r in rows)}

    def found(self, ids: Iterable[str]) -> dict[str, StoredCell]:
        """The finished cells among these, in the present plan or not, by their ids."""
        with self._readable():
            rows = [self._database.execute("SELECT * FROM cells WHERE id = ?", (id_,)).fetchone() for id_ in ids]
        stored = [self._read(row) for row in rows if row]
        return {found.cell.id: found for found in stored if found}

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
        """The finished cells of the present plan, in the sweep's order; those that cannot be read are not there."""
        query = "SELECT cells.*, plan.* FROM cells JOIN plan USING (id) ORDER BY position"
        with self._readable():
            metrics = self.metrics()
            for row in self._database.execute(query):
                stored = self._read(row)
                if stored:
                    yield replace(stored, metrics=metrics.get(stored.cell.id, {}))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Cell id → metric → value, of all finished cells, in the present plan or not."""
        found: dict[str, dict[str, float]] = {}
        with self._readable():
            for id_, name, value in self._rows("metrics"):
                if isinstance(value, float) and math.isfinite(value):
                    found.setdefault(id_, {})[name] = value
        return found

    def fingerprints(self) -> dict[str, bytes]:
        """Cell id → its image's fingerprint, see `image.fingerprint`."""
        with self._readable():
            return {
                id_: pixels
                for id_, pixels in self._rows("fingerprints")
                if isinstance(pixels, bytes) and len(pixels) == FINGERPRINT_BYTES
            }

    def _rows(self, table: str, where: str = "", *values: object) -> Iterable[sqlite3.Row]:
        """Rows of a table that runs of an earlier schedcmp lack."""
        return self._database.execute(f"SELECT * FROM {table} {where}", values) if self._has(table) else ()

    def _has(self, table: str) -> bool:
        return bool(self._database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())

    def count(self) -> int:
        """How many cells are there, of all plans."""
        with self._readable():
            return int(self._database.execute("SELECT count(*) FROM cells").fetchone()[0])

    def planned(self) -> int:
        """How many cells the present plan has."""
        with self._readable():
            return int(self._database.execute("SELECT count(*) FROM plan").fetchone()[0])

    def meta(self, name: str) -> Any:
        """What `begin` was given under this name, or None."""
        with self._readable():
            row = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        try:
            return read_meta(name, row["value"]) if row else None
        except ValueError as error:
            self._unreadable[name] = str(error)
            return None

    def sweep(self) -> dict[str, Any]:
        """The sweep of the present plan as plain data, its name and grid at least.

        Raises:
            RunFolderError: the run was stopped before it had begun, or that cannot be read.
        """
        text = self.meta("sweep")
        try:
            if text is not None:
                return read_sweep(text)
        except ValueError as error:
            self._unreadable["sweep"] = str(error)
        if "sweep" in self._unreadable:
            raise RunFolderError(
                f"{self.folder / DATABASE}: its sweep cannot be read ({self._unreadable['sweep']}); repeat the run's "
                "command, which makes nothing twice and writes it again"
            )
        raise RunFolderError(
            f"{self.folder}: has no results yet: its run was stopped, or still is, before the first image; repeat that"
        )

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
        except sqlite3.DatabaseError as error:
            raise unusable(self.folder / DATABASE, error) from error


def image_path(cell: Cell, folders: Iterable[str] = (), top: str = "images") -> str:
    """Where a cell's image goes, relative to the run's folder; `folders` tell prompts or guidance apart."""
    parts = [slug(part) for part in (*folders, cell.scheduler)]
    return "/".join([top, *parts, f"steps-{cell.steps:03d}", f"seed-{cell.seed:04d}.png"])


@contextmanager
def _undone(folder: Path, lock: FileLock, *, new: bool) -> Iterator[None]:
    """Around the making of a database: where that fails nothing is left of it."""
    there = (folder / DATABASE).exists()
    try:
        yield
    except SchedcmpError:
        for half in folder.glob(f"{DATABASE}*") if not there else ():
            half.unlink()
        lock.release()
        if new:
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
        raise


def _stopped(folder: Path, error: Exception) -> RunError:
    if not (folder / DATABASE).exists():
        return RunError(
            f"{folder / DATABASE}: was removed while the run was writing it; repeat the command to begin anew"
        )
    return RunError(
        f"{folder}: writing failed ({error}); what was finished is kept. "
        "Make room or mend the disk, then repeat the command: it goes on from there"
    )
