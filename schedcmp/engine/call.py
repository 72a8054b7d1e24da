"""Calls of a model that wait to be answered together: which fit one batch, joining them, splitting the answer.

A batch does not care which scheduler asks: its rows may stand at different timesteps of different noise schedules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from schedcmp.engine.hosted import sent
from schedcmp.engine.processors import Processors

# A timestep may be one number for all rows; packed, every row has its own.
_TIMESTEPS = ("timestep", "timesteps")
# Positions of tokens, the same for every row: without a batch dimension even if their length is the batch's size
_SHARED = ("txt_ids", "img_ids", "freqs_cis", "rotary", "rope")
# Answers of all layers of a text encoder, (layers, rows, ...)
_ROWS_SECOND = ("llama3",)
# A ControlNet's answers, one for each of the denoiser's blocks, even if there are as many of these as rows
_BY_BLOCK = ("residual", "block_samples")


_PROCESSORS, _OWN = "attention processors", Processors()


class NoRowsError(ValueError):
    """An answer for several calls is not made of rows, so that nobody can say which part is whose."""


@dataclass(frozen=True)
class Call:
    """A call of a model's method, by argument name. Its rows are the first dimension of its first tensor."""

    target: str  # which method of which model: "unet", "vae.decode"
    arguments: Mapping[str, Any]
    cells: int = 1  # whose rows take turns: a, b, c, and with guidance a, b, c once more
    processors: Processors = _OWN  # of attention, without which the model is another

    @cached_property
    def first(self) -> torch.Tensor | None:
        """Its first argument that is a tensor with dimensions."""
        return next((v for v in self.arguments.values() if isinstance(v, torch.Tensor) and v.ndim), None)

    @cached_property
    def rows(self) -> int:
        """How many samples it is for; 1 for a call without a tensor, which is never packed."""
        return 1 if self.first is None else self.first.shape[0]

    @cached_property
    def area(self) -> int:
        """Of a row, in latent pixels; a token stands for 2 × 2 of them."""
        items = (v for v in self.arguments.values() if isinstance(v, list) and _is_row_list("", v, self.rows))
        listed = next(items, None)
        if listed:
            return prod(listed[0].shape[1:])
        shape = () if self.first is None else self.first.shape
        return 4 * shape[1] if len(shape) == 3 else prod(shape[2:])

    @property
    def evaluations(self) -> int:
        """Of the denoiser, for each row: a call may be for a whole solve."""
        return int(self.arguments.get("evaluations", 1))

    @cached_property
    def signature(self) -> tuple[str, Any]:
        """Calls with equal signatures fit one batch: equal but for what each row has of its own."""
        if self.first is None:
            return (self.target, _alone())
        own = [(_PROCESSORS, (self.processors.kind, self.parts))] if self.processors.of else []
        return (self.target, (*own, *((k, _signature(k, v, self.rows)) for k, v in self.arguments.items())))

    @property
    def parts(self) -> int:
        """Of a batch, if attention processors tell its rows apart."""
        return self.rows // self.cells if self.processors.of else 1


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name; what `function` takes as **kwargs lies beside the rest."""
    names, extra = _names_of(function)
    given = dict(zip(names, args, strict=False)) | kwargs
    if len(given) == len(args) + len(kwargs) and (extra or given.keys() <= names.keys()):
        return {name: given.pop(name) for name in names if name in given} | given
    arguments: dict[str, Any] = dict(inspect.signature(function).bind(*args, **kwargs).arguments)  # may well raise
    return arguments | dict(arguments.pop(extra, {}))


def named(function: Callable[..., Any]) -> bool:
    """Whether all arguments have names; without them nobody can tell which is the timestep, so it is not packed."""
    return all(p.kind is not p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())


def join(calls: Sequence[Call]) -> dict[str, Any]:
    """The arguments of one call for all rows of `calls`, which have equal signatures, on the device of their first
    tensor. One call stays as it is."""
    rows, first = [call.rows for call in calls], calls[0]
    joined = dict(first.arguments)
    if len(calls) > 1:
        joined = {name: _join(name, [c.arguments[name] for c in calls], rows) for name in joined}
        if order := [row for part in _by_part(calls) for row in part] if first.parts > 1 else []:
            joined = {name: _some_rows(name, value, sum(rows), order) for name, value in joined.items()}
    if first.first is None or first.first.device.type == "cpu":
        return joined
    device = first.first.device
    return {name: sent(value, device) if isinstance(value, torch.Tensor) else value for name, value in joined.items()}


def every(call: Call, start: int, step: int) -> Call:
    """The call for every `step`-th row of `call`, from row `start` on."""
    rows = slice(start, None, step)
    some = {name: _some_rows(name, value, call.rows, rows) for name, value in call.arguments.items()}
    return Call(call.target, some, processors=call.processors)


def apart(call: Call) -> list[Call]:
    """One call for each of the cells of `call`."""
    return [every(call, i, call.cells) for i in range(call.cells)] if call.cells > 1 else [call]


def together(answers: Sequence[Any], rows: int) -> Any:
    """The answer to a call, from the answers to its `apart`, which have so many rows each."""
    if len(answers) == 1:
        return answers[0]

    def interleaved(*parts: Any) -> Any:
        if _is_row_list("", parts[0], rows):
            return [item for row in zip(*parts, strict=True) for item in row]
        return torch.stack(parts, 1).flatten(0, 1) if _is_array(parts[0]) else parts[0]

    return tree_map(interleaved, *answers, is_leaf=lambda part: _is_row_list("", part, rows))


def first_of(answer: Any, cells: int, rows: int) -> Any:
    """What an answer to so many cells, and rows in all, says to the first."""

    def part_of_it(part: Any) -> Any:
        return part[::cells] if _is_array(part) or isinstance(part, list) else part

    return tree_map(part_of_it, answer, is_leaf=lambda part: _is_row_list("", part, rows))


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
    pieces = split(answer, [len(part) for part in _by_part(calls)], by_block=by_block)

    def whole(*parts: Any) -> Any:
        return torch.cat(parts) if _is_array(parts[0]) else parts[0]

    return [tree_map(whole, *pieces[i :: len(calls)]) for i in range(len(calls))]


def _split(answer: Any, rows: list[int], by_block: bool) -> list[Any]:
    if answer is None:
        return [None] * len(rows)
    if isinstance(answer, torch.Tensor) and answer.ndim and answer.shape[0] == sum(rows):
        return list(torch.split(answer, rows))
    if isinstance(answer, Mapping):  # diffusers' output objects are mappings with a class of their own
        parts = {name: _split(value, rows, by_block) for name, value in answer.items()}
        return [type(answer)(**{name: part[i] for name, part in parts.items()}) for i in range(len(rows))]
    if isinstance(answer, list) and _is_row_list("", answer, sum(rows)):
        starts = [sum(rows[:i]) for i in range(len(rows))]
        return [answer[start : start + n] for start, n in zip(starts, rows, strict=True)]
    # A list as long as there are rows may have an item for each of them; a tuple is how a model returns several things
    if isinstance(answer, tuple) or (isinstance(answer, list) and (by_block or len(answer) != sum(rows))):
        columns = [_split(value, rows, by_block) for value in answer]
        return [type(answer)(column[i] for column in columns) for i in range(len(rows))]
    raise NoRowsError(f"an answer without {sum(rows)} rows cannot be split: {getattr(answer, 'shape', type(answer))}")


def alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same but for the order in which a batch adds up: on average, not in each element."""
    if isinstance(one, torch.Tensor):
        tolerance = 1e-3 if one.dtype is torch.float32 else 2e-2
        a, b = one.float().nan_to_num(), other.float().nan_to_num()
        return bool((a - b).abs().mean() <= tolerance * a.abs().mean())
    if isinstance(one, Mapping):
        return all(alike(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list):
        return all(map(alike, one, other))
    return True


_names: MutableMapping[Any, tuple[dict[str, None], str]] = WeakKeyDictionary()


def _names_of(function: Callable[..., Any]) -> tuple[dict[str, None], str]:
    """Names of its arguments in order, and of its **kwargs. Binding by `inspect` takes longer than many a step."""
    key = getattr(function, "__func__", function)
    if key not in _names:
        parameters = list(inspect.signature(function).parameters.values())
        plain = {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        _names[key] = plain, next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
    return _names[key]


def _signature(name: str, value: Any, rows: int) -> Hashable:
    if value is None or type(value) is bool:
        return value
    if _is_timestep(name, value, rows):
        return "a timestep for each row"
    if isinstance(value, torch.Tensor):
        own, at = _has_rows(name, value, rows), _row_dimension(name)
        return (value.dtype, value.device, (value.shape[:at], value.shape[at + 1 :]) if own else _content(value), own)
    if isinstance(value, Mapping):
        return tuple((k, _signature(k, v, rows)) for k, v in value.items())
    if isinstance(value, tuple | list):
        if _is_row_list(name, value, rows):
            return frozenset((item.dtype, item.device, item.shape) for item in value)  # an item for each row
        if len(value) == rows and not _is_shared(name) and not _is_by_block(name) and _holds_tensors(value):
            return _alone()  # it may have one
        return tuple(_signature(name, v, rows) for v in value)
    return value if isinstance(value, Hashable) else _alone()  # what cannot be compared is not known to be equal


class _Alone:
    """Equal to nothing: no other call fits a batch with this one."""


_alone = _Alone


def unpacked(call: Call) -> str:
    """The argument for which a call fits no batch with others; empty if it may."""
    _, arguments = call.signature
    if isinstance(arguments, _Alone):
        return "arguments"
    return next((name for name, signature in arguments if _is_alone(signature)), "")


def _is_alone(signature: Hashable) -> bool:
    return isinstance(signature, _Alone) or (isinstance(signature, tuple) and any(map(_is_alone, signature)))


def _join(name: str, values: Sequence[Any], rows: Sequence[int]) -> Any:
    first = values[0]
    if _is_timestep(name, first, rows[0]):
        return _timesteps(values, rows)
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values), _row_dimension(name)) if _has_rows(name, first, rows[0]) else first
    if isinstance(first, Mapping):
        return {k: _join(k, [v[k] for v in values], rows) for k in first}
    if _is_row_list(name, first, rows[0]):
        return [item for value in values for item in value]
    if isinstance(first, tuple | list):
        return type(first)(_join(name, [v[i] for v in values], rows) for i in range(len(first)))
    return first


