"""Checkpoints at fsspec addresses (s3://, gs://, az://, http://, file:// ...), and whatever else a run only reads,
fetched once per machine and version."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from filelock import FileLock

from schedcmp.checkpoint.layout import TEXTS
from schedcmp.errors import CheckpointError, RequestError
from schedcmp.files import cache_folder
from schedcmp.remote import failing_as

_CHECKPOINT = (*TEXTS, ".safetensors")


def fetch(
    address: str,
    endings: tuple[str, ...] = _CHECKPOINT,
    *,
    cache: str = "models",
    nothing: str = "no checkpoint is there; give a folder that save_pretrained() wrote.",
    error: type[RequestError] = CheckpointError,
) -> Path:
    """The folder or the file at an address, in the user's cache folder. What changes there is fetched anew.

    Args:
        endings: of the names that are wanted; nothing else is ever read.
        nothing: what is said where there are none.

    Raises:
        error: it cannot be reached, or there is nothing that is wanted.
    """
    with failing_as(error, f"{address} cannot be fetched"):
        fs, root = fsspec.url_to_fs(address)
        found = {path: _inside(path, root, error) for path in fs.find(root) if path.lower().endswith(endings)}
        if not found:
            raise error(f"{address}: {nothing}")
        version = blake2s(
            repr([(name, fs.ukey(path)) for path, name in sorted(found.items())]).encode(), digest_size=12
        )
        name = PurePosixPath(root).name
        folder = cache_folder(cache) / version.hexdigest()
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _copy(fs, found, folder, name)
    return folder / name


def _copy(fs: Any, found: Mapping[str, str], folder: Path, name: str) -> None:
    """Whole or not at all."""
    with TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "whole"
        for path, relative in found.items():
            target = whole / name / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(path, str(target))
        whole.rename(folder)


def _inside(path: str, root: str, error: type[RequestError]) -> str:
    """A file's place below the root; "" for the root itself. Raises `error` for one that leaves it."""
    relative = path.removeprefix(root).lstrip("/")
    if ".." in PurePosixPath(relative).parts:
        raise error(f"{path}: the name leaves its folder; correct that.")
    return relative
