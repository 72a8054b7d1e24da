"""YAML with its line numbers: plain data, and where in the file each part of it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schedcmp.errors import SweepError
from schedcmp.files import read_input

_MAX_BYTES = 4_000_000
_MAX_VALUES = 200_000  # after aliases are expanded: an alias bomb has billions
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed document and the way back to its lines."""

    name: str
    data: dict[str, Any]
    root: yaml.Node
    overrides: tuple[str, ...] = ()

    def where(self, path: Iterable[Any]) -> str:
        """ "file:line" of the deepest part of `path` that the document has, or the override that set it."""
        steps = tuple(path)
        for override in reversed(self.overrides):
            key = override.partition("=")[0].strip()
            if steps[: len(key.split("."))] == tuple(key.split(".")):
                return f"--set {override}"
        node, line = self.root, self.root.start_mark.line
        for step in steps:
            node, line = _descend(node, step) or (node, line)
        return f"{self.name}:{line + 1}"


def read(path: Path, overrides: Iterable[str] = ()) -> Source:
    """Read a sweep file and apply `KEY=VALUE` overrides to it.

    Raises:
        SweepError: no such file, not YAML, a duplicate key, an alias bomb, or not a mapping.
    """
    return with_overrides(parse(_text(path), str(path)), overrides)


def parse(text: str, name: str) -> Source:
    """Parse YAML text; `name` stands for the file in messages. Raises SweepError."""
    try:
        root = yaml.compose(text, Loader=_Bounded)
    except _TooManyError as error:
        raise SweepError(f"{name}:{error}: holds more than a sweep can") from error
    except yaml.YAMLError as error:
        raise SweepError(_yaml_message(error, name)) from error
    except RecursionError as error:
        raise SweepError(f"{name}: is nested too deeply") from error
    if root is None:
        raise SweepError(f"{name}: the sweep is empty; `schedcmp init` writes one to start from")
    data = _Builder(name).build(root, 0)
    if not isinstance(data, dict):
        raise SweepError(f"{name}:1: a sweep is a mapping (`key: value` lines), not a {type(data).__name__}")
    return Source(name, data, root)


def with_overrides(source: Source, overrides: Iterable[str]) -> Source:
    """Set each `KEY=VALUE` (dotted keys reach inside, the value is YAML). Raises SweepError."""
    data = dict(source.data)
    applied = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise SweepError(f"--set {override}: expected KEY=VALUE, for example --set steps=[4,8]")
        data = _assign(data, key.strip().split("."), _override_value(value, override), override)
        applied.append(override)
    return Source(source.name, data, source.root, tuple(applied))


def _text(path: Path) -> str:
    try:
        return read_input(path, _MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise SweepError(f"{path}: no such file; `schedcmp init {path}` writes one to start from") from error
    except UnicodeDecodeError as error:
        raise SweepError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from error


def _override_value(text: str, override: str) -> Any:
    if not text.strip():
        return None
    node = yaml.compose(text, Loader=yaml.SafeLoader) if _parses(text) else None
    if node is None:
        raise SweepError(f"--set {override}: the value is not YAML; quote it, as in --set 'steps=[4,8]'")
    return _Builder(f"--set {override}").build(node, 0)


def _parses(text: str) -> bool:
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return False
    return True


def _assign(data: dict[str, Any], keys: list[str], value: Any, override: str) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**data, head: value}
    inner = data.get(head) or {}
    if not isinstance(inner, dict):
        raise SweepError(f"--set {override}: {head!r} has no keys of its own")
    return {**data, head: _assign(inner, rest, value, override)}


def _descend(node: yaml.Node, step: Any) -> tuple[yaml.Node, int] | None:
    """The part of `node` under a key or index, and the line where its key or item stands."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return value, key.start_mark.line
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line
    return None


class _TooManyError(yaml.YAMLError):
    """In this line of a document there are more parts than a sweep can have."""


class _Bounded(yaml.SafeLoader):
    """Ends where a document has more parts than a sweep can: each takes 700 bytes and 25 µs."""

    parts = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.parts += 1
        if self.parts > _MAX_VALUES:
            raise _TooManyError(self.peek_event().start_mark.line + 1)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


class _Builder:
    """Nodes to plain data; refuses duplicate keys and what grows beyond all bounds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, depth: int) -> Any:
        self.count += 1
        if self.count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise SweepError(f"{self._at(node)}: holds more than a sweep can (nested or repeated aliases?)")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, depth + 1) for child in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self.scalars.construct_object(node)
        except Exception as error:  # PyYAML's constructors raise what they like for a wrong tag
            problem = getattr(error, "problem", None) or error
            raise SweepError(f"{self._at(node)}: {str(node.value)[:40]!r} cannot be read: {problem}") from error

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise SweepError(f"{self._at(key_node)}: a key must be a plain word")
            key = str(key_node.value)
            if key in found:
                raise SweepError(f"{self._at(key_node)}: duplicate key {key!r}; remove one of the two")
            found[key] = self.build(value_node, depth + 1)
        return found

    def _at(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _yaml_message(error: yaml.YAMLError, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark else name
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{where}: is not valid YAML: {problem}"
