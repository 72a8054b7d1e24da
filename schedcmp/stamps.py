"""Whether a file of a run is what was written: its size and time say so at once, its digest for certain."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256


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
