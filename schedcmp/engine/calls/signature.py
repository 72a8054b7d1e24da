"""What must be equal for calls to fit one batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, MutableMapping
from hashlib import blake2b
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from schedcmp.engine.calls.rows import is_by_block, is_row_list, is_shared, is_timestep, items_per_row, row_dimension
from schedcmp.guard.private import changes_of


class Alone:
    """Equal to nothing: no other call fits a batch with this one."""


def signature_of(name: str, value: Any, rows: int) -> Hashable:
    """Of an argument of a call for so many rows: equal for two that fit one batch."""
    if value is None or type(value) is bool:
        return value
    if is_timestep(name, value, rows):
        return "a timestep for each row"
    if isinstance(value, torch.Tensor):
        items, at = items_per_row(name, value, rows), row_dimension(name)
        own = (value.shape[:at], value.shape[at + 1 :])
        return (value.dtype, value.device, own if items else _content(value), items)
    if isinstance(value, Mapping):
        return tuple((k, signature_of(k, v, rows)) for k, v in value.items())
    if isinstance(value, tuple | list):
        if is_row_list(name, value, rows):
            return frozenset((item.dtype, item.device, item.shape) for item in value)  # an item for each row
        if len(value) == rows and not is_shared(name) and not is_by_block(name) and _holds_tensors(value):
            return Alone()  # it may have one
        return tuple(signature_of(name, v, rows) for v in value)
    return value if isinstance(value, Hashable) else Alone()  # what cannot be compared is not known to be equal


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensors, value)))


def bits(value: torch.Tensor) -> bytes:
    """Its content, wherever it is and however it lies there."""
    near = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return near.flatten().view(torch.uint8).numpy().tobytes()


def content_of(value: Any) -> Hashable:
    """Equal for arguments that are equal by content. Raises TypeError for what may change, such as a cache of keys and
    values."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.dtype, blake2b(bits(value), digest_size=16).digest())
    if isinstance(value, Mapping):
        return tuple((name, content_of(part)) for name, part in value.items())
    if isinstance(value, tuple | list):
        return tuple(map(content_of, value))
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(f"not comparable by content: {type(value).__name__}")


_contents: MutableMapping[torch.Tensor, tuple[int, Hashable]] = WeakIdKeyDictionary()


def _content(value: torch.Tensor) -> Hashable:
    """Shape and bytes. Reading them waits for the device, so they are remembered while the tensor is unchanged."""
    version = changes_of(value)
    known = _contents.get(value)
    if known is None or known[0] != version:
        known = _contents[value] = (version, (value.shape, bits(value)))
    return known[1]
