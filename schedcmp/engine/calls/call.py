"""Calls of a model that wait to be answered together.

A batch does not care which scheduler asks: its rows may stand at different timesteps of different noise schedules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch

from schedcmp.engine.calls.rows import is_row_list
from schedcmp.engine.calls.signature import Alone, signature_of
from schedcmp.engine.processors import NOTHING, Processors

_PROCESSORS = "attention processors"


@dataclass(frozen=True)
class Call:
    """A call of a model's method, by argument name. Its rows are the first dimension of its first tensor."""

    target: str  # which method of which model: "unet", "vae.decode"
    arguments: Mapping[str, Any]
    cells: int = 1  # whose rows take turns: a, b, c, and with guidance a, b, c once more
    processors: Processors = NOTHING  # of attention, without which the model is another

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
        items = (v for v in self.arguments.values() if isinstance(v, list) and is_row_list("", v, self.rows))
        listed = next(items, None)
        if listed:
            return prod(listed[0].shape[1:])
        shape = () if self.first is None else self.first.shape
        return 4 * shape[1] if len(shape) == 3 else prod(shape[2:])

    @cached_property
    def frames(self) -> int:
        """Of a row, where its latents are a video's: (rows, channels, frames, height, width)."""
        shape = () if self.first is None else self.first.shape
        return shape[2] if len(shape) == 5 else 1

    @property
    def evaluations(self) -> int:
        """Of the denoiser, for each row: a call may be for a whole solve."""
        return int(self.arguments.get("evaluations", 1))

    @cached_property
    def signature(self) -> tuple[str, Any]:
        """Calls with equal signatures fit one batch: equal but for what each row has of its own."""
        if self.first is None:
            return (self.target, Alone())
        own = [(_PROCESSORS, (self.processors.kind, self.parts))] if self.processors.of else []
        return (self.target, (*own, *((k, signature_of(k, v, self.rows)) for k, v in self.arguments.items())))

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


def has_named_arguments(function: Callable[..., Any]) -> bool:
    """Whether all arguments have names; without them nobody can tell which is the timestep, so it is not packed."""
    return all(p.kind is not p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())


_names: MutableMapping[Any, tuple[dict[str, None], str]] = WeakKeyDictionary()


def _names_of(function: Callable[..., Any]) -> tuple[dict[str, None], str]:
    """Names of its arguments in order, and of its **kwargs. Binding by `inspect` takes longer than many a step."""
    key = getattr(function, "__func__", function)
    if key not in _names:
        parameters = list(inspect.signature(function).parameters.values())
        plain = {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        _names[key] = plain, next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
    return _names[key]


def why_alone(call: Call) -> str:
    """The argument for which a call fits no batch with others; empty if it may."""
    _, arguments = call.signature
    if isinstance(arguments, Alone):
        return "arguments"
    return next((name for name, signature in arguments if _is_alone(signature)), "")


def _is_alone(signature: Hashable) -> bool:
    return isinstance(signature, Alone) or (isinstance(signature, tuple) and any(map(_is_alone, signature)))
