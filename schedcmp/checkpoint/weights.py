"""Weight files: are they whole, and what identifies them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from schedcmp.checkpoint.json_files import parse_json, read_json
from schedcmp.checkpoint.layout import MODEL_INDEX, PICKLED, find_indexes, is_weights
from schedcmp.errors import CheckpointError, one_line

# A saved config's notes on where and with what it was written.
_PROVENANCE = {
    "_diffusers_version",
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "is_local",
    "local_files_only",
}

_COUNTS_LAYERS = re.compile(r"(layers?|layers_per_block|blocks|depths?|experts)$")
_NO_SIZE = re.compile(r"theta|(^|_)ids?$|token|seed")
_MOST_FREE, _FREE_LAYERS = 1_000_000, 256  # what a number may be however small the model
_LONGEST_TEXT, _INFINITE = 10_000_000, 1e20  # tokens; beyond the latter transformers fills nothing up
_ONE_PER_LAYER = re.compile(r"layer|block|depth")


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


def resolve_shards(folder: Path, weights: Sequence[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """The weight files that loading will read, and the indexes that say so: where there is an index, the libraries
    load what it names, and nothing else.

    Args:
        folder: the checkpoint.
        weights: as `layout.choose_weights` gives them.
        names: the checkpoint's files, as `layout.file_names` gives them.

    Raises:
        CheckpointError: an index is none, or names something that is not among the weights.
    """
    chosen: list[str] = []
    indexes: list[str] = []
    for component, group in groupby(weights, lambda name: name.rpartition("/")[0]):
        own = list(group)
        found = find_indexes(own, names)
        shards = {shard for index in found for shard in _shards(folder, component, index)}
        strangers = sorted(shards - {*own})
        if strangers:
            raise CheckpointError(_stranger(folder, strangers[0], found, names))
        chosen += sorted(shards) or own
        indexes += found
    return chosen, indexes


def _shards(folder: Path, component: str, index: str) -> set[str]:
    shards = read_json(folder / index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{folder / index}: `weight_map` must give each tensor's file; fetch the file again.")
    return {f"{component}/{shard}" for shard in shards.values()}


def _stranger(folder: Path, shard: str, indexes: Sequence[str], names: Collection[str]) -> str:
    named = f"though {' or '.join(indexes)} names it"
    if shard not in names and is_weights(shard):
        return f"{folder}: {shard} is missing, {named}; fetch it."
    return (
        f"{folder}: {shard!r} is none of the component's safetensors weights, {named}, and nothing else is ever loaded;"
        " fetch the checkpoint again from whoever made it."
    )


def refuse_oversized(config: Path, shapes: Collection[tuple[int, ...]]) -> None:
    """A layer has a tensor at least, and what is n wide has n numbers: a config that asks for more is not that of these
    weights, and building its model could take all memory before anybody saw that.

    Args:
        config: a model's config.json.
        shapes: of its weights' tensors, as `tensor_shapes` gives them.

    Raises:
        CheckpointError: a number of layers, or a list with an item for each, is larger than that of tensors; or another
            number larger than that of all weights.
    """
    tensors, weights = max(len(shapes), _FREE_LAYERS), max(sum(map(prod, shapes)), _MOST_FREE)
    for key, value, counts_layers in _sizes(read_json(config)):
        most, of = (tensors, "tensors") if counts_layers else (weights, "numbers")
        if value > most:
            raise CheckpointError(
                f"{config}: `{key}` is larger than the {most:,} {of} of the weights; fetch them again."
            )


def refuse_endless(tokenizer: Path) -> None:
    """Texts are filled up to what a tokenizer says is their length, unless that is as good as infinite.

    Raises:
        CheckpointError: it is beyond all memory and not infinite.
    """
    length = read_json(tokenizer).get("model_max_length") if tokenizer.is_file() else None
    if isinstance(length, int | float) and _LONGEST_TEXT < length <= _INFINITE:
        raise CheckpointError(
            f"{tokenizer}: `model_max_length` is {length:,}, and no text encoder reads over {_LONGEST_TEXT:,} tokens; "
            "fetch it again."
        )


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int, bool]]:
    """The whole numbers of a config and its parts, each with its key and whether it counts layers."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value)
        elif isinstance(value, list) and _ONE_PER_LAYER.search(key):
            yield key, len(value), True
        if not _NO_SIZE.search(key):
            yield from ((key, number, _COUNTS_LAYERS.search(key) is not None) for number in _flat(value))


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, int):
        yield value


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
        if _is_in_hub_cache(target) and re.fullmatch(r"[0-9a-f]{64}", target.name):
            return target.name
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); restore the file.") from error


def _is_in_hub_cache(path: Path) -> bool:
    """Anybody else's folder may be called so, and its files as they like."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return path.parent.name == "blobs" and path.is_relative_to(Path(HF_HUB_CACHE).resolve())


def _canonical(path: Path) -> bytes:
    value = parse_json(path)
    if isinstance(value, dict):
        left_out = _PROVENANCE | ({"scheduler"} if path.name == MODEL_INDEX else set())
        value = {key: item for key, item in value.items() if key not in left_out}
    return json.dumps(value, sort_keys=True).encode()


def gguf_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a GGUF file, as llama.cpp and ComfyUI keep quantised models, in
    torch's order of dimensions.

    Raises:
        CheckpointError: the package is missing, or the file is truncated, corrupt or something else.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(f'{path} needs the package gguf, which is not installed: pip install "schedcmp[gguf]"')
    from gguf import GGUFReader

    try:
        return {t.name: tuple(int(n) for n in reversed(t.shape)) for t in GGUFReader(path).tensors}
    except Exception as error:  # it checks little, and numpy raises what it likes
        raise CheckpointError(f"{path} is truncated or no GGUF file ({one_line(error)}); fetch it again.") from error
