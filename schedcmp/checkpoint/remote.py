"""Checkpoints at fsspec addresses (s3://, gs://, az://, http://, file:// ...), and whatever else a run only reads,
fetched once per machine and version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from filelock import FileLock

from schedcmp.addresses.remote import Remote, failing_as
from schedcmp.checkpoint.layout import TEXTS
from schedcmp.errors import CheckpointError, RequestError
from schedcmp.files import cache_folder

_HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)/?(?:(?:tree|blob)/.*)?")
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
    if page := _HUB_PAGE.fullmatch(address):
        raise error(f"{address} is a page of the hub; give the hub id, {page[1]}.")
    with failing_as(error, f"{address} cannot be fetched"):
        remote = Remote(address)
        found = [name for name in sorted(remote.find()) if (name or remote.name).lower().endswith(endings)]
        if not found:
            raise error(f"{address}: {nothing}")
        for name in found:
            if ".." in PurePosixPath(name).parts:
                raise error(f"{address}/{name}: the name leaves its folder; correct that.")
        version = blake2s(repr([(name, remote.mark(name)) for name in found]).encode(), digest_size=12)
        folder = cache_folder(cache) / version.hexdigest()
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _copy(remote, found, folder)
    return folder / remote.name


def _copy(remote: Remote, names: Sequence[str], folder: Path) -> None:
    """Whole or not at all."""
    with TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "whole"
        remote.each(lambda name: remote.get(name, whole / remote.name / name), names)
        whole.rename(folder)
