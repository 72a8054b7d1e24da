"""Names and writes that are safe: nothing leaves the run's folder, nothing is half written."""

from __future__ import annotations

import os
import re
from hashlib import blake2s
from pathlib import Path
from tempfile import NamedTemporaryFile

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows devices


def slug(text: str, max_length: int = 64) -> str:
    """A file name for any text: letters, digits and "._+-"; a hash is added where that loses something."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:max_length]
    if plain and plain == text and not _RESERVED.fullmatch(plain) and plain == plain.lower():
        return plain
    mark = blake2s(text.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{plain[: max_length - 7]}-{mark}".strip("-").lower()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: beside its place, flushed to the disk, then moved there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
