"""What of a folder is a run's, and which folders a run may use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from schedcmp.errors import RunFolderError
from schedcmp.files import is_address

DATABASE = "run.sqlite"
LOCK = ".run.lock"
RESULTS = ("sweep.yaml", "results.csv", "distribution.csv", "answer.md", "report.html")
RESULT_FOLDERS = ("images", "grids", "plots", "thumbs", "latents", "references")
TIMINGS = "timings.*"


def is_of_a_run(name: str) -> bool:
    """Whether a file of this name, relative to a run's folder and with "/", is one that runs make and keep."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or any(part.startswith(".") for part in path.parts):
        return False
    inside = len(path.parts) > 1
    return path.parts[0] in RESULT_FOLDERS if inside else name in (DATABASE, *RESULTS) or path.match(TIMINGS)


def refuse_foreign(folder: Path) -> None:
    """Raises RunFolderError for a folder that holds something else, OSError for one that cannot be read."""
    if is_address(str(folder)):
        raise RunFolderError(
            f"{folder}: is an address, and a run's database needs a disk; `schedcmp run -o` takes it and keeps a copy"
        )
    if not folder.exists() or (folder / DATABASE).exists():
        return
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: is not a folder; choose another one with -o")
    refuse_strangers(folder, (path.name for path in folder.iterdir()), LOCK)


def refuse_strangers(place: object, names: Iterable[str], *known: str) -> None:
    """Raises RunFolderError if any of these files, of a place without a run, is not one of the `known`."""
    strangers = [name for name in names if name not in (*known, ".gitkeep")]
    if strangers:
        raise RunFolderError(
            f"{place}: holds files that are not a run's ({strangers[0]}, ...); choose an empty or new folder with -o"
        )
