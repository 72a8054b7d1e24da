"""What a run's folder holds, to be read: cells of the present plan, what was measured of them, what is kept beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from schedcmp.errors import RunFolderError
from schedcmp.pictures.image import FINGERPRINT_BYTES
from schedcmp.readings import NOTE, Reading, readings
from schedcmp.records import Length, Reference, StoredCell, Task
from schedcmp.store.database import Database, RunFolder
from schedcmp.store.folder import DATABASE, refuse_links
from schedcmp.store.rows import read_meta, read_sweep
from schedcmp.store.stamps import Files, Stamp, latents_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Results(RunFolder):
    """One run's results."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.files = Files(folder, self._stamp)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a run's folder for reading; it may be being written. Raises RunFolderError."""
        refuse_links(folder)
        if not (folder / DATABASE).is_file():
            raise RunFolderError(f"{folder}: has no {DATABASE}; give the folder of a run, such as outputs/quickstart")
        return cls(folder, Database(folder, write=False))

    def close(self) -> None:
        self.database.close()

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What of the database was found so far to be nothing that a run has written, and why."""
        return self.database.unreadable

    def cells(self) -> Iterator[StoredCell]:
        """The finished cells of the present plan, in the sweep's order; those that cannot be read are not there."""
        query = "SELECT cells.*, plan.* FROM cells JOIN plan USING (id) ORDER BY position"
        with self.database.reading() as database:
            metrics = self.metrics()
            for row in database.execute(query):
                stored = self.database.cell(row)
                if stored:
                    yield replace(stored, metrics=metrics.get(stored.cell.id, {}))

    def found(self, ids: Iterable[str]) -> dict[str, StoredCell]:
        """The finished cells among these, in the present plan or not, by their ids."""
        with self.database.reading() as database:
            rows = [database.execute("SELECT * FROM cells WHERE id = ?", (id_,)).fetchone() for id_ in ids]
        stored = [self.database.cell(row) for row in rows if row]
        return {found.cell.id: found for found in stored if found}

    def own(self, stored: StoredCell) -> tuple[Results, StoredCell]:
        """The run that a cell is of, and the cell there; see `store.several`."""
        return self, stored

    def metrics(self) -> dict[str, dict[str, float]]:
        """Cell id → metric → value, of all finished cells, in the present plan or not."""
        found: dict[str, dict[str, float]] = {}
        with self.database.reading():
            for id_, name, value in self.database.rows("metrics"):
                if isinstance(value, float) and math.isfinite(value):
                    found.setdefault(id_, {})[name] = value
        return found

    def fingerprints(self) -> dict[str, bytes]:
        """Cell id → its image's fingerprint, see `image.fingerprint`."""
        with self.database.reading():
            return {
                id_: pixels
                for id_, pixels in self.database.rows("fingerprints")
                if isinstance(pixels, bytes) and len(pixels) == FINGERPRINT_BYTES
            }

    def features(self, origin: str) -> dict[str, bytes]:
        """Cell id → what was seen in its image by what `origin` names: numbers, float32."""
        with self.database.reading():
            rows = [*self.database.rows("features", "WHERE origin = ?", origin)]
        return {row["id"]: row["numbers"] for row in rows if isinstance(row["numbers"], bytes)}

    def readings(self) -> dict[str, Reading]:
        """How to read the metrics, by their names, the most telling first."""
        return readings(self.meta(NOTE))

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

    def trajectories(self) -> dict[Length, Mapping[str, Any]]:
        """`records.length_of` a cell → its noise levels, timesteps and NFE."""
        rows = self.meta("trajectories") or ()
        return {(row["scheduler"], row["steps"], row.get("strength")): row for row in rows}

    def count(self) -> int:
        """How many cells are there, of all plans."""
        with self.database.reading() as database:
            return int(database.execute("SELECT count(*) FROM cells").fetchone()[0])

    def planned(self) -> int:
        """How many cells the present plan has."""
        with self.database.reading() as database:
            return int(database.execute("SELECT count(*) FROM plan").fetchone()[0])

    def meta(self, name: str) -> Any:
        """What `begin` was given under this name, or None."""
        with self.database.reading() as database:
            row = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        try:
            return read_meta(name, row["value"]) if row else None
        except ValueError as error:
            self.database.unreadable[name] = str(error)
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
            self.database.unreadable["sweep"] = str(error)
        if "sweep" in self.unreadable:
            raise RunFolderError(
                f"{self.folder / DATABASE}: its sweep cannot be read ({self.unreadable['sweep']}); repeat the run's "
                "command, which makes nothing twice and writes it again"
            )
        raise RunFolderError(
            f"{self.folder}: has no results yet: its run has made no image; let it go on, or repeat its command"
        )

    def _stamp(self, name: str) -> Stamp | None:
        with self.database.reading():
            rows = [*self.database.rows("files", "WHERE name = ?", name)]
        return Stamp(**{key: rows[0][key] for key in ("size", "mtime_us", "digest")}) if rows else None
