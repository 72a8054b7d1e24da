"""How often a pipeline calls its denoiser at each timestep: twice, where guidance is a second call of it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.source import PipelineSource, pipeline_source

INDEX = ""  # of `Configs`: what a model_index.json says of the pipeline itself
_DENOISERS = ("self.unet", "self.transformer", "self.transformer_2")
_GUIDED = 2  # batches that a guider makes of one, with and without the prompt
_UNKNOWN = object()
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


def evaluations(pipeline: str, configs: Configs, arguments: Mapping[str, Any]) -> int:
    """Calls of the denoiser at each timestep; 1 where the pipeline is not known.

    Args:
        arguments: of the pipeline's call, without those that are its defaults.
    """
    source = pipeline_source(pipeline)
    if source is None:
        return 1
    known = _Known(source, configs, {**source.defaults, **arguments})
    loops = (node for node in source.walk("__call__") if isinstance(node, ast.For) and _steps(node))
    return max((_count(loop.body, known) for loop in loops), default=1) or 1


def _steps(loop: ast.For) -> bool:
    """Whether the loop is that over the timesteps."""
    calls = (node for node in ast.walk(loop) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func) == "self.scheduler.step" for call in calls)


def _count(statements: Iterable[ast.stmt], known: _Known) -> int:
    return sum(_of(statement, known) for statement in statements)


def _of(statement: ast.stmt, known: _Known) -> int:
    match statement:
        case ast.If():
            value = known.value(statement.test)
            taken = _count(statement.body, known) if value is _UNKNOWN or value else 0
            other = _count(statement.orelse, known) if value is _UNKNOWN or not value else 0
            return max(taken, other)
        case ast.For() | ast.While():
            guider = isinstance(statement, ast.For) and "guider" in ast.unparse(statement.iter)
            return _count(statement.body, known) * (_GUIDED if guider else 1)
        case ast.With() | ast.Try():
            return _count(statement.body, known)
    return sum(isinstance(n, ast.Call) and ast.unparse(n.func) in known.denoisers for n in ast.walk(statement))


@dataclass(frozen=True)
class _Known:
    """What conditions of a call are, for its arguments; `_UNKNOWN` where they depend on more."""

    source: PipelineSource
    configs: Configs
    arguments: Mapping[str, Any]
    denoisers: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        named = [n for n in self.source.walk("__call__") if isinstance(n, ast.Assign) and _is_denoiser(n.value)]
        aliases = (ast.unparse(target) for node in named for target in node.targets)
        object.__setattr__(self, "denoisers", frozenset({*_DENOISERS, *aliases}))

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.UnaryOp(op=ast.Not()):
                value = self.value(node.operand)
                return value if value is _UNKNOWN else not value
            case ast.BoolOp():
                return self._both(list(map(self.value, node.values)), isinstance(node.op, ast.Or))
            case ast.Compare(ops=[op], comparators=[right]) if type(op) in _COMPARED:
                return self._compared(self.value(node.left), type(op), self.value(right))
            case ast.Name() | ast.Attribute():
                return self._named(ast.unparse(node))
        return _UNKNOWN

    def _both(self, values: list[Any], decisive: bool) -> Any:
        if any(value is not _UNKNOWN and bool(value) is decisive for value in values):
            return decisive
        return _UNKNOWN if _UNKNOWN in values else not decisive

    def _compared(self, left: Any, op: type[ast.cmpop], right: Any) -> Any:
        try:
            return _UNKNOWN if _UNKNOWN in (left, right) else _COMPARED[op](left, right)
        except TypeError:
            return _UNKNOWN

    def _named(self, name: str) -> Any:
        if name.startswith("self.config."):
            return self.configs(INDEX).get(name.removeprefix("self.config."), _UNKNOWN)
        bare = name.removeprefix("self.").removeprefix("_")
        if bare in self.arguments:
            return self.arguments[bare]
        return next((v for node in self._meant(name) if (v := self.value(node)) is not _UNKNOWN), _UNKNOWN)

    def _meant(self, name: str) -> Iterator[ast.expr]:
        """What a local name is given, or a property of the pipeline returns."""
        method = self.source.methods.get(name.removeprefix("self.")) if name.startswith("self.") else None
        for node in ast.walk(method) if method else ():
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value
        if not method:
            yield from self.source.assigned(name, "__call__")


def _is_denoiser(node: ast.expr) -> bool:
    return ast.unparse(node) in _DENOISERS
