"""How a pipeline uses its scheduler: what it hands to `set_timesteps` and `step`, and what it reads of it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from schedcmp.pipelines.source import PipelineSource, pipeline_source

_DYNAMIC = "use_dynamic_shifting"
_LARGEST_SHIFT = 1.15  # FlowMatchEulerDiscreteScheduler's default max_shift
_RETRIEVE = ("scheduler", "num_inference_steps", "device", "timesteps", "sigmas")  # as all copies of it begin
_SCHEDULER = "self.scheduler"


def timestep_arguments(pipeline: str, scheduler: Any, steps: int) -> dict[str, Any]:
    """What the pipeline hands to `set_timesteps` beside steps and device, whatever the scheduler.

    With dynamic shifting, mu is that of the largest size the checkpoint knows. Where the pipeline has several ways to
    call it, only what they have in common is certain.
    """
    source = pipeline_source(pipeline)
    config = getattr(scheduler, "config", {})  # a class from elsewhere may have none
    given: dict[str, Any] = {name: source.defaults.get(name) for name in sorted(_handed(source))} if source else {}
    if "mu" in given or config.get(_DYNAMIC):
        given["mu"] = config.get("max_shift") or _LARGEST_SHIFT
    if "sigmas" in given:
        given["sigmas"] = [1 - i / steps for i in range(steps)]
    if "timesteps" in given:  # CogView4, whose sigmas are those of whole timesteps
        last = config.get("num_train_timesteps", 1000)
        given["timesteps"] = [float(int(last + (1 - last) * i / max(steps - 1, 1))) for i in range(steps)]
        given["sigmas"] = [t / last for t in given["timesteps"]]
    if config.get("use_flow_sigmas") and source and _mentions(source, "use_flow_sigmas"):
        given.pop("sigmas", None)  # the scheduler's own are right
    return given


def misused(pipeline: str, scheduler: Any) -> str:
    """What the pipeline's loop wants of a scheduler that this one has not; empty if it has all."""
    source = pipeline_source(pipeline)
    return next(_misuses(source, scheduler), "") if source else ""


def _misuses(source: PipelineSource, scheduler: Any) -> Iterator[str]:
    takes = inspect.signature(scheduler.step).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for name in _step_keywords(source):
        if name not in takes and not free:
            yield f"its step takes no {name}, which {source.name} hands to it"
    for name in _config_keys(source):
        if not hasattr(getattr(scheduler, "config", None), name):
            yield f"its config has no {name}, which {source.name} reads"
    for name in _noising(source):
        if not hasattr(scheduler, name):
            yield f"it has no {name}, with which {source.name} begins from an image"


@lru_cache(maxsize=8)
def _handed(source: PipelineSource) -> frozenset[str]:
    calls = [names for node in source.walk("__call__") if (names := _names_handed(source, node)) is not None]
    return frozenset.intersection(*map(frozenset, calls)) if calls else frozenset()


def _names_handed(source: PipelineSource, node: ast.AST) -> set[str] | None:
    """What a call that leads to `set_timesteps` hands over beside steps and device; None for any other node."""
    if not isinstance(node, ast.Call):
        return None
    function = ast.unparse(node.func)
    if function == f"{_SCHEDULER}.set_timesteps":
        return {k.arg for k in node.keywords if k.arg} - {"device"}
    if function != "retrieve_timesteps" or not node.args or ast.unparse(node.args[0]) != _SCHEDULER:
        return None
    values = dict(zip(_RETRIEVE, node.args, strict=False)) | {k.arg: k.value for k in node.keywords if k.arg}
    for name in ("timesteps", "sigmas"):
        if name in values and not _has_default(source, values[name]):
            del values[name]
    more = [ast.unparse(k.value) for k in node.keywords if k.arg is None]
    dicts = [d for name in more for d in source.assigned(name, "__call__") if isinstance(d, ast.Dict)]
    return {*values, *(str(k.value) for d in dicts for k in d.keys if isinstance(k, ast.Constant))} - {*_RETRIEVE[:3]}


def _has_default(source: PipelineSource, value: ast.expr) -> bool:
    """Whether a name is given a value in `__call__` where the user has given none."""
    values = source.assigned(ast.unparse(value), "__call__") if isinstance(value, ast.Name) else []
    return any(not (isinstance(v, ast.Constant) and v.value is None) and not _is_slice(v) for v in values)


def _is_slice(value: ast.expr) -> bool:
    part = isinstance(value, ast.Subscript) and not isinstance(value.value, ast.Call)
    return part or ast.unparse(value).startswith(_SCHEDULER)


def _mentions(source: PipelineSource, word: str) -> bool:
    """Whether `__call__` asks for an attribute of this name."""
    return any(isinstance(node, ast.Attribute) and node.attr == word for node in source.walk("__call__"))


@lru_cache(maxsize=8)
def _step_keywords(source: PipelineSource) -> tuple[str, ...]:
    calls = [node for node in source.walk("__call__") if isinstance(node, ast.Call)]
    steps = [call for call in calls if ast.unparse(call.func) == f"{_SCHEDULER}.step"]
    return tuple(dict.fromkeys(k.arg for call in steps for k in call.keywords if k.arg))


@lru_cache(maxsize=8)
def _noising(source: PipelineSource) -> tuple[str, ...]:
    """The scheduler's methods that bring an image to a noise level, as far as it is brought there."""
    called = [ast.unparse(node.func) for node in source.walk("prepare_latents") if isinstance(node, ast.Call)]
    return tuple(name for name in ("add_noise", "scale_noise") if f"{_SCHEDULER}.{name}" in called)


@lru_cache(maxsize=8)
def _config_keys(source: PipelineSource) -> tuple[str, ...]:
    """The keys of the scheduler's config that `__call__` reads whatever the scheduler, and does not ask for before."""
    nodes = list(_unconditional(source.methods["__call__"]))
    read = [n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == f"{_SCHEDULER}.config"]
    asked = {n.value for n in source.walk("__call__") if isinstance(n, ast.Constant)}
    return tuple(name for name in dict.fromkeys(read) if name != "get" and name not in asked)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    """What is reached whatever the conditions: a loop's body is, a branch is not, but the question before it is."""
    yield node
    for child in [node.test] if isinstance(node, ast.If | ast.IfExp) else ast.iter_child_nodes(node):
        yield from _unconditional(child)
