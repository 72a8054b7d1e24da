"""A sweep whose `model` is a list: one document for each checkpoint, with what its entry says otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from schedcmp.errors import SweepError, shown
from schedcmp.files import slug
from schedcmp.sweep.parts.model import Model
from schedcmp.sweep.source import Source

MOST = 100
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
_SHARED = ("model", "name", "grid", "executor")  # what no entry may have of its own
_OWN = ("name", "model")
_INSTEAD = {"steps": "nfe", "nfe": "steps"}


@dataclass(frozen=True, slots=True)
class OneOfSeveral(Source):
    """A document of one of several checkpoints; its places are those of the document that it was taken from."""

    whole: Source | None = None
    place: int = 0
    own: frozenset[str] = frozenset()  # keys that its entry has

    def where(self, path: Iterable[Any]) -> str:
        steps = tuple(path)
        assert self.whole
        if steps[:1] == ("model",):
            return self.whole.where(("model", self.place, *steps[1:]))
        return self.whole.where(("model", self.place, *steps) if self.own.intersection(steps[:1]) else steps)


def members(source: Source, name: str) -> dict[str, OneOfSeveral]:
    """By label, the document of each checkpoint that `model` lists; none where it is no list.

    Args:
        name: of the sweep, where it has none.

    Raises:
        SweepError: no checkpoint, too many, or two of one label.
    """
    entries = source.data.get("model")
    if not isinstance(entries, list):
        return {}
    where = source.where(("model",))
    if not 1 <= len(entries) <= MOST:
        raise SweepError(f"{where}: model: lists {len(entries)} checkpoints; give 1 to {MOST}")
    labels = [_label(entry, source, i) for i, entry in enumerate(entries)]
    if twice := next((label for label, n in Counter(map(slug, labels)).items() if n > 1), None):
        raise SweepError(f"{where}: model: two are called {twice!r}; give one of them a name: {{id: ..., name: NAME}}")
    grid = {"rows": "scheduler", "cols": ["model", "nfe" if source.data.get("nfe") else "steps"]}
    shared = {"grid": grid, **source.data}
    name = str(source.data.get("name") or name)
    return {
        label: _member(source, shared | {"name": f"{name} {label}"}, i, label, entry)
        for i, (label, entry) in enumerate(zip(labels, entries, strict=True))
    }


def _member(whole: Source, shared: Mapping[str, Any], place: int, label: str, entry: Any) -> OneOfSeveral:
    own = {key: value for key, value in entry.items() if key not in _OF_A_MODEL} if isinstance(entry, dict) else {}
    if taken := [key for key in own if key in _SHARED]:
        where = whole.where(("model", place, taken[0]))
        raise SweepError(f"{where}: model.{place}.{taken[0]}: is of the whole sweep; write it outside of `model`")
    instead = {other: None for key, other in _INSTEAD.items() if key in own and other not in own}
    model = {key: value for key, value in entry.items() if key in Model.model_fields} if own or _named(entry) else entry
    document = {**shared, **instead, **own, "model": model}
    return OneOfSeveral(
        whole.name,
        document | ({"exclude": [*_rules(document["exclude"], label)]} if document.get("exclude") else {}),
        whole.root,
        whole.overrides,
        () if place else whole.remarks,
        lenient=True,
        whole=whole,
        place=place,
        own=frozenset(own),
    )


_OF_A_MODEL = {*Model.model_fields, "name"}


def _rules(exclude: Any, label: str) -> Iterator[Any]:
    """What `exclude` says of this checkpoint; what is no rule is left to be refused."""
    for rule in exclude if isinstance(exclude, list) else [exclude]:
        named = rule.get("model") if isinstance(rule, dict) else None
        if named is None:
            yield rule
        elif label in (named if isinstance(named, list) else [named]):
            yield {key: value for key, value in rule.items() if key != "model"}


def _named(entry: Any) -> bool:
    return isinstance(entry, dict) and "name" in entry


def _label(entry: Any, source: Source, place: int) -> str:
    """Its name, or that of its place with what is told of its weights beside."""
    if not _named(entry):
        words = "-".join(_words(entry if isinstance(entry, dict) else {"id": entry}))
        return re.sub(r"[^A-Za-z0-9 ._+-]+", "-", words).strip(" ._+-")[:64] or f"model {place}"
    name = str(entry["name"])
    if not _LABEL.fullmatch(name):
        where = source.where(("model", place, "name"))
        raise SweepError(f"{where}: model.{place}.name: {shown(name)} has other than letters, digits and ' ._+-'")
    return name


def _words(entry: Mapping[str, Any]) -> Iterator[str]:
    path = str(entry.get("id") or entry.get("python") or "")
    name = PurePath(path.rpartition(":")[2]).name
    yield name.rpartition(".")[2] if entry.get("python") else name.removesuffix(".safetensors")
    for key in ("quantize", "cache"):
        value = entry.get(key) or ()
        several = value.values() if isinstance(value, dict) and key == "quantize" else value
        yield from [several] if isinstance(several, str) else map(str, several if isinstance(value, dict) else ())


def joined(name: str, sweeps: Mapping[str, Mapping[str, Any]]) -> str:
    """The document that `members` would take apart into these sweeps, which are plain data."""
    first, *others = sweeps.values()
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    own = [key for key in dict.fromkeys(key for one in sweeps.values() for key in one) if key not in {*shared, *_OWN}]
    models = [
        {"name": label, **{key: value for key, value in sweep["model"].items() if value}}
        | {key: sweep.get(key) for key in own}
        for label, sweep in sweeps.items()
    ]
    data = shared | {"name": name, "model": models}
    order = [key for key in dict.fromkeys((*_OWN, *first)) if key in data]
    return yaml.safe_dump({key: data[key] for key in order}, sort_keys=False, allow_unicode=True, width=110)
