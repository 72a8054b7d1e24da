"""From what a program asks to a sweep that was found sound: the same checks as for a file, and the same words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schedcmp.checkpoint.find import DECIDED
from schedcmp.errors import RequestError
from schedcmp.files import slug
from schedcmp.sweep.source import Source, parse, read

if TYPE_CHECKING:
    from schedcmp.prepare import Prepared
    from schedcmp.runs.several import Several

CALL = "schedcmp.run()"
_NOTHING = yaml.MappingNode("", [], yaml.Mark(CALL, 0, 0, 0, "", 0))
_NAME = "run"  # of a sweep without a file: outputs/run
_DECIDED = ("model", "controlnet", *DECIDED)


@dataclass(frozen=True, slots=True)
class Asked(Source):
    """A sweep of which some keys, or all, were given by a program."""

    keywords: frozenset[str] = frozenset()

    def where(self, path: Iterable[Any]) -> str:
        steps = tuple(path)
        own = self.name == CALL or self.keywords.intersection(map(str, steps[:1]))
        return CALL if own else Source.where(self, steps)


def asked(
    sweep: str | PathLike[str] | Mapping[str, Any] | None, keywords: Mapping[str, Any], pipeline: Any
) -> Prepared | Several:
    """Raises RequestError for whatever is wrong with the request; loads no weights."""
    from schedcmp.runs.several import prepared

    source = _source(sweep, keywords)
    checkpoint = None
    if pipeline is not None:
        from schedcmp.checkpoint.given import given

        if decided := sorted(source.data.keys() & set(_DECIDED)):
            raise RequestError(f"{source.where(decided)}: {decided[0]}: the given pipeline has its own; leave it out")
        checkpoint = given(pipeline)
        source = _with(source, {"model": checkpoint.name, **checkpoint.settings})
    name = _NAME if source.name == CALL else slug(Path(source.name).stem)
    return prepared(source, name, checkpoint=checkpoint)


def _source(sweep: Any, keywords: Mapping[str, Any]) -> Asked:
    if sweep is None or isinstance(sweep, Mapping):
        return _with(Asked(CALL, {}, _NOTHING), {**(sweep or {}), **keywords})
    if isinstance(sweep, str) and "\n" in sweep:
        source = parse(sweep, CALL)
    elif isinstance(sweep, str | PathLike):
        source = read(Path(sweep).expanduser())
    else:
        raise RequestError(f"{CALL}: expected a sweep's file or its keys, got {type(sweep).__name__}")
    return _with(Asked(**{field.name: getattr(source, field.name) for field in fields(Source)}), keywords)


def _with(source: Asked, keys: Mapping[str, Any]) -> Asked:
    data = source.data | {name: plain(value) for name, value in keys.items()}
    return replace(source, data=data, keywords=source.keywords | keys.keys())


def plain(value: Any) -> Any:
    """As YAML would have it: a scheduler class is its path, tuples, ranges and arrays are lists."""
    if isinstance(value, type):
        own = value.__module__.startswith("diffusers.")
        return value.__name__ if own else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | PathLike):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's and torch's
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, Iterable) else value
