"""Files at fsspec addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schedcmp.errors import SchedcmpError, one_line
from schedcmp.store.folder import refuse_links_to

_AT_ONCE = 16  # transfers, of file systems that wait for a network
PART = ".run.part"


@contextmanager
def failing_as(error: type[SchedcmpError], what: str) -> Iterator[None]:
    """Each file system has errors of its own, and a missing one says which package it needs: one line of any."""
    try:
        yield
    except SchedcmpError:
        raise
    except ImportError as found:
        remedy = "install that with pip, or fetch what is there by hand"
        raise error(f"{what}: {one_line(found)[:300]}; {remedy}") from found
    except Exception as found:
        raise error(f"{what}: {one_line(found)[:300]}") from found


class Remote:
    """A folder at an address. Names are relative to it; whatever fails raises an error of the file system's own."""

    def __init__(self, address: str, *, links: bool = True) -> None:
        """
        Args:
            links: whether links are followed, where the address is a folder on a disk.
        """
        self._fs, root = fsspec.url_to_fs(address)
        self._root: str = root.rstrip("/")
        self._refuses_links = not links and isinstance(self._fs, LocalFileSystem)  # others have none
        self._made: set[str] = set()
        self._fs.invalidate_cache()

    def names(self) -> list[str]:
        """Of what lies directly there."""
        with suppress(FileNotFoundError):
            return [name for path in self._fs.ls(self._root, detail=False) if (name := self._name(path))]
        return []

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self._root.rpartition("/")[2]

    def find(self) -> list[str]:
        """The names of all files; "" if the address is a file's."""
        return [self._name(path) for path in self._fs.find(self._root)]

    def mark(self, name: str) -> str | None:
        """Another one whenever the file changes; None if there is none."""
        with suppress(FileNotFoundError):
            return str(self._fs.ukey(self._path(name)))
        return None

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._path(name)))
        return None

    def write(self, name: str, data: bytes) -> None:
        self._whole(name, lambda path: self._fs.pipe_file(path, data))

    def put(self, local: Path, name: str) -> None:
        self._whole(name, lambda path: self._fs.put_file(str(local), path))

    def get(self, name: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(name), str(local))

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def each(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Do work that transfers one file for all of these; stops at the first that fails."""
        with ThreadPoolExecutor(_AT_ONCE if self._fs.async_impl else 1) as pool:
            for _ in pool.map(work, names):
                pass

    def _whole(self, name: str, write: Callable[[str], Any]) -> None:
        """Object stores have a file whole or not at all; others get it beside its place, and it is moved there."""
        path = self._path(name)
        if self._fs.async_impl:
            write(path)
            return
        for folder in {self._root, path.rpartition("/")[0]} - self._made:
            self._fs.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        write(self._path(PART))
        self._fs.mv(self._path(PART), path)

    def _path(self, name: str) -> str:
        if self._refuses_links:
            refuse_links_to(Path(self._root), name, itself=True)
        return f"{self._root}/{name}" if name else self._root

    def _name(self, path: str) -> str:
        return str(path).removeprefix(self._root).strip("/")
