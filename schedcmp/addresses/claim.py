"""Who writes at an address: a file there that names the host, and is written again and again while it does.

Object stores have no locks: this guards against a second run that is begun later. Of two in the same second the first
is told within a minute, and sends no more.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from schedcmp.addresses.remote import Remote
from schedcmp.errors import RunFolderError

WRITER = ".run.writer.json"
STALE_S = 180.0  # a writer that was not heard of for so long is dead
_HEARD_S = 30.0  # how often one is heard of while it transfers files


@dataclass(frozen=True, slots=True)
class _Claimed:
    host: str
    folder: str
    time: float = field(default=0.0, compare=False)  # s, since 1970


_CLAIMED = TypeAdapter(_Claimed)


class Claim:
    """This process's word that it writes at an address. Whatever fails raises an error of the file system's own."""

    def __init__(self, remote: Remote, address: str, folder: Path) -> None:
        """
        Args:
            folder: of this host, which no other process uses.
        """
        self._remote, self._address = remote, address
        self._me = _Claimed(platform.node(), str(folder))
        self._said = float("inf")  # when; inf: never, and it is not to be kept up

    def take(self) -> None:
        """Raises RunFolderError while another writes there."""
        other = self._found()
        age = time.time() - other.time if other else math.inf
        if other and other != self._me and abs(age) < STALE_S:
            raise RunFolderError(
                f"{self._address}: {other.host} is writing there, heard of {age:.0f} s ago; wait for it to end, or "
                f"choose another with -o. One that was killed is forgotten after {STALE_S:.0f} s"
            )
        said = asdict(self._me) | {"process": os.getpid(), "time": time.time()}
        self._remote.write(WRITER, json.dumps(said).encode())
        self._said = time.monotonic()

    def keep(self) -> None:
        """Take it again if that was done long ago, and if it was done at all."""
        if time.monotonic() - self._said > _HEARD_S:
            self.take()

    def release(self) -> None:
        with suppress(Exception):  # then it goes stale
            if self._found() == self._me:
                self._remote.remove(WRITER)

    def _found(self) -> _Claimed | None:
        """Who writes there. Raises RunFolderError if nobody can tell."""
        data = self._remote.read(WRITER)
        try:
            return _CLAIMED.validate_json(data) if data else None
        except ValueError as error:
            raise RunFolderError(
                f"{self._address}/{WRITER}: should say who writes there, and cannot be read; if nobody does, remove it"
            ) from error
