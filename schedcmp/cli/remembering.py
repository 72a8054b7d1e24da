"""Answers that depend on the installed code alone, kept in the user's cache folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from schedcmp.errors import RequestError
from schedcmp.files import cache_folder, from_json, to_json, write_atomically

T = TypeVar("T")

_CODE = ("schedcmp", "diffusers")  # whose files may change while their versions stay
_SUFFIXES = (".py", ".yaml")
_PACKAGES = ("torch", "numpy", "scipy", "torchsde")
_MOST_KEPT = 16


def remembered(question: Any, find: Callable[[], T], read: Callable[[Any], T]) -> T:
    """What `find` finds, or found when it was asked the same of the same code.

    Without a cache folder it is asked again.

    Args:
        question: anything that JSON holds, and all that the answer depends on.
        find: its answer is kept as JSON.
        read: from that JSON to the answer; what it raises LookupError, TypeError or ValueError for is forgotten.
    """
    try:
        folder = cache_folder("answers")
    except RequestError:
        return find()
    path = folder / f"{blake2b(_told([question, *_code()]), digest_size=16).hexdigest()}.json"
    with suppress(OSError, LookupError, TypeError, ValueError):
        return read(from_json(path.read_bytes()))
    found = find()
    with suppress(OSError):
        write_atomically(path, _told(found))
        _forget_oldest(folder)
    return found


def _told(value: Any) -> bytes:
    return to_json(value).encode()


def _code() -> Iterator[Any]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None
    for name in _CODE:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            files = ((path, path.stat()) for path in sorted(Path(folder).rglob("*")) if path.suffix in _SUFFIXES)
            yield [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files]


def _forget_oldest(folder: Path) -> None:
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_MOST_KEPT]:
        path.unlink(missing_ok=True)
