"""What the conditions in a pipeline's source are, as far as its arguments, its config and its scheduler tell."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.source import PipelineSource

INDEX = ""  # of `Configs`: what a model_index.json says of the pipeline itself
UNKNOWN = object()
_SCHEDULER = "self.scheduler"
_CLASSES = (f"type({_SCHEDULER})", f"{_SCHEDULER}.__class__")
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """Evaluates expressions of a pipeline's `__call__`; `UNKNOWN` is what it cannot know.

    Args:
        arguments: of the call, where they are known.
        scheduler: the pipeline's, if it is known.
    """

    source: PipelineSource
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    configs: Configs | None = None
    scheduler: Any = None
    set_before: frozenset[str] = frozenset()  # arguments that have been given other values where the expression stands
    _beneath: frozenset[str] = frozenset()  # the names that this is asked for, some of which are made of themselves

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                values = [self.value(item) for item in node.elts]
                return UNKNOWN if UNKNOWN in values else values
            case ast.UnaryOp(op=ast.Not()):
                value = self.value(node.operand)
                return value if value is UNKNOWN else not value
            case ast.BoolOp():
                return _both([self.value(part) for part in node.values], isinstance(node.op, ast.Or))
            case ast.Compare(ops=[op], comparators=[right]):
                return self._compared(node.left, op, right)
            case ast.Call() | ast.Subscript() if self.scheduler is not None:
                return self._asked(node)
            case ast.Name() | ast.Attribute():
                return self._named(ast.unparse(node))
        return UNKNOWN

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if self.scheduler is not None and ast.unparse(left) in _CLASSES:
            same = type(self.scheduler).__name__ in _class_names(right)
            return same if isinstance(op, ast.Eq | ast.Is | ast.In) else not same
        values = self.value(left), self.value(right)
        try:
            return UNKNOWN if UNKNOWN in values else _COMPARED[type(op)](*values)
        except (KeyError, TypeError):
            return UNKNOWN

    def _asked(self, node: ast.expr) -> Any:
        """What a question to the scheduler is answered."""
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[who, classes]) if ast.unparse(who) == _SCHEDULER:
                return any(cls.__name__ in _class_names(classes) for cls in type(self.scheduler).__mro__)
            case ast.Call(func=ast.Name(id="hasattr"), args=[who, ast.Constant(value=name)]):
                return hasattr(self.scheduler, str(name)) if ast.unparse(who) == _SCHEDULER else UNKNOWN
            case ast.Call(func=ast.Attribute(value=who, attr="get"), args=[ast.Constant(value=key), *default]):
                otherwise = self.value(default[0]) if default else None
                return self._config().get(str(key), otherwise) if _is_config(who) else UNKNOWN
            case ast.Subscript(value=who, slice=ast.Constant(value=key)) if _is_config(who):
                return self._config().get(str(key), UNKNOWN)
        return UNKNOWN

    def _config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = getattr(self.scheduler, "config", {})
        return config

    def _named(self, name: str) -> Any:
        if name.startswith(f"{_SCHEDULER}.config.") and self.scheduler is not None:
            return self._config().get(name.rpartition(".")[2], UNKNOWN)
        if name.startswith("self.config."):
            return self.configs(INDEX).get(name.rpartition(".")[2], UNKNOWN) if self.configs else UNKNOWN
        bare = name.removeprefix("self.").removeprefix("_")
        if name in self.set_before and not self._beneath:
            return UNKNOWN
        if bare in self.arguments:
            return self.arguments[bare]
        if name in self._beneath:
            return UNKNOWN
        inner = replace(self, _beneath=self._beneath | {name})
        return next((v for node in self._meant(name) if (v := inner.value(node)) is not UNKNOWN), UNKNOWN)

    def _meant(self, name: str) -> Iterator[ast.expr]:
        """What a property of the pipeline returns, or a local name is given."""
        method = self.source.methods.get(name.removeprefix("self.")) if name.startswith("self.") else None
        for node in ast.walk(method) if method else ():
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value
        if not method:
            yield from self.source.assigned(name, "__call__")


def reached(
    statements: Iterable[ast.stmt], known: Conditions, *, certain: bool = True
) -> Iterator[tuple[ast.AST, bool]]:
    """The plain statements and conditions on the way through `statements`, and whether it leads there in any case.

    A loop's body is taken to run.
    """
    for statement in statements:
        match statement:
            case ast.If():
                value = known.value(statement.test)
                yield statement.test, certain
                for taken, branch in ((True, statement.body), (False, statement.orelse)):
                    if value is UNKNOWN or bool(value) is taken:
                        yield from reached(branch, known, certain=certain and value is not UNKNOWN)
            case ast.For() | ast.While():
                yield statement.iter if isinstance(statement, ast.For) else statement.test, certain
                yield from reached(statement.body, known, certain=certain)
            case ast.With() | ast.Try():
                yield from ((item.context_expr, certain) for item in getattr(statement, "items", ()))
                yield from reached(statement.body, known, certain=certain)
            case _:
                yield statement, certain


def _both(values: list[Any], decisive: bool) -> Any:
    if any(value is not UNKNOWN and bool(value) is decisive for value in values):
        return decisive
    return UNKNOWN if UNKNOWN in values else not decisive


def _is_config(node: ast.expr) -> bool:
    return ast.unparse(node) == f"{_SCHEDULER}.config"


def _class_names(node: ast.expr) -> set[str]:
    items = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
    return {ast.unparse(item).rpartition(".")[2] for item in items}
