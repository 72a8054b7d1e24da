"""Checkpoints at fsspec addresses (s3://, gs://, az://, http://, file:// ...), fetched once per machine and version."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from filelock import FileLock

from schedcmp.checkpoint.layout import TEXTS
from schedcmp.errors import CheckpointError
from schedcmp.files import cache_folder

_WANTED = (*TEXTS, ".safetensors")  # of what lies there, nothing else is ever read


def fetch(address: str) -> Path:
    """The folder or the file at an address, whole, in the user's cache folder. What changes there is fetched anew.

    Raises:
        CheckpointError: it cannot be reached, or there is nothing that a checkpoint is made of.
    """
    try:
        fs, root = fsspec.url_to_fs(address)
        found = {path: _inside(path, root) for path in fs.find(root) if path.endswith(_WANTED)}
        version = blake2s(
            repr([(name, fs.ukey(path)) for path, name in sorted(found.items())]).encode(), digest_size=12
        )
        if not found:
            raise CheckpointError(f"{address}: no checkpoint is there; give a folder that save_pretrained() wrote.")
        name = PurePosixPath(root).name
        folder = cache_folder("models") / version.hexdigest()
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _copy(fs, found, folder, name)
    except CheckpointError:
        raise
    except Exception as error:  # each file system has errors of its own; a missing one says which package it needs
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{address} cannot be fetched: {reason}") from error
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


def _inside(path: str, root: str) -> str:
    """A file's place below the root; "" for the root itself. Raises CheckpointError for one that leaves it."""
    relative = path.removeprefix(root).lstrip("/")
    if ".." in PurePosixPath(relative).parts:
        raise CheckpointError(f"{path}: the name leaves its folder; correct that.")
    return relative
