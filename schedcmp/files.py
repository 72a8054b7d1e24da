"""Names and writes that are safe: nothing leaves the run's folder, nothing is half written."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from functools import lru_cache
from hashlib import blake2s
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

from schedcmp.errors import RequestError

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows devices

UNFINISHED = re.compile(r"\.schedcmp-[a-z0-9_]+\.part")  # as write_atomically names what it has not finished


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
    path = user_path(name or "")
    return str(path.absolute()) if name and path.exists() else name


def adapter_name(place: str, file: str | None = None) -> str:
    """What a LoRA is called: by its file, or by its folder where that is called as diffusers calls all."""
    path = PurePosixPath(place.rpartition(":")[2].replace("\\", "/"), file or "")
    stem = path.name.removesuffix(".safetensors")
    return path.parent.name or stem if stem == "pytorch_lora_weights" else stem


def user_path(name: str) -> Path:
    """A path as its user wrote it, "~" resolved; a user of that name whom nobody knows is left as he stands."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def read_input(path: Path, most: int) -> bytes:
    """The bytes of a file that was given to us. Pipes and devices, which may have no end, are none.

    Args:
        most: bytes that such a file can have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is over {most:,} bytes", str(path))
    return data


def open_regular(path: Path, flags: int = 0) -> BinaryIO:
    """A file to be read, if it is one: opening a pipe would wait for its other end. Raises OSError."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(number, "rb")  # noqa: PTH123  a descriptor, for the caller to close


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


def from_json(text: str | bytes) -> Any:
    """What a JSON text from anywhere holds. Raises ValueError for what is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except (RecursionError, TypeError) as error:  # the latter for what is not even text
        raise ValueError(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: beside its place, flushed to the disk, then moved there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".schedcmp-", suffix=".part", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
