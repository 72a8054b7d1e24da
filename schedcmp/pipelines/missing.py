"""What becomes of an argument of a pipeline's call that nobody gives, followed through its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from schedcmp.pipelines.source import PipelineSource

_READS = "preprocess"  # of diffusers' image processors, which refuse None


def read_without(source: PipelineSource, name: str) -> bool:
    """Whether the call reads the image `name` though it is None, whatever else it is given."""
    found = next(_reads(source.methods["__call__"].body, name), None)
    return isinstance(found, ast.Call)


def _reads(statements: Sequence[ast.stmt], name: str) -> Iterator[ast.AST]:
    """On the certain way of None through the statements: calls that read it, and what ends the way."""
    for statement in statements:
        if isinstance(statement, ast.If):
            taken = _holds(statement.test, name)
            if taken is not None:
                yield from _reads(statement.body if taken else statement.orelse, name)
        elif isinstance(statement, ast.Return | ast.Raise):
            yield statement
        else:
            nodes = [*ast.walk(statement)] if not isinstance(statement, ast.For | ast.While | ast.With) else []
            yield from (node for node in nodes if _is_read(node, name))
            yield from (n for n in nodes if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store))


def _is_read(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(f".{_READS}")
        and bool(node.args)
        and ast.unparse(node.args[0]) == name
    )


def _holds(test: ast.expr, name: str) -> bool | None:
    """Whether a condition holds while `name` is None; None where that is not known."""
    text = ast.unparse(test)
    if text in (f"{name} is None", f"not {name}"):
        return True
    if text in (f"{name} is not None", name) or text.startswith(f"isinstance({name}, "):
        return False
    if isinstance(test, ast.BoolOp):
        parts, decisive = [_holds(part, name) for part in test.values], isinstance(test.op, ast.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    return None
