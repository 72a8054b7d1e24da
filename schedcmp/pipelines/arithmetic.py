"""Numbers that a pipeline computes from the configs of its parts, computed from its source before it is loaded."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from schedcmp.pipelines.source import PipelineSource, pipeline_source

Configs = Callable[[str], Mapping[str, Any]]  # a component's name → its config; empty where there is none

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {"len": len, "int": int}
_LARGEST = 1024  # of the numbers that sizes are multiples of


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Evaluates expressions of one method, its local names among them. None stands for what it cannot know."""

    source: PipelineSource
    configs: Configs
    method: str

    def value(self, node: ast.expr) -> Any:
        try:
            return self._value(node)
        except (KeyError, TypeError, ArithmeticError):
            return None

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                values = [self._value(item) for item in node.elts]
                return values if isinstance(node, ast.List) else tuple(values)
            case ast.BinOp():
                return _OPERATORS[type(node.op)](self._value(node.left), self._value(node.right))
            case ast.IfExp():  # asks whether there is such a part
                value = self.value(node.body)
                return self._value(node.orelse) if value is None else value
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return _FUNCTIONS[name](self._value(argument))
            case ast.Name() | ast.Attribute():
                return self._named(ast.unparse(node))
        raise TypeError

    def _named(self, name: str) -> Any:
        match name.split("."):
            case ["self", part, "config", key] | ["self", part, key]:
                return self.configs(part)[key]
            case ["self", _]:
                method = "__init__"
            case _:
                method = self.method
        inner = Arithmetic(self.source, self.configs, method)
        values = [v for node in self.source.assigned(name, method) if (v := inner.value(node)) is not None]
        if not values:
            raise KeyError(name)
        return values[0]


def size_multiple(source: PipelineSource, configs: Configs) -> int:
    """What width and height must be multiples of for an image of exactly that size, in pixels."""
    return lcm(*(n for n in _divisors(source, configs) if isinstance(n, int) and 0 < n <= _LARGEST))


def size_refusal(pipeline: str, configs: Configs, sizes: Iterable[tuple[int, int]]) -> str:
    """Why the pipeline would refuse a size or round it, and the nearest that it makes; empty if it makes all."""
    source = pipeline_source(pipeline)
    multiple = size_multiple(source, configs) if source else 1
    for size in sizes:
        if any(pixels % multiple for pixels in size):
            near = [size_text(max(n * multiple, multiple) for n in rounded) for rounded in _around(size, multiple)]
            return (
                f"{size_text(size)} is not made by {pipeline} with this checkpoint, but multiples of {multiple};"
                f" take {' or '.join(near)}"
            )
    return ""


def _around(size: tuple[int, int], multiple: int) -> Iterator[list[int]]:
    """The size below and the size above, in multiples."""
    yield [pixels // multiple for pixels in size]
    yield [-(-pixels // multiple) for pixels in size]


def size_text(pixels: Iterable[int]) -> str:
    return "x".join(map(str, pixels))


def _divisors(source: PipelineSource, configs: Configs) -> Iterator[Any]:
    """What the height is divided by: on asking whether it fits, and where the latents' size comes from."""
    asked, rounded = (ast.Mod,), (ast.Mod, ast.FloorDiv)
    for method, operators in (("check_inputs", asked), ("__call__", asked), ("prepare_latents", rounded)):
        for node in source.walk(method):
            if isinstance(node, ast.BinOp) and isinstance(node.op, operators) and _is_height(node.left):
                yield Arithmetic(source, configs, method).value(node.right)


def _is_height(node: ast.expr) -> bool:
    return ast.unparse(node) in ("height", "int(height)")
