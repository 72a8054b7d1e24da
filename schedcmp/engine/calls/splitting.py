"""An answer for several calls, cut into theirs; and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.joining import by_part
from schedcmp.engine.calls.rows import is_array, is_row_list
from schedcmp.guard.private import tree_map


class NoRowsError(ValueError):
    """An answer for several calls is not made of rows, so that nobody can say which part is whose."""


def interleave(answers: Sequence[Any], rows: int) -> Any:
    """The answer to a call, from the answers to those `per_cell`, which have so many rows each."""
    if len(answers) == 1:
        return answers[0]

    def interleaved(*parts: Any) -> Any:
        if is_row_list("", parts[0], rows):
            return [item for row in zip(*parts, strict=True) for item in row]
        return torch.stack(parts, 1).flatten(0, 1) if is_array(parts[0]) else parts[0]

    return tree_map(interleaved, *answers, is_leaf=lambda part: is_row_list("", part, rows))


def rows_of_first(answer: Any, cells: int, rows: int) -> Any:
    """What an answer to so many cells, and rows in all, says to the first."""

    def part_of_it(part: Any) -> Any:
        return part[::cells] if is_array(part) or isinstance(part, list) else part

    return tree_map(part_of_it, answer, is_leaf=lambda part: is_row_list("", part, rows))


def split(answer: Any, rows: Sequence[int], *, by_block: bool = False) -> list[Any]:
    """A model's answer (tensors, tuples or an output object) cut into one answer per call. One call's stays as it is.

    Args:
        by_block: lists in it have an item for each block of another model, even if there are as many as rows.

    Raises:
        NoRowsError: the calls must be answered one by one.
    """
    return [answer] if len(rows) == 1 else _split(answer, list(rows), by_block)


def answers_of(answer: Any, calls: Sequence[Call], *, by_block: bool = False) -> list[Any]:
    """A model's answer to `join(calls)`, one for each call. Raises NoRowsError, as `split` does."""
    if calls[0].parts == 1 or len(calls) == 1:
        return split(answer, [call.rows for call in calls], by_block=by_block)
    pieces = split(answer, [len(part) for part in by_part(calls)], by_block=by_block)

    def whole(*parts: Any) -> Any:
        return torch.cat(parts) if is_array(parts[0]) else parts[0]

    return [tree_map(whole, *pieces[i :: len(calls)], is_leaf=is_array) for i in range(len(calls))]


def _split(answer: Any, rows: list[int], by_block: bool) -> list[Any]:
    if answer is None:
        return [None] * len(rows)
    if isinstance(answer, torch.Tensor) and answer.ndim and answer.shape[0] == sum(rows):
        return list(torch.split(answer, rows))
    if isinstance(answer, Mapping):  # diffusers' output objects are mappings with a class of their own
        parts = {name: _split(value, rows, by_block) for name, value in answer.items()}
        return [type(answer)(**{name: part[i] for name, part in parts.items()}) for i in range(len(rows))]
    if isinstance(answer, list) and is_row_list("", answer, sum(rows)):
        starts = [sum(rows[:i]) for i in range(len(rows))]
        return [answer[start : start + n] for start, n in zip(starts, rows, strict=True)]
    # A list as long as there are rows may have an item for each of them; a tuple is how a model returns several things
    if isinstance(answer, tuple) or (isinstance(answer, list) and (by_block or len(answer) != sum(rows))):
        columns = [_split(value, rows, by_block) for value in answer]
        return [type(answer)(column[i] for column in columns) for i in range(len(rows))]
    raise NoRowsError(f"an answer without {sum(rows)} rows cannot be split: {getattr(answer, 'shape', type(answer))}")


def nearly_equal(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for the order in which a batch adds up: on average, not in each element."""
    if isinstance(one, torch.Tensor):
        tolerance = 1e-3 if one.dtype is torch.float32 else 2e-2
        a, b = one.float().nan_to_num(), other.float().nan_to_num()
        return bool((a - b).abs().mean() <= tolerance * a.abs().mean())
    if isinstance(one, Mapping):
        return all(nearly_equal(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list):
        return all(map(nearly_equal, one, other))
    return True
