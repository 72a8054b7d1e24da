"""YAML with its line numbers: plain data, and where in the file each part of it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from schedcmp.axes import AXES
from schedcmp.errors import SweepError, shown
from schedcmp.sweep.text import read_text
from schedcmp.sweep.yaml_errors import shown_line, swallowed, told, too_deep

_TEXTS = {axis.key for axis in AXES.values() if axis.prose}
_MAX_VALUES = 200_000  # after aliases are expanded: an alias bomb has billions
_MAX_DEPTH = 64
_SHORT = {"model": "id"}  # a key that may be one of its own keys alone
_OTHER_BASE = re.compile(r"[-+]?0[\d_]+|[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?")  # YAML 1.1: octal, and base 60


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed document and the way back to its lines."""

    name: str
    data: dict[str, Any]
    root: yaml.Node
    overrides: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # what is valid and hardly meant
    lenient: bool = False  # what this checkpoint cannot, another one may: its cells say why

    def where(self, path: Iterable[Any]) -> str:
        """ "file:line" of the deepest part of `path` that the document has, or the override that set it."""
        steps = tuple(path)
        for override in reversed(self.overrides):
            key = override.partition("=")[0].strip()
            if steps[: len(key.split("."))] == tuple(key.split(".")):
                return f"--set {shown_line(override)}"
        node, line = self.root, self.root.start_mark.line
        for step in steps:
            node, line = _descend(node, step) or (node, line)
        return f"{self.name}:{line + 1}"

    def at(self, key: str, *deeper: Any) -> str:
        """ "file:line: key", as a message about a key begins."""
        return f"{self.where((key, *deeper))}: {key}"


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
        raise SweepError(told(error, text, name)) from error
    except RecursionError as error:
        raise SweepError(too_deep(text, name, _MAX_DEPTH)) from error
    if root is None:
        raise SweepError(f"{name}: the sweep is empty; `schedcmp init` writes one to start from")
    data = _Builder(name).build(root, 0)
    if not isinstance(data, dict):
        kind = "list" if isinstance(data, list) else "text"
        raise SweepError(
            f"{name}:1: a sweep has lines such as steps: 20 (a space after the colon), and this is a {kind}"
        )
    return Source(name, data, root, remarks=tuple(_remarks(root, text, name)))


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
    return replace(source, data=data, overrides=tuple(applied))


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise SweepError(f"{path}: no such file; `schedcmp init {path}` writes one to start from") from error
    except ValueError as error:
        raise SweepError(str(error)) from error
    except OSError as error:
        if path.is_dir():
            inside = f", such as {path / 'sweep.yaml'}" if (path / "sweep.yaml").is_file() else ""
            raise SweepError(f"{path}: is a folder; give a sweep, which is a file{inside}") from error
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from error


_MEANING = "*&!%@`"  # of a text's first character, to YAML


def _override_value(text: str, override: str) -> Any:
    if text.strip() in ("", "*"):  # nothing; all schedulers, where YAML would look for an alias
        return text.strip() or None
    if "\n" in text.strip():
        _refuse_lines(text, override)
    node = None
    with suppress(yaml.YAMLError, RecursionError):
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        like = """'schedulers="*"'""" if text.strip()[0] in _MEANING else "'steps=[4,8]'"
        raise SweepError(f"--set {shown_line(override)}: the value is not YAML; quote it, as in --set {like}")
    return _Builder(f"--set {override}").build(node, 0)


def _refuse_lines(text: str, override: str) -> None:
    """Several lines without brackets would be one text, or none (what begins with # is left out)."""
    if text.lstrip()[0] not in "[{\"'|>":
        raise SweepError(
            f"--set {override.partition('=')[0]}=...: the value has {len(text.strip().splitlines())} lines; give a list"
            " in brackets, or for prompts a file: --set 'prompt={file: FILE}'"
        )


def _assign(data: dict[str, Any], keys: list[str], value: Any, override: str) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**data, head: value}
    inner = data.get(head) or {}
    if head in _SHORT and isinstance(inner, str):
        inner = {_SHORT[head]: inner}
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
            raise SweepError(
                f"{self._at(node)}: holds more than a sweep can: over {_MAX_VALUES:,} values or {_MAX_DEPTH} levels,"
                " with what aliases (*name) repeat; write less"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, depth + 1) for child in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        plain = isinstance(node, yaml.ScalarNode) and node.style is None and str(node.value)
        if plain and node.tag.endswith((":int", ":float")) and _OTHER_BASE.fullmatch(plain):
            read = self.scalars.construct_object(node)
            less = plain.replace("_", "").lstrip("+0") or "0"
            meant = f"write {less} for the number" if ":" not in plain else "write the number itself"
            raise SweepError(
                f"{self._at(node)}: {plain} would be {read} to YAML (octal or base 60); {meant}, or {plain!r} in quotes"
                " for a text"
            )
        try:
            return self.scalars.construct_object(node)
        except Exception as error:  # PyYAML's constructors raise what they like for a wrong tag
            if not node.tag.startswith("tag:"):
                hint = (
                    "; for prompts write prompt: {file: FILE}"
                    if "include" in node.tag
                    else "; put quotes around a text"
                )
                raise SweepError(f"{self._at(node)}: {node.tag} is a YAML tag, and none is read here{hint}") from error
            problem = getattr(error, "problem", None) or error
            raise SweepError(f"{self._at(node)}: {shown(node.value, 40)} cannot be read: {problem}") from error

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise SweepError(
                    f"{self._at(key_node)}: begins a key with a bracket; put quotes around a text that begins so"
                )
            key = str(key_node.value)
            if key in found:
                raise SweepError(f"{self._at(key_node)}: duplicate key {shown(key)}; remove one of the two")
            found[key] = self.build(value_node, depth + 1)
        return found

    def _at(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _remarks(root: yaml.Node, text: str, name: str) -> Iterator[str]:
    """On prompts that YAML takes for shorter than they look, and on two squares that look like one size."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "size" and isinstance(value, yaml.SequenceNode) and len(value.value) == 2:
            a, b = (str(node.value) for node in value.value)
            if a.isdecimal() and b.isdecimal() and a != b:
                where = f"{name}:{value.start_mark.line + 1}: size"
                yield f"{where}: [{a}, {b}] are two sizes, {a}x{a} and {b}x{b}; one of {a} by {b} is written {a}x{b}"
        if key.value in _TEXTS:
            for node in _scalars(value):
                if rest := swallowed(node, text):
                    where = f"{name}:{node.start_mark.line + 1}: {key.value}"
                    yield (
                        f"{where}: {shown(rest)} is no part of the text to YAML (a comment or a name); put quotes"
                        " around the whole text if it is meant to be, or a space after the # if not"
                    )


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        yield from (inner for child in node.value for inner in _scalars(child))
    elif isinstance(node, yaml.MappingNode):
        yield from (inner for _, child in node.value for inner in _scalars(child))
