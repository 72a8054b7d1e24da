"""What a run has written into one of its folders, so that a later report removes that and nothing else.

The list lies in the folder. A file counts as the run's only with the content that was written: what somebody put or
changed there stays, whatever the list says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

from schedcmp import __version__
from schedcmp.files import from_json
from schedcmp.store.folder import LIST, is_of_a_run, open_file, remove_file, write_file

_MOST_BYTES = 100_000_000


class KnownFile(NamedTuple):
    """A file's content, and what it was made of."""

    digest: str
    mark: str = ""


class Written:
    """A folder of results: what an earlier report wrote, and what this one does."""

    def __init__(self, folder: Path, top: str) -> None:
        """
        Args:
            folder: the run's.
            top: one of `folder.RESULT_FOLDERS`.
        """
        self._folder, self._top = folder, top
        self._before = _read(folder, f"{top}/{LIST}")
        self._now: dict[str, KnownFile] = {}

    def write(self, name: str, data: bytes, mark: str = "") -> Path:
        """Write a file, whole or not at all. Raises OSError."""
        self._now[name] = KnownFile(_digest(data), mark)
        return write_file(self._folder, f"{self._top}/{name}", data)

    def keep(self, name: str) -> None:
        """Leave a file that is there as it is."""
        self._now[name] = self._before.get(name, KnownFile(""))

    def holds(self, name: str, mark: str) -> bool:
        """Whether the file is there as an earlier report made it, and of what `mark` says."""
        with suppress(OSError), open_file(self._folder, f"{self._top}/{name}") as file:
            return self._before.get(name) == KnownFile(_digest(file.read()), mark)
        return False

    def mark(self, name: str) -> str:
        """What an earlier report made the file of; "" if it did not say."""
        return self._before.get(name, KnownFile("")).mark

    def unmark(self) -> None:
        """Until `close` nobody knows what files are made of. Raises OSError."""
        if self._before:
            self._note({name: KnownFile(entry.digest) for name, entry in self._before.items()})

    def close(self) -> None:
        """Remove what an earlier report wrote and this one did not, and write the list. Raises OSError."""
        for name in self._before.keys() - self._now.keys():
            self._remove(f"{self._top}/{name}", self._before[name].digest)
        if self._now != self._before or any(entry.mark for entry in self._now.values()):
            self._note(self._now)

    def clear(self) -> None:
        """Remove all that reports wrote. Raises OSError."""
        self.close()
        remove_file(self._folder, f"{self._top}/{LIST}")

    @property
    def names(self) -> list[str]:
        """Of what an earlier report wrote."""
        return sorted(self._before)

    def _remove(self, name: str, digest: str) -> None:
        with suppress(OSError):
            with open_file(self._folder, name) as file:
                own = _digest(file.read()) == digest
            if own:
                remove_file(self._folder, name)

    def _note(self, entries: Mapping[str, KnownFile]) -> None:
        write_file(self._folder, f"{self._top}/{LIST}", json.dumps(entries, sort_keys=True).encode())


def mark_of(*parts: object) -> str:
    """What a file is made of, and by which schedcmp: equal parts are told alike."""
    return _digest(repr((__version__, *parts)).encode())


def _digest(data: bytes) -> str:
    return blake2s(data, digest_size=16).hexdigest()


def _read(folder: Path, name: str) -> dict[str, KnownFile]:
    """What is no list says nothing."""
    try:
        with open_file(folder, name) as file:
            found = from_json(file.read(_MOST_BYTES))
        entries = {str(key): KnownFile(*map(str, value)) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {key: entry for key, entry in entries.items() if "/" not in key and is_of_a_run(f"plots/{key}")}
