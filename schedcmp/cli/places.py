"""Where runs are: folders, or fsspec addresses with a folder of this host for each."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape

from schedcmp.cli.console import err, note, say, warn, warn_of
from schedcmp.errors import RequestError, RunError
from schedcmp.files import is_address
from schedcmp.guard.texts import visible
from schedcmp.report.numbers import counted
from schedcmp.store.folder import DATABASE

if TYPE_CHECKING:
    from schedcmp.addresses.following import Following
    from schedcmp.addresses.mirror import Mirror
    from schedcmp.store.several import Shown

_SHOWN = 5


class Place(NamedTuple):
    """Where a run is on the disk, and what its user calls that."""

    folder: Path
    name: str
    following: Following | None = None

    def between_cells(self, *, timed: bool) -> None:
        """A run at an address may be sent now; see `Following`."""
        if self.following:
            self.following.between_cells(timed=timed)


@contextmanager
def place(name: str, *, new: bool = True) -> Iterator[Place]:
    """A run's place, to be written; at an address it is what was there, and what it has become is sent in the end.

    Args:
        new: whether it may be a place without a run.

    Raises:
        RequestError: nobody can write there, or what was done there was refused; then nothing is sent.
        RunError: it could not be sent.
    """
    if not is_address(name):
        yield Place(Path(name), str(Path(name)))
        return
    from schedcmp.addresses.following import Following
    from schedcmp.addresses.mirror import Mirror

    mirror = Mirror(name, note)
    with mirror.writing(new=new):
        try:
            with _told_to_stop(), Following(mirror, warn) as following:
                yield Place(mirror.folder, mirror.address, following)
        except RequestError as error:
            raise type(error)(str(error).replace(str(mirror.folder), mirror.address)) from error
        except BaseException:
            try:
                _send(mirror)
            except RunError as error:
                warn(str(error))
            raise
        _send(mirror)


@contextmanager
def reading(name: str, *, images: bool = True) -> Iterator[Path]:
    """The folder of a run; of one at an address a copy, of its database alone where the images are not needed.

    Raises:
        RequestError: no run there, or none that can be reached.
    """
    if not is_address(name):
        yield Path(name)
        return
    from schedcmp.addresses.mirror import Mirror

    mirror = Mirror(name, note)
    if images:
        mirror.fetch()
        yield mirror.folder
    else:
        with TemporaryDirectory() as scratch:
            yield mirror.fetch_database(Path(scratch))


def look(name: str) -> tuple[Path, bool]:
    """A run's folder on this host, and whether there is a run already. Writes nothing. Raises RequestError."""
    if not is_address(name):
        return Path(name), Path(name).exists()
    from schedcmp.addresses.mirror import Mirror

    mirror = Mirror(name)
    return mirror.folder, mirror.exists()


def tell_unreadable(store: Shown, name: str) -> None:
    """Say what of a run's database could not be read so far."""
    texts = [
        f"{name}/{DATABASE}: {what} cannot be read ({why}) and counts as not there; a run makes it again"
        for what, why in store.unreadable.items()
    ]
    warn_of(texts, _SHOWN, f"; `schedcmp check {name}` names them all")


def _send(mirror: Mirror) -> None:
    try:
        with err.status(escape(visible(f"sending to {mirror.address}"))):
            count = mirror.send()
    except (RunError, RequestError) as error:
        raise RunError(f"{error}. All of it is in {mirror.folder}; repeat the command, and it is sent") from error
    if count:
        say(f"sent     {counted(count, 'file')} to {mirror.address}")


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """SIGTERM, which hosts that are taken away and schedulers of jobs send first, is an interrupt: a run ends well."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
