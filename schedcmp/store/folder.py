"""What of a folder is a run's, which folders a run may use, and the only way to its files.

Names of files come from databases, lists and addresses, which may be anybody's. Whatever they say, nothing outside of
the run's folder is read, written or removed: no link is followed below it, and only regular files are opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from schedcmp.errors import RunFolderError
from schedcmp.files import UNFINISHED, is_address, open_regular, write_atomically

DATABASE = "run.sqlite"
LOCK = ".run.lock"
MODELS = "models.json"  # where a sweep has several checkpoints, see `store.several`
RESULTS = (MODELS, "sweep.yaml", "results.csv", "distribution.csv", "answer.md", "report.html")
RESULT_FOLDERS = ("images", "grids", "plots", "thumbs", "latents", "references", "inputs")
TIMINGS = tuple(f"timings.{ending}" for ending in ("csv", "md", "json", "tex"))
LIST = ".written.json"  # of what the run wrote into one of its folders; see `written`
_JUNCTION = 0xA0000003  # stat.IO_REPARSE_TAG_MOUNT_POINT, which only Windows has
_PNG_END = b"IEND\xaeB`\x82"
_IMAGE = re.compile(r"(images|references)/([^/]+/)+steps-\d{3,}/seed-\d{4,}\.(png|webp)")


def is_of_a_run(name: str) -> bool:
    """Whether a file of this name, relative to a run's folder and with "/", is one that runs make and keep."""
    path = PurePosixPath(name)
    parts = path.parts[:-1] if path.name == LIST else path.parts
    if path.is_absolute() or re.search(r"[\\:\x00-\x1f]", name) or any(part.startswith(".") for part in parts):
        return False
    if path.parts[:1] == ("models",) and len(path.parts) > 2:
        return path.parts[2] != "models" and is_of_a_run("/".join(path.parts[2:]))
    return path.parts[0] in RESULT_FOLDERS if len(path.parts) > 1 else name in (DATABASE, *RESULTS, *TIMINGS)


def is_an_image(name: object) -> bool:
    """Whether a run gives such a name to a cell's image."""
    return isinstance(name, str) and is_of_a_run(name) and _IMAGE.fullmatch(name) is not None


def place(folder: Path, name: object, *, itself: bool = False) -> Path:
    """Where a file of a run is or goes. Raises OSError for a name that is none of a run's, or one behind a link.

    Args:
        itself: the file may be no link either.
    """
    if not isinstance(name, str) or not is_of_a_run(name):
        raise OSError(errno.EPERM, "is none of a run's files", str(name))
    refuse_links_to(folder, name, itself=itself)
    return folder / name


def refuse_links_to(folder: Path, name: str, *, itself: bool = False) -> None:
    """Raises OSError where one of the folders on the way from `folder` to a file is a link, or the file `itself`."""
    path, parts = str(folder), PurePosixPath(name).parts  # a `Path` would take ten times as long
    for part in parts if itself else parts[:-1]:
        path = f"{path}/{part}"
        if _is_link(path):
            raise OSError(errno.EPERM, f"{part} is a link, which may lead out of the run's folder; remove it", path)


def _is_link(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION


def open_file(folder: Path, name: object) -> BinaryIO:
    """A file of a run, to be read. Raises OSError, also for a link and for what is no regular file."""
    return open_regular(place(folder, name, itself=True))


def is_there(folder: Path, name: object) -> bool:
    """Whether there is such a file of a run."""
    try:
        return place(folder, name).exists()
    except OSError:
        return False


def has_whole_png(folder: Path, name: object) -> bool:
    """Whether a file of a run is there and ends as a PNG does; a torn or emptied one does not."""
    try:
        with open_file(folder, name) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - len(_PNG_END), 0))
            return file.read() == _PNG_END
    except OSError:
        return False


def write_file(folder: Path, name: object, data: bytes) -> Path:
    """Write a file of a run, whole or not at all. A link in its place is replaced. Raises OSError."""
    path = place(folder, name)
    write_atomically(path, data)
    return path


def remove_file(folder: Path, name: object) -> None:
    """Remove a file of a run, if it is there. Raises OSError."""
    place(folder, name).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run was writing. Raises OSError."""
    for top, names in [(folder, [path.name for path in folder.glob(".*")]), *_result_folders(folder)]:
        for name in filter(UNFINISHED.fullmatch, names):
            (top / name).unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove the run's own folders in which nothing is left."""
    for top, _ in reversed([*_result_folders(folder)]):
        with suppress(OSError):
            top.rmdir()


def _result_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders of results with the names of their files; no links."""
    for name in RESULT_FOLDERS:
        if not _is_link(f"{folder}/{name}"):
            yield from ((Path(top), names) for top, _, names in os.walk(folder / name))


def refuse_links(folder: Path) -> None:
    """Raises RunFolderError where the database or what belongs to it is a link, or no file."""
    for name in (DATABASE, f"{DATABASE}-journal", f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK):
        with suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                raise RunFolderError(f"{folder / name}: is a link or no file, and a run's is a file; remove it")


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
