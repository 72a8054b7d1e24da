"""A run's folder is written by one run at a time, and of a request that is refused nothing is left in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from schedcmp.errors import RunFolderError, SchedcmpError
from schedcmp.store.folder import DATABASE, LOCK, refuse_foreign, refuse_links, remove_unfinished


@contextmanager
def taken(folder: Path) -> Iterator[tuple[FileLock, bool]]:
    """Make a folder one writer's, who opens its database in here: where that fails nothing is left of it.

    Yields:
        The lock, which outlasts this, and whether the folder is new.

    Raises:
        RunFolderError: it cannot be written, another run is using it, or it holds something else.
    """
    lock, new = _locked(folder)
    there = (folder / DATABASE).exists()
    try:
        yield lock, new
    except SchedcmpError:
        for half in folder.glob(f"{DATABASE}*") if not there else ():
            half.unlink()
        lock.release()
        if new:
            abandon(folder)
        raise


def _locked(folder: Path) -> tuple[FileLock, bool]:
    try:
        new = not folder.exists()
        refuse_foreign(folder)
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
        remove_unfinished(folder)
    except Timeout as error:
        raise RunFolderError(
            f"{folder}: another run is writing here; wait for it, or choose another folder with -o"
        ) from error
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return lock, new


def abandon(folder: Path) -> None:
    """Remove a new folder in which nothing has been stored."""
    with suppress(OSError):
        for name in (DATABASE, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
