"""Whether a file of a run is what was written: its size and time say so at once, its digest for certain."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from schedcmp.pictures.image import pixels_sha256
from schedcmp.store.folder import is_there, open_file
from schedcmp.store.images import read_frames

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is known of a file that was written; without `digest` what is seen of one."""

    size: int
    mtime_us: int  # all file systems worth the name keep microseconds
    digest: bytes = b""

    @classmethod
    def of(cls, found: os.stat_result, data: bytes = b"") -> Stamp:
        """
        Args:
            data: what is in the file, for the digest.
        """
        return cls(found.st_size, found.st_mtime_ns // 1000, sha256(data).digest() if data else b"")

    def resembles(self, seen: Stamp) -> bool:
        return (self.size, self.mtime_us) == (seen.size, seen.mtime_us)


class Files:
    """A run's images and latents."""

    def __init__(self, folder: Path, stamp: Callable[[str], Stamp | None]) -> None:
        """
        Args:
            stamp: what is known of a file by its name, if anything is.
        """
        self._folder, self._stamp = folder, stamp
        self.seen: dict[str, Stamp] = {}  # what is newly known of files that are what was written

    def is_known(self, name: str) -> bool:
        """Whether the run has written such a file, or one is there."""
        return self._stamp(name) is not None or is_there(self._folder, name)

    def is_intact(self, name: str, pixels: str | None = None, *, thorough: bool = False) -> bool:
        """Whether a file is what was written.

        Args:
            pixels: the SHA-256 of an image's, where an earlier schedcmp has not said more of its file.
            thorough: look into the file, also if its size and time are those that it was written with.
        """
        try:
            with open_file(self._folder, name) as file:
                known, seen = self._stamp(name), Stamp.of(os.fstat(file.fileno()))
                if known and (known.size != seen.size or (known.resembles(seen) and not thorough)):
                    return known.size == seen.size
                found = replace(seen, digest=file_digest(file, "sha256").digest())  # type: ignore[arg-type]
            intact = found.digest == known.digest if known else self._is_readable(name, pixels)
        except OSError:
            return False
        if intact and not (known and known.resembles(found)):
            self.seen[name] = found
        return intact

    def latents(self, cell_id: str) -> npt.NDArray[np.float32] | None:
        """None if there are none that can be read."""
        import numpy as np

        try:
            with open_file(self._folder, latents_name(cell_id)) as file:
                found: npt.NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError):
            return None
        return found

    def _is_readable(self, name: str, pixels: str | None) -> bool:
        """Whether a file of which no more is known has an image of such pixels, or latents. Raises OSError."""
        if name.startswith("latents/"):
            return self.latents(Path(name).stem) is not None
        return pixels_sha256(*read_frames(self._folder, name)) == pixels


def latents_name(cell_id: str) -> str:
    return f"latents/{cell_id}.npy"
