"""Runs of several checkpoints, each in a folder of its own below one, read as one: `model` is an axis of the cells.

    outputs/NAME/models.json           their labels, in the sweep's order
    outputs/NAME/models/<label>/       an ordinary run

What all of them share is told once, what differs by label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from schedcmp.errors import RunFolderError
from schedcmp.files import read_input, slug
from schedcmp.readings import Reading
from schedcmp.records import Cell, Reference, StoredCell, Task
from schedcmp.store.database import RunFolder, writing_files
from schedcmp.store.folder import DATABASE, LOCK, MODELS, refuse_links_to, refuse_strangers, write_file
from schedcmp.store.images import input_path
from schedcmp.store.reading import Results
from schedcmp.store.rows import read_sweep
from schedcmp.store.store import Store

FOLDER = "models"
_MOST_BYTES = 100_000
_SWEEP = "sweep.yaml"


def labels_in(folder: Path) -> list[str]:
    """The checkpoints whose runs are in a folder; none where it is that of one run. Raises RunFolderError."""
    try:
        if (folder / DATABASE).exists() or not (folder / MODELS).exists():
            return []
        refuse_links_to(folder, MODELS, itself=True)
        found = json.loads(read_input(folder / MODELS, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{folder / MODELS}: cannot be read ({error}); repeat the run's command") from error
    if not (isinstance(found, list) and found and all(isinstance(label, str) and slug(label) for label in found)):
        raise RunFolderError(f"{folder / MODELS}: is no list of checkpoints; repeat the run's command")
    return found


def place_of(folder: Path, label: str) -> Path:
    """Where the run of one of the checkpoints is."""
    return folder / FOLDER / slug(label)


def write_labels(folder: Path, labels: Iterable[str], sweep: str) -> None:
    """Make a folder that of these checkpoints.

    Raises:
        RunFolderError: it is another run's, or holds something else.
        RunError: it cannot be written.
    """
    if (folder / DATABASE).exists():
        raise RunFolderError(f"{folder}: is the folder of a run of one checkpoint; choose another one with -o")
    with writing_files(folder):
        if folder.is_dir() and not (folder / MODELS).exists():
            refuse_strangers(folder, (path.name for path in folder.iterdir()), LOCK)
        write_file(folder, MODELS, f"{json.dumps([*labels])}\n".encode())
        write_file(folder, _SWEEP, sweep.encode())


def opened(folder: Path) -> Store | SeveralRuns:
    """What a folder holds, to be read. Raises RunFolderError."""
    labels = labels_in(folder)
    return SeveralRuns(folder, labels) if labels else Store.open(folder)


class SeveralRuns(RunFolder):
    """As `Results` of one run. Checkpoints whose run has not begun have no cells."""

    def __init__(self, folder: Path, labels: Iterable[str]) -> None:
        """Raises RunFolderError."""
        self.folder = folder
        self.files = self
        self.members: dict[str, Results] = {}
        try:
            with ExitStack() as stack:
                for label in labels:
                    refuse_links_to(folder, f"{FOLDER}/{slug(label)}", itself=True)
                    if (place_of(folder, label) / DATABASE).is_file():
                        self.members[label] = stack.enter_context(Store.open(place_of(folder, label)))
                self._stack = stack.pop_all()
        except OSError as error:
            raise RunFolderError(f"{folder}: {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        self._stack.close()

    @property
    def unreadable(self) -> Mapping[str, str]:
        return {
            f"{what} of {label}": why for label, run in self.members.items() for what, why in run.unreadable.items()
        }

    def cells(self) -> Iterator[StoredCell]:
        index = 0
        for label, run in self.members.items():
            for stored in run.cells():
                yield _with_model(label, stored, index)
                index += 1

    def own(self, stored: StoredCell) -> tuple[Results, StoredCell]:
        """The run that a cell is of, and the cell there."""
        run = self.members[stored.cell.model]
        id_ = stored.cell.id.removeprefix(_mark(stored.cell.model))
        return run, run.found([id_])[id_]

    def fingerprints(self) -> dict[str, bytes]:
        found = {label: run.fingerprints() for label, run in self.members.items()}
        return {_mark(label) + id_: pixels for label, own in found.items() for id_, pixels in own.items()}

    def readings(self) -> dict[str, Reading]:
        return {name: reading for run in self.members.values() for name, reading in run.readings().items()}

    def references(self) -> dict[Task, Reference]:
        found: dict[Task, Reference] = {}
        for label, run in self.members.items():
            tasks = {stored.cell.task: replace(stored.cell, model=label).task for stored in run.cells()}
            for task, reference in run.references().items():
                if task in tasks:
                    own = replace(reference, task=tasks[task], image=_below(label, reference.image))
                    found[own.task] = own
        return found

    def trajectories(self) -> dict[Any, Mapping[str, Any]]:
        """Those that all checkpoints share."""
        first, *others = (run.trajectories() for run in self.members.values())
        return {key: row for key, row in first.items() if all(other.get(key) == row for other in others)}

    def planned(self) -> int:
        return sum(run.planned() for run in self.members.values())

    def is_intact(self, name: str, pixels: str | None = None, *, thorough: bool = False) -> bool:
        """Whether a file is what was written, see `stamps.Files`."""
        for label, run in self.members.items():
            top = _below(label, "")
            if top and name.startswith(top):
                return run.files.is_intact(name.removeprefix(top), pixels, thorough=thorough)
        return False

    def meta(self, name: str) -> Any:
        if name == "sweep":
            return self._text()
        found = {label: value for label, run in self.members.items() if (value := run.meta(name)) is not None}
        if name == "environment":
            return _merged(found)
        if name == "warnings":
            return [f"{label}: {text}" for label, texts in found.items() for text in texts]
        return None

    def sweep(self) -> dict[str, Any]:
        """Raises RunFolderError where no run has begun, or it cannot be read."""
        try:
            found = read_sweep(self._text())
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.folder / _SWEEP}: cannot be read ({error}); repeat the run") from error
        if not self.members:
            raise RunFolderError(f"{self.folder}: has no results yet: its run was stopped before the first image")
        return found

    def _text(self) -> str:
        refuse_links_to(self.folder, _SWEEP, itself=True)
        return read_input(self.folder / _SWEEP, 100 * _MOST_BYTES).decode("utf-8")


Shown = Store | SeveralRuns


def _mark(label: str) -> str:
    return f"{slug(label)}."


def _below(label: str, name: str | None) -> str | None:
    return None if name is None else f"{FOLDER}/{slug(label)}/{name}"


def input_of(cell: Cell, token: str) -> str:
    """Where an image that a cell was given lies, relative to the folder that is read."""
    return f"{FOLDER}/{slug(cell.model)}/{input_path(token)}" if cell.model else input_path(token)


def _with_model(label: str, stored: StoredCell, index: int) -> StoredCell:
    cell = replace(stored.cell, id=_mark(label) + stored.cell.id, index=index, model=label)
    return replace(stored, result=replace(stored.result, cell=cell), image_path=_below(label, stored.image_path))


def _merged(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What all say; and by label what they do not."""
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in found.values() for key in one):
        values = {label: one.get(key) for label, one in found.items()}
        same = all(value == next(iter(values.values())) for value in values.values())
        merged[key] = next(iter(values.values())) if same else "; ".join(f"{k}: {v}" for k, v in values.items())
    return merged
