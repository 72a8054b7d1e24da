"""Names and writes that are safe: nothing leaves the run's folder, nothing is half written."""

from __future__ import annotations

import json
import math
import os
import re
from functools import lru_cache
from hashlib import blake2s
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from schedcmp.errors import RequestError

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows devices

_PNG_END = b"IEND\xaeB`\x82"


@lru_cache(10_000)
def slug(text: str, max_length: int = 64) -> str:
    """A file name for any text: letters, digits and "._+-"; a hash is added where that loses something."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:max_length]
    if plain and plain == text and not _RESERVED.fullmatch(plain) and plain == plain.lower():
        return plain
    mark = blake2s(text.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{plain[: max_length - 7]}-{mark}".strip("-").lower()


def where_it_is(name: str | None) -> str | None:
    """The whole path of what is on the disk; other names as they are."""
    path = Path(name or "").expanduser()
    return str(path.absolute()) if name and path.exists() else name


def is_address(name: str) -> bool:
    """Whether it is an address such as s3://bucket/folder; a `Path` made of it has one slash less."""
    return re.match(r"[a-z][a-z\d+.-]+:/", name) is not None


def cache_folder(name: str) -> Path:
    """A folder of our own among the user's caches, made if it is not there.

    Raises:
        RequestError: it cannot be made or written.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "schedcmp" / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        why = "no permission"
    except (OSError, RuntimeError) as error:  # the latter where nobody knows the user's home
        why = str(getattr(error, "strerror", None) or error)
    where = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    raise RequestError(
        f"{where}/schedcmp/{name}: cannot be written ({why}); set XDG_CACHE_HOME to a folder that can, as in "
        "XDG_CACHE_HOME=/tmp/cache"
    )


def to_json(value: Any) -> str:
    """JSON for anything: what JSON does not know (infinities, tensors, functions) becomes text."""
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def is_whole_png(path: Path) -> bool:
    """Whether the file is there and ends as a PNG does; a torn or emptied one does not."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


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