def _by_part(calls: Sequence[Call]) -> Iterator[list[int]]:
    """The rows of `calls`, which stand one after the other: those of each call's first part, call by call, then of the
    second ones."""
    starts = [*accumulate((call.rows for call in calls), initial=0)]
    for part in range(calls[0].parts):
        for call, start in zip(calls, starts, strict=False):
            yield [*range(start + part * call.cells, start + (part + 1) * call.cells)]


def _some_rows(name: str, value: Any, had: int, rows: slice | list[int]) -> Any:
    if isinstance(value, torch.Tensor):
        at = (slice(None),) * _row_dimension(name)
        return value[*at, rows] if _has_rows(name, value, had) else value
    if _is_row_list(name, value, had):
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


def _is_timestep(name: str, value: Any, rows: int) -> bool:
    if name not in _TIMESTEPS:
        return False
    return value.shape in ((), (rows,)) if isinstance(value, torch.Tensor) else isinstance(value, int | float)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensors, value)))


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


@cache  # there are few names, and every call of a model asks for all of its own
def _is_shared(name: str) -> bool:
    return any(word in str(name) for word in _SHARED)


@cache
def _is_by_block(name: str) -> bool:
    return any(word in str(name) for word in _BY_BLOCK)


def _has_rows(name: str, value: torch.Tensor, rows: int) -> bool:
    at = _row_dimension(name)
    return not _is_shared(name) and value.ndim > at and value.shape[at] == rows


@cache
def _row_dimension(name: str) -> int:
    return int(any(word in str(name) for word in _ROWS_SECOND))


def _is_row_list(name: str, value: Any, rows: int) -> bool:
    """Whether it is certainly a list with a tensor for each row, as Z-Image's: none of them could have all rows."""
    if not isinstance(value, list) or len(value) != rows or _is_shared(name):
        return False
    return all(isinstance(item, torch.Tensor) and item.ndim and item.shape[0] != rows for item in value)


def bits(value: torch.Tensor) -> bytes:
    """Its content, wherever it is and however it lies there."""
    near = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return near.flatten().view(torch.uint8).numpy().tobytes()


_contents: MutableMapping[torch.Tensor, tuple[int, Hashable]] = WeakIdKeyDictionary()


def _content(value: torch.Tensor) -> Hashable:
    """Shape and bytes. Reading them waits for the device, so they are remembered while the tensor is unchanged."""
    version = 0 if value.is_inference() else value._version  # what inference mode made cannot be changed outside of it
    known = _contents.get(value)
    if known is None or known[0] != version:
        known = _contents[value] = (version, (value.shape, bits(value)))
    return known[1]
