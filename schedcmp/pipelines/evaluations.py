"""How often a pipeline calls its denoiser at each timestep: twice, where guidance is a second call of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.conditions import UNKNOWN, Conditions
from schedcmp.pipelines.source import DENOISERS, PipelineSource, loop_source

_CALLED = tuple(f"self.{name}" for name in DENOISERS)
_GUIDED = 2  # batches that a guider makes of one, with and without the prompt
# What a pipeline infers from being given a prompt and nothing else
_INFERRED: Mapping[str, Mapping[str, Any]] = {"UniDiffuserPipeline": {"mode": "text2img"}}


def evaluations(pipeline: str, configs: Configs, arguments: Mapping[str, Any]) -> int:
    """Calls of the denoiser at each timestep; 1 where the pipeline is not known.

    Args:
        arguments: of the pipeline's call, without those that are its defaults.
    """
    source = loop_source(pipeline)
    if source is None:
        return 1
    given = {**source.defaults, **arguments, **_INFERRED.get(pipeline, {})}
    known = Conditions(source, given, configs, set_before=_unpacked(source))
    denoisers = _denoisers(source)
    loops = (node for node in source.walk("__call__") if isinstance(node, ast.For) and _steps(node))
    return max((_count(loop.body, known, denoisers) for loop in loops), default=1) or 1


def _unpacked(source: PipelineSource) -> frozenset[str]:
    """Names that the call gives several values at once, such as embeddings that nobody has given."""
    assigned = (target for node in source.walk("__call__") if isinstance(node, ast.Assign) for target in node.targets)
    return frozenset(ast.unparse(item) for target in assigned if isinstance(target, ast.Tuple) for item in target.elts)


def _steps(loop: ast.For) -> bool:
    """Whether the loop is that over the timesteps."""
    calls = (node for node in ast.walk(loop) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func) == "self.scheduler.step" for call in calls)


def _count(statements: Iterable[ast.stmt], known: Conditions, denoisers: frozenset[str]) -> int:
    total = 0
    for statement in statements:
        total += _of(statement, known, denoisers)
        if _returns(statement, known):
            break
    return total


def _returns(statement: ast.stmt, known: Conditions) -> bool:
    """Whether nothing after it is reached, as far as conditions are known."""
    if not isinstance(statement, ast.If):
        return isinstance(statement, ast.Return)
    value = known.value(statement.test)
    return value is not UNKNOWN and any(_returns(s, known) for s in (statement.body if value else statement.orelse))


def _of(statement: ast.stmt, known: Conditions, denoisers: frozenset[str]) -> int:
    match statement:
        case ast.If():
            value = known.value(statement.test)
            taken = _count(statement.body, known, denoisers) if value is UNKNOWN or value else 0
            other = _count(statement.orelse, known, denoisers) if value is UNKNOWN or not value else 0
            return max(taken, other)
        case ast.For() | ast.While():
            guider = isinstance(statement, ast.For) and "guider" in ast.unparse(statement.iter)
            return _count(statement.body, known, denoisers) * (_GUIDED if guider else 1)
        case ast.With() | ast.Try():
            return _count(statement.body, known, denoisers)
    called = [ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    methods = (known.source.methods.get(name.removeprefix("self.")) for name in called if name.startswith("self."))
    inner = sum(_count(method.body, known, denoisers) for method in methods if method)
    return sum(name in denoisers for name in called) + inner


def _denoisers(source: PipelineSource) -> frozenset[str]:
    """What the call has its denoisers under: they may have names of their own there."""
    named = [n for n in source.walk("__call__") if isinstance(n, ast.Assign) and ast.unparse(n.value) in _CALLED]
    return frozenset({*_CALLED, *(ast.unparse(target) for node in named for target in node.targets)})
