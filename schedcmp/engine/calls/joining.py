"""One call for the rows of several, and a call for some rows of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.rows import is_row_list, is_timestep, items_per_row, row_dimension
from schedcmp.engine.hosted import sent


def join(calls: Sequence[Call], *, float_timesteps: bool = False) -> dict[str, Any]:
    """The arguments of one call for all rows of `calls`, which have equal signatures, on the device of their first
    tensor. One call stays as it is.

    Args:
        float_timesteps: one for each row in any case, and never whole numbers, of which some schedulers make them: a
            compiled model is another program for each shape and dtype.
    """
    rows, first = [call.rows for call in calls], calls[0]
    joined = dict(first.arguments)
    if len(calls) > 1:
        joined = {name: _join(name, [c.arguments[name] for c in calls], rows) for name in joined}
        if order := [row for part in by_part(calls) for row in part] if first.parts > 1 else []:
            joined = {name: _some_rows(name, value, sum(rows), order) for name, value in joined.items()}
    if float_timesteps:
        joined = {k: _floats(v, sum(rows)) if is_timestep(k, v, sum(rows)) else v for k, v in joined.items()}
    if first.first is None or first.first.device.type == "cpu":
        return joined
    device = first.first.device
    return {name: sent(value, device) if isinstance(value, torch.Tensor) else value for name, value in joined.items()}


def take_rows(call: Call, start: int, step: int) -> Call:
    """The call for every `step`-th row of `call`, from row `start` on."""
    rows = slice(start, None, step)
    some = {name: _some_rows(name, value, call.rows, rows) for name, value in call.arguments.items()}
    return Call(call.target, some, processors=call.processors)


def per_cell(call: Call) -> list[Call]:
    """One call for each of the cells of `call`."""
    return [take_rows(call, i, call.cells) for i in range(call.cells)] if call.cells > 1 else [call]


def by_part(calls: Sequence[Call]) -> Iterator[list[int]]:
    """The rows of `calls`, which stand one after the other: those of each call's first part, call by call, then of the
    second ones."""
    starts = [*accumulate((call.rows for call in calls), initial=0)]
    for part in range(calls[0].parts):
        for call, start in zip(calls, starts, strict=False):
            yield [*range(start + part * call.cells, start + (part + 1) * call.cells)]


def _join(name: str, values: Sequence[Any], rows: Sequence[int]) -> Any:
    first = values[0]
    if is_timestep(name, first, rows[0]):
        return _timesteps(values, rows)
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values), row_dimension(name)) if items_per_row(name, first, rows[0]) else first
    if isinstance(first, Mapping):
        return {k: _join(k, [v[k] for v in values], rows) for k in first}
    if is_row_list(name, first, rows[0]):
        return [item for value in values for item in value]
    if isinstance(first, tuple | list):
        return type(first)(_join(name, [v[i] for v in values], rows) for i in range(len(first)))
    return first


def _some_rows(name: str, value: Any, had: int, rows: slice | list[int]) -> Any:
    if isinstance(value, torch.Tensor):
        at, items = row_dimension(name), items_per_row(name, value, had)
        if not items:
            return value
        shape = (*value.shape[:at], had, items, *value.shape[at + 1 :])
        by_row = value.reshape(shape)[*(slice(None),) * at, rows]
        return by_row.flatten(at, at + 1)
    if is_row_list(name, value, had):
        return value[rows] if isinstance(rows, slice) else [value[row] for row in rows]
    if isinstance(value, Mapping):
        return {k: _some_rows(k, v, had, rows) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_some_rows(name, v, had, rows) for v in value)
    return value


def _timesteps(values: Sequence[Any], rows: Sequence[int]) -> torch.Tensor:
    """One timestep per row; whole and fractional ones together become float32, as models cast them anyway."""
    tensors = [torch.as_tensor(value).reshape(-1) for value in values]
    if len({t.dtype for t in tensors}) > 1:
        tensors = [t.float() for t in tensors]
    device = next((t.device for t in tensors if t.device.type != "cpu"), tensors[0].device)
    tensors = [sent(t, device) for t in tensors]
    return torch.cat([t.expand(n) for t, n in zip(tensors, rows, strict=True)])


def _floats(timesteps: Any, rows: int) -> torch.Tensor:
    found = _timesteps([timesteps], [rows])
    return found if found.is_floating_point() else found.float()
