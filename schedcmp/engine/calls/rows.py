"""Which arguments and answers have a part for each row of a batch, told by name and shape."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

# A timestep may be one number for all rows; packed, every row has its own.
_TIMESTEPS = ("timestep", "timesteps")


# Positions of tokens, the same for every row: without a batch dimension even if their length is the batch's size
_SHARED = ("txt_ids", "img_ids", "freqs_cis", "rotary", "rope")


# Answers of all layers of a text encoder, (layers, rows, ...)
_ROWS_SECOND = ("llama3",)


# What a video's denoiser is given for each of its frames, as AnimateDiff's
_PER_FRAME = ("encoder_hidden_states",)


# A ControlNet's answers, one for each of the denoiser's blocks, and what each IP-Adapter sees: not one for each row,
# even if there are as many of these
_BY_BLOCK = ("residual", "block_samples", "image_embeds")


def is_timestep(name: str, value: Any, rows: int) -> bool:
    if name not in _TIMESTEPS:
        return False
    return value.shape in ((), (rows,)) if isinstance(value, torch.Tensor) else isinstance(value, int | float)


def is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


@cache  # there are few names, and every call of a model asks for all of its own
def is_shared(name: str) -> bool:
    return any(word in str(name) for word in _SHARED)


@cache
def is_by_block(name: str) -> bool:
    return any(word in str(name) for word in _BY_BLOCK)


def items_per_row(name: str, value: torch.Tensor, rows: int) -> int:
    """How many a row has, one after the other: one, or one for each frame; 0 of what all rows share."""
    at = row_dimension(name)
    if is_shared(name) or value.ndim <= at:
        return 0
    items, left = divmod(value.shape[at], rows)
    return items if not left and (items == 1 or name in _PER_FRAME) else 0


@cache
def row_dimension(name: str) -> int:
    return int(any(word in str(name) for word in _ROWS_SECOND))


def is_row_list(name: str, value: Any, rows: int) -> bool:
    """Whether it is certainly a list with a tensor for each row, as Z-Image's: none of them could have all rows."""
    if not isinstance(value, list) or len(value) != rows or is_shared(name):
        return False
    return all(isinstance(item, torch.Tensor) and item.ndim and item.shape[0] != rows for item in value)
