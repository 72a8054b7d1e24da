"""LoRAs: found, checked and known by content, without loading one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schedcmp.checkpoint.layout import BUILTIN, PICKLED, UNSAFE, builtin
from schedcmp.checkpoint.weights import ContentFile, content_file, fingerprint, tensor_shapes
from schedcmp.errors import CheckpointError, shown
from schedcmp.files import is_address, user_path

WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers' save_lora_weights calls it
_ENDING = ".safetensors"
_WANTED = f"give a {_ENDING} file, a folder that has one, an address of either, or a hub id (owner/name)"
# In the names of tensors: of what diffusers loads as a LoRA, and of what it would leave out or not understand
_KNOWN = ("lora", "lokr_")
_UNKNOWN = {
    "dora_scale": "a DoRA with magnitudes in a layout that diffusers leaves out",
    "hada_w1": "a LoHa of LyCORIS, which diffusers does not load",
    "oft_blocks": "an OFT of LyCORIS, which diffusers does not load",
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA's file."""

    place: str  # as the sweep names it
    name: str  # of its file in the folder or repository; empty where the place is the file
    file: ContentFile
    digest: str  # of its content


def find_adapter(
    place: str, file: str | None = None, revision: str | None = None, *, progress: bool = False
) -> Adapter:
    """Find a LoRA, fetch it if it is on the hub or at an address, and read its header.

    Args:
        place: "builtin:tiny-lcm", a file, a folder, an address of either, or a hub id.
        file: which one of a folder or repository that has several.
        revision: of a hub id: a branch, tag or commit.
        progress: show the bars of a download.

    Raises:
        CheckpointError: it is not there, not readable, not safe, or no LoRA.
    """
    try:
        path = _path(place, file, revision, progress)
        _refuse_others(path)
        found = content_file(WEIGHTS, path)
    except OSError as error:
        raise CheckpointError(f"{error.filename or place} cannot be read ({error.strerror}); correct that.") from error
    name = "" if _is_file(place) else path.name
    return Adapter(place, name, found, fingerprint((found,))[:16])


def _path(place: str, file: str | None, revision: str | None, progress: bool) -> Path:
    is_hub_id = place.count("/") == 1 and not (place.startswith((".", "~", "/")) or user_path(place).exists())
    if revision is not None and not is_hub_id:
        raise CheckpointError(f"`revision` is for a hub id; {place} is none, so leave it out.")
    if place.startswith(BUILTIN):
        return builtin(place, WEIGHTS, "is no LoRA of this installation") / WEIGHTS
    if is_address(place):
        from schedcmp.checkpoint.remote import fetch

        path = fetch(place, (_ENDING,), cache="loras", nothing=f"no LoRA is there; {_WANTED}.")
    else:
        path = user_path(place)
    if path.is_file():
        if file is not None:
            raise CheckpointError(f"`file` is for a folder or hub id; {place} is a file, so leave it out.")
        return path
    if path.is_dir():
        return path / chosen([p.name for p in path.iterdir()], file, str(path))
    if not is_hub_id or place.endswith((_ENDING, *PICKLED)):
        raise CheckpointError(f"{place}: no such file or folder; {_WANTED}.")
    from schedcmp.checkpoint import hub

    meant = partial(chosen, file=file, where=place)
    folder = hub.fetch_adapter(place, meant, revision, progress=progress)
    return folder / meant([p.name for p in folder.iterdir()])


def _is_file(place: str) -> bool:
    """Whether a place that has a LoRA is its file."""
    return place.endswith(_ENDING) and not place.startswith(BUILTIN)


def chosen(names: Collection[str], file: str | None, where: str) -> str:
    """The one of a folder's files that is meant.

    Raises:
        CheckpointError: there is none, or there are several and nothing says which.
    """
    found = sorted(name for name in names if name.endswith(_ENDING) and "/" not in name)
    if file is not None:
        if file in found:
            return file
        raise CheckpointError(f"{where} has no {shown(file)} of its own; it has {_listed(found)}.")
    if WEIGHTS in found:
        return WEIGHTS
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"{where} has several files; say which by `file`: {_listed(found)}.")
    pickled = next((name for name in sorted(names) if name.endswith(PICKLED)), None)
    why = f"{pickled} {UNSAFE.partition('. ')[0]}" if pickled else f"no {_ENDING} file is there"
    raise CheckpointError(f"{where} holds no LoRA: {why}; {_WANTED}.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more if names else f"no {_ENDING} file"


def _refuse_others(path: Path) -> None:
    if path.suffix in PICKLED:
        raise CheckpointError(f"{path} {UNSAFE} give it as a {_ENDING} file.")
    tensors = tensor_shapes(path)
    for mark, why in _UNKNOWN.items():
        if any(mark in name for name in tensors):
            raise CheckpointError(f"{path} is {why}; use a plain LoRA.")
    if not any(mark in name for name in tensors for mark in _KNOWN):
        example = shown(next(iter(tensors), "no tensors"), 60)
        raise CheckpointError(f"{path} holds no LoRA (but {example}); a whole checkpoint belongs under `model`.")
