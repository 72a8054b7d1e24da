"""Weight files: are they whole, and what identifies them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from schedcmp.checkpoint.layout import MODEL_INDEX, PICKLED, read_json
from schedcmp.errors import CheckpointError

# A saved config's notes on where and with what it was written.
_PROVENANCE = {
    "_diffusers_version",
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "is_local",
    "local_files_only",
}


class ContentFile(NamedTuple):
    """A file that counts for the fingerprint. Size and time tell a rewritten file from the one inspected."""

    name: str  # within the checkpoint: "unet/config.json"
    path: Path
    size: int
    mtime_ns: int


def content_file(name: str, path: Path) -> ContentFile:
    stat = path.stat()
    return ContentFile(name, path, stat.st_size, stat.st_mtime_ns)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors, from its header alone.

    The reader compares the header with the file's size, so that a truncated file is found here.

    Raises:
        CheckpointError: the file is truncated, corrupt or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder."
    if path.suffix in PICKLED:
        return f"{path} is pickled; convert it to the safetensors format."
    return f"{path} is truncated or no safetensors file ({error}); fetch it again."


def check_shards(folder: Path, weights: Iterable[str]) -> None:
    """Raises:
    CheckpointError: an index names a shard that is not there.
    """
    present = set(weights)
    for component in sorted({name.rpartition("/")[0] for name in present}):
        for index in sorted((folder / component).glob("*.safetensors.index*.json")):
            shards = {f"{component}/{shard}" for shard in read_json(index).get("weight_map", {}).values()}
            missing = sorted(shards - present)
            if missing and shards & present:
                raise CheckpointError(f"{folder}: {missing[0]} is missing, though {index.name} names it; fetch it.")


@lru_cache(maxsize=8)
def fingerprint(content: tuple[ContentFile, ...]) -> str:
    """Hex digest of the files' names and contents; where they lie makes no difference.

    Raises:
        CheckpointError: a file vanished or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(content):
        digest.update(json.dumps([file.name, _file_digest(file.path)]).encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    target = path.resolve()
    try:
        if path.suffix == ".json":
            return hashlib.sha256(_canonical(path)).hexdigest()
        # The hub's cache names a large file's blob by the SHA-256 of its content.
        if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
            return target.name
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); restore the file.") from error


def _canonical(path: Path) -> bytes:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); fetch it again.") from error
    if isinstance(value, dict):
        left_out = _PROVENANCE | ({"scheduler"} if path.name == MODEL_INDEX else set())
        value = {key: item for key, item in value.items() if key not in left_out}
    return json.dumps(value, sort_keys=True).encode()
