"""A run at an address (s3://, gs://, az://, memory://, file:// ...): made in a folder of this host, and kept there too.

Beside the run's files the address has a list of them, with the time at which each was made, and while it is written the
name of the host. The database is sent after the images that it knows of, and the list last, so that at any moment a
run lies there. Neither the engine nor the store knows of this.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2s
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from threading import Lock
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from schedcmp.addresses.claim import WRITER, Claim
from schedcmp.addresses.remote import PART, Remote, failing_as
from schedcmp.errors import RunError, RunFolderError
from schedcmp.files import cache_folder, slug, write_atomically
from schedcmp.store.folder import DATABASE, is_of_a_run, place, refuse_strangers, remove_file
from schedcmp.store.schema import snapshot

LIST = ".run.files.json"
_TRIES = 5  # to fetch all of what is being written
_TORN = "torn"  # the version of a folder while it is being fetched


@dataclass(slots=True)
class Listed:
    """What is at an address, or was when this host last fetched or sent it."""

    version: str | None = None  # another one for every change; None: no run
    files: dict[str, int] = field(default_factory=dict)  # name → when it was made, in µs


_LISTED = TypeAdapter(Listed)


class Mirror:
    """An address and its folder on this host."""

    def __init__(self, address: str, told: Callable[[str], None] = lambda text: None) -> None:
        """Raises RunFolderError for a protocol that is unknown, or whose package is missing."""
        self.address = address.rstrip("/")
        self._told = told
        mark = blake2s(self.address.encode(), digest_size=8).hexdigest()
        self.folder = cache_folder("runs") / f"{slug(self.address.rpartition('/')[2], 40)}-{mark}"
        self._state = Path(f"{self.folder}.json")
        self._lock = FileLock(f"{self.folder}.lock")
        self._one_at_a_time = Lock()
        with failing_as(RunFolderError, f"{self.address}: cannot be reached"):
            self._remote = Remote(address, links=False)
        self._claim = Claim(self._remote, self.address, self.folder)
        self._recall()

    def _recall(self) -> None:
        self._known = Listed()
        with suppress(
            FileNotFoundError, ValueError
        ):  # what cannot be read is fetched again, and what is here set aside
            self._known = _listed(self._state.read_bytes())
        self._sent = dict(self._known.files)  # also what an attempt sent that failed later

    @contextmanager
    def writing(self, *, new: bool = True) -> Iterator[None]:
        """Be the only one who writes there, in the folder as it is there.

        Args:
            new: whether there may be no run yet.

        Raises:
            RunFolderError: it cannot be reached, another run is writing there, or it holds something else.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunFolderError(
                f"{self.address}: another run of this host is writing there; wait for it, or choose another with -o"
            ) from error
        try:
            with failing_as(RunFolderError, f"{self.address}: cannot be written"):
                if self._there().version is None:
                    self._refuse_nothing(new)
                    refuse_strangers(self.address, self._remote.names(), WRITER, LIST, PART)
                self._claim.take()
                self._fetch()
            yield
        finally:
            self._claim.release()
            self._lock.release()

    def exists(self) -> bool:
        """Whether a run is there, or was begun and never sent. Raises RunFolderError."""
        with failing_as(RunFolderError, self._unread):
            return self._there().version is not None or (self.folder / DATABASE).is_file()

    def fetch(self) -> None:
        """Bring the folder up to date; where a run of this host is writing, it is. Raises RunFolderError."""
        with suppress(Timeout), self._lock.acquire(timeout=0), failing_as(RunFolderError, self._unread):
            self._fetch()
        self._refuse_nothing()

    def fetch_database(self, scratch: Path) -> Path:
        """A folder that has the database of what is there, and maybe nothing else. Raises RunFolderError."""
        with failing_as(RunFolderError, self._unread):
            there = self._there()
            if there.version != self._known.version and DATABASE in there.files:
                self._remote.get(DATABASE, scratch / DATABASE)
                return scratch
        self._refuse_nothing()
        return self.folder

    def send(self) -> int:
        """Make the address what the folder is now; returns how many files were sent.

        Raises:
            RunError: that failed; the next attempt goes on with the rest.
        """
        with self._one_at_a_time, failing_as(RunError, f"{self.address}: cannot be written"):
            return self._send() if (self.folder / DATABASE).is_file() else 0

    def keep_claim(self) -> None:
        """Say that this host still writes there. Raises RunError."""
        with self._one_at_a_time, failing_as(RunError, f"{self.address}: cannot be written"):
            self._claim.take()

    def _send(self) -> int:
        self._claim.take()
        made = _stamp(self.folder / DATABASE)  # what it gets later is for the next time
        with TemporaryDirectory(dir=self.folder.parent, prefix=".") as scratch:
            database = Path(scratch) / DATABASE
            if self._sent.get(DATABASE) != made:
                snapshot(self.folder / DATABASE, database)
            here = self._here() | {DATABASE: made}  # all that the snapshot knows of is among them
            changed = [name for name in sorted(here) if self._sent.get(name) != here[name]]
            gone = (self._known.files.keys() | self._sent.keys()) - here.keys()
            if here == self._known.files and not changed:
                return 0
            if self._known.version is None:
                self._note(Listed(uuid4().hex), everywhere=True)  # from now on what lies there is a run's
            self._remote.each(lambda name: self._put(name, here[name]), [n for n in changed if n != DATABASE])
            if database.exists():
                self._remote.put(database, DATABASE)
        self._remote.each(self._remote.remove, gone)
        self._note(Listed(uuid4().hex, here), everywhere=True)
        return len(changed)

    def _put(self, name: str, made: int) -> None:
        self._claim.keep()
        path = place(self.folder, name)
        try:
            self._remote.put(path, name)
        except FileNotFoundError:
            if path.exists():  # otherwise the run has just replaced it by something else
                raise
        self._sent[name] = made

    def _fetch(self) -> None:
        self._recall()  # maybe another process has fetched meanwhile
        for _ in range(_TRIES):
            there = self._there()
            if there.version == self._known.version:
                return
            if self._known.version != _TORN and self._here() != self._known.files:
                self._set_aside()
            self._note(Listed(_TORN))
            here = self._here()
            for name in here.keys() - there.files.keys():
                remove_file(self.folder, name)
            if not there.files:  # somebody removed the run
                rmtree(self.folder, ignore_errors=True)
            wanted = {name: made for name, made in there.files.items() if not made or here.get(name) != made}
            if wanted:
                self._told(f"fetching {len(wanted):,} files of {self.address}")
            self._remote.each(lambda name, wanted=wanted: self._get(name, wanted[name]), wanted)  # type: ignore[misc]
            self._note(Listed(there.version, self._here()))

    def _get(self, name: str, made: int) -> None:
        self._claim.keep()
        path = place(self.folder, name)
        if name == DATABASE:  # what a killed run of this host has not committed is not of this one
            for journal in self.folder.glob(f"{DATABASE}-*"):
                journal.unlink()
        try:
            self._remote.get(name, path)
        except FileNotFoundError:  # it went while this host was fetching, or somebody removed it
            if name == DATABASE:
                raise
            path.unlink(missing_ok=True)
            return
        if made:
            os.utime(path, ns=(made * 1000, made * 1000))

    def _set_aside(self) -> None:
        aside = self.folder.with_name(f"{self.folder.name}-unsent-{time.strftime('%Y%m%d-%H%M%S')}")
        self.folder.rename(aside)
        self._told(f"{self.address} was written from elsewhere since; what this host had not sent is in {aside}")

    def _there(self) -> Listed:
        found = self._remote.read(LIST)
        if found is not None:
            try:
                return _listed(found)
            except ValueError as error:
                raise RunFolderError(
                    f"{self.address}/{LIST}: is no list of files; remove it, and what lies there is taken as it is"
                ) from error
        version = self._remote.mark(DATABASE)  # a run that somebody copied there
        return Listed(version, {name: 0 for name in self._remote.find() if is_of_a_run(name)} if version else {})

    def _here(self) -> dict[str, int]:
        here = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            with suppress(FileNotFoundError):  # the run goes on
                if is_of_a_run(name) and path.is_file():
                    here[name] = _stamp(path)
        return here

    def _note(self, listed: Listed, *, everywhere: bool = False) -> None:
        data = json.dumps(asdict(listed)).encode()
        if everywhere:
            self._remote.write(LIST, data)
        write_atomically(self._state, data)
        self._known, self._sent = listed, dict(listed.files)

    @property
    def _unread(self) -> str:
        return f"{self.address}: cannot be read"

    def _refuse_nothing(self, new: bool = False) -> None:
        if not new and not (self.folder / DATABASE).is_file():
            raise RunFolderError(f"{self.address}: has no {DATABASE}; give the address of a run")


def _listed(data: bytes) -> Listed:
    """What a list says of a run's files; whatever else it names is none of ours. Raises ValueError."""
    found = _LISTED.validate_json(data, strict=True)
    return Listed(found.version, {name: made for name, made in found.files.items() if is_of_a_run(name)})


def _stamp(path: Path) -> int:
    """Microseconds: all file systems worth the name keep them."""
    return path.stat().st_mtime_ns // 1000
