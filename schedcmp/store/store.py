"""A run's folder: `run.sqlite` and the images, the only thing that reports read.

A cell is stored when it is finished: first its image (written beside its place and moved there), then its row (one
transaction). A crash between the two leaves an image without a row, which the next run writes again. Nothing is ever
half there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from schedcmp.records import Cell, CellResult
from schedcmp.store.database import Database, writing_files
from schedcmp.store.folder import (
    DATABASE,
    RESULTS,
    TIMINGS,
    is_an_image,
    remove_empty,
    remove_file,
    write_file,
)
from schedcmp.store.images import input_path
from schedcmp.store.lock import abandon, taken
from schedcmp.store.reading import Results
from schedcmp.store.rescue import damage
from schedcmp.store.rows import NAMES, to_row
from schedcmp.store.schema import TABLES, insert
from schedcmp.store.seals import seal
from schedcmp.store.stamps import Stamp, latents_name
from schedcmp.store.written import Written


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the image and the timings of a stored cell came about."""

    key: str  # of all that determines the image beside the cell itself
    machine: str  # of what determines the timings
    packed: bool
    timings: int


class Store(Results):
    """One run's results. Open it with `Store.create` to write, with `Store.open` to read."""

    def __init__(self, folder: Path, database: Database, lock: FileLock | None = None, *, new: bool = False) -> None:
        super().__init__(folder, database)
        self._new = new
        self._lock = lock
        self.set_aside: Path | None = None  # a damaged database that this one replaces

    @classmethod
    def create(cls, folder: Path, *, mend: Callable[[Path], Path] | None = None) -> Store:
        """Open a run's folder for writing, alone.

        Args:
            mend: what is done to a damaged database, see `rescue`; otherwise it is refused.

        Raises:
            RunFolderError: it cannot be written, another run is using it, or it holds something else.
            RunError: the disk is full, or fails.
        """
        with taken(folder) as (lock, new):
            damaged = mend and (folder / DATABASE).exists() and damage(folder / DATABASE)
            aside = mend(folder / DATABASE) if mend and damaged else None
            store = cls(folder, Database(folder, write=True), lock, new=new)
        store.set_aside = aside
        return store

    def close(self) -> None:
        super().close()
        if self._lock:
            self._lock.release()

    def __exit__(self, *_: object) -> None:
        unused = self._new and self.planned() == 0
        self.close()
        if unused:  # the request was refused after all
            abandon(self.folder)

    def clear(self) -> None:
        """Forget all results, and remove what a run has made; other files stay. Raises RunError."""
        with writing_files(self.folder):
            self._remove_files()
        with self.database.writing() as database:
            for name in TABLES:
                database.execute(f"DELETE FROM {name}")

    def _remove_files(self) -> None:
        for top in ("grids", "plots", "thumbs", "inputs"):
            Written(self.folder, top).clear()
        with self.database.reading() as database:
            for id_, image in database.execute("SELECT id, image_path FROM cells"):
                for name in (latents_name(id_), *([image] if is_an_image(image) else [])):
                    with suppress(OSError):  # a name that is none of a run's
                        remove_file(self.folder, name)
        for name in (*RESULTS, *TIMINGS):
            remove_file(self.folder, name)
        remove_empty(self.folder)

    def begin(self, cells: Sequence[Cell], meta: Mapping[str, Any]) -> None:
        """Make these cells the run's plan. Results of earlier plans stay, and are used if they come back."""
        with self.database.writing() as database:
            database.execute("DELETE FROM plan")
            database.executemany("INSERT INTO plan VALUES (?, ?, ?)", ((c.id, c.index, c.nfe_budget) for c in cells))
            seal(database, "plan")
            for name in NAMES:  # an automatic one changes with the plan
                names = dict(database.execute(f"SELECT id, {name} FROM cells").fetchall())
                new = [(getattr(c, name), c.id) for c in cells if c.id in names]
                changed = [(own, id_) for own, id_ in new if names[id_] != own]
                database.executemany(f"UPDATE cells SET {name} = ? WHERE id = ?", changed)
                seal(database, "cells", ((id_,) for _, id_ in changed))
            rows = [(name, json.dumps(value)) for name, value in meta.items()]
            database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            seal(database, "meta", ((name,) for name in meta))
            for name, stamp in self.files.seen.items():
                insert(database, "files", {"name": name, **asdict(stamp)})

    def pending(self, cells: Iterable[Cell], enough: Callable[[Cell, Provenance], bool]) -> list[Cell]:
        """The cells that still have to be made: not there, failed, unreadable, image gone or damaged, or not made well
        `enough`."""
        wanted = {cell.id: cell for cell in cells}
        done = set()
        query = "SELECT * FROM cells WHERE status NOT IN ('failed', 'unsupported')"
        with self.database.reading() as database:
            for row in database.execute(query):
                cell, stored = wanted.get(row["id"]), self.database.cell(row) if row["id"] in wanted else None
                if cell and stored and stored.image_path:
                    made = Provenance(row["key"], row["machine"], stored.result.packed, len(stored.result.timings))
                    if enough(cell, made) and self.files.is_intact(stored.image_path, stored.result.image_sha256):
                        done.add(cell.id)
        return [cell for id_, cell in wanted.items() if id_ not in done]

    def add(
        self,
        result: CellResult,
        key: str,
        machine: str,
        image_path: str,
        file: bytes | None,
        latents: bytes | None = None,
    ) -> None:
        """Store a finished cell, its files first.

        Args:
            image_path: where no other cell's image is, see `runs.paths`.
            latents: a .npy file's bytes, where they will be needed.

        Raises:
            RunError: the disk is full or gone.
        """
        values = to_row(result, key, image_path if file else None) | {"machine": machine}
        files = {image_path: file, latents_name(result.cell.id): latents}
        stamps = {}
        with writing_files(self.folder):
            for name, data in files.items():
                if data:
                    stamps[name] = Stamp.of(write_file(self.folder, name, data).stat(), data)
            if not latents:
                remove_file(self.folder, latents_name(result.cell.id))  # of an earlier image
        with self.database.writing() as database:
            id_ = (result.cell.id,)
            measured = database.execute("SELECT id, name FROM metrics WHERE id = ?", id_).fetchall()
            for table in ("metrics", "fingerprints", "features"):  # of an earlier image
                database.execute(f"DELETE FROM {table} WHERE id = ?", id_)
            seal(database, "metrics", measured)
            if result.fingerprint:
                database.execute("INSERT INTO fingerprints VALUES (?, ?)", (result.cell.id, result.fingerprint))
            for name in files:
                if name in stamps:
                    insert(database, "files", {"name": name, **asdict(stamps[name])})
                else:
                    database.execute("DELETE FROM files WHERE name = ?", (name,))
            insert(database, "cells", values)
            seal(database, "cells", [id_])

    def refuse(self, results: Iterable[CellResult]) -> None:
        """Store cells that cannot be made, and why."""
        with self.database.writing() as database:
            for result in results:
                insert(database, "cells", to_row(result, "", None) | {"machine": ""})
                seal(database, "cells", [(result.cell.id,)])

    def measure(self, metrics: Mapping[str, Mapping[str, float]], instead_of: Iterable[str] = ()) -> None:
        """Keep what was measured of finished cells: cell id → metric → value; it replaces what is there.

        Args:
            instead_of: metrics of these cells that are forgotten if they are not given anew.
        """
        rows = [(id_, name, value) for id_, found in metrics.items() for name, value in found.items()]
        with self.database.writing() as database:
            old = [(id_, name) for name in instead_of for id_ in metrics]
            database.executemany("DELETE FROM metrics WHERE id = ? AND name = ?", old)
            database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)", rows)
            seal(database, "metrics", {*old, *((id_, name) for id_, name, _ in rows)})

    def keep_features(self, origin: str, features: Mapping[str, bytes]) -> None:
        """Keep what was seen in finished cells' images: cell id → numbers, float32; it replaces what is there.

        Args:
            origin: what has seen it.
        """
        with self.database.writing() as database:
            rows = [(id_, origin, numbers) for id_, numbers in features.items()]
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)

    def forget(self, metric: str, cells: Iterable[str] | None = None) -> None:
        """Forget a metric of these cells; by default of all, also of those that are not in the present plan."""
        with self.database.writing() as database:
            old = database.execute("SELECT id, name FROM metrics WHERE name = ?", (metric,)).fetchall()
            old = old if cells is None else [(id_, metric) for id_ in cells]
            database.executemany("DELETE FROM metrics WHERE id = ? AND name = ?", old)
            seal(database, "metrics", old)

    def note(self, name: str, value: Any) -> None:
        """Keep a value that the run found out about itself, for `meta`."""
        with self.database.writing() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))
            seal(database, "meta", [(name,)])

    def write_inputs(self, pictures: Iterable[tuple[str, bytes]]) -> None:
        """Keep PNG files of what the cells are given, by token; what is there already stays. Raises RunError."""
        written = Written(self.folder, "inputs")
        with writing_files(self.folder):
            for token, png in pictures:
                written.write(PurePosixPath(input_path(token)).name, png)
            written.close()
