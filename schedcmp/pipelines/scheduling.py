"""How a pipeline uses its scheduler: what it hands to `set_timesteps` and `step`, and what it reads of it."""

from __future__ import annotations

import ast
import copy
import inspect
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import Any

from schedcmp.pipelines.conditions import Conditions, reached
from schedcmp.pipelines.guidance import unconditional_first
from schedcmp.pipelines.source import PipelineSource, loop_source

_DYNAMIC = "use_dynamic_shifting"
_LARGEST_SHIFT = 1.15  # FlowMatchEulerDiscreteScheduler's default max_shift
_RETRIEVE = ("scheduler", "num_inference_steps", "device", "timesteps", "sigmas")  # as all copies of it begin
_SCHEDULER = "self.scheduler"
_SET_LATER = ("timesteps", "sigmas")  # maybe by `set_timesteps` only
_PLAIN = ("device", "dtype", "shape")  # of timesteps, whichever they are
_VARIANCE = "variance_type"
_FEW_STEPS = 2
_VIEWS, _STEPS_OF_VIEWS = 2, 4  # a tree of random numbers is in use from the third step on
_ONE_MORE = "torch.zeros((num_inference_steps + 1, "
_DTYPE = "timesteps.dtype"
_COPIED = "copy.deepcopy(self.scheduler)"  # to steer sound beside images
_STATE_COPIED = "copy.deepcopy(self.scheduler.__dict__)"
_ALL_BUT_LAST = "timesteps[:-1]"
_EACH_LEVEL = {"self.scheduler.sigmas[i]", "scheduler.sigmas[step_idx]"}  # of the step that it is at
_PERMUTED = "latents.permute("


def timestep_arguments(pipeline: str, scheduler: Any, steps: int) -> dict[str, Any]:
    """What the pipeline hands to `set_timesteps` beside steps and device.

    With dynamic shifting, mu is that of the largest size the checkpoint knows. Where the pipeline has several ways to
    call it, only what they have in common is certain.
    """
    use = _use_of(pipeline, scheduler)
    config = getattr(scheduler, "config", {})  # a class from elsewhere may have none
    given: dict[str, Any] = {name: use.source.defaults.get(name) for name in use.handed} if use else {}
    if "mu" in given or (not use and config.get(_DYNAMIC)):
        given["mu"] = config.get("max_shift") or _LARGEST_SHIFT
    if "sigmas" in given:
        given["sigmas"] = [1 - i / steps for i in range(steps)]
    if "timesteps" in given:  # CogView4, whose sigmas are those of whole timesteps
        last = config.get("num_train_timesteps", 1000)
        given["timesteps"] = [float(int(last + (1 - last) * i / max(steps - 1, 1))) for i in range(steps)]
        given["sigmas"] = [t / last for t in given["timesteps"]]
    if config.get("use_flow_sigmas") and use and use.knows_flow_sigmas:
        given.pop("sigmas", None)  # the scheduler's own are right
    return given


def misused(pipeline: str, scheduler: Any) -> str:
    """What the pipeline's loop wants of a scheduler that this one has not; empty if it has all."""
    use = _use_of(pipeline, scheduler)
    return next(_misuses(use, scheduler), "") if use else ""


def unvisited(pipeline: str, scheduler: Any, steps: int) -> str:
    """Why the pipeline cannot go to all of the timesteps that its scheduler has set; empty if it can."""
    use, count = _use_of(pipeline, scheduler), len(scheduler.timesteps)
    if use and use.more_values is not None and count > (most := steps + use.more_values):
        return f"it visits {count} timesteps, and {use.source.name} has values for {most} alone"
    if use and use.whole_timesteps and scheduler.timesteps.is_floating_point():
        return f"it visits timesteps between whole ones, which {use.source.name} refuses"
    return ""


def leaves_out_last(pipeline: str, scheduler: Any) -> bool:
    """Whether the pipeline does not evaluate its denoiser at the scheduler's last timestep."""
    use = _use_of(pipeline, scheduler)
    return use is not None and use.all_but_last


def _misuses(use: _Use, scheduler: Any) -> Iterator[str]:
    yield from _lacks(use, scheduler)
    if _VARIANCE in use.config_keys and not _takes_variance(scheduler):
        yield f"it takes no prediction of the variance, which {use.source.name} leaves to it"
    if getattr(getattr(scheduler, "contract", None), "adaptive", False) and use.computes_with_timesteps:
        yield f"it chooses its steps as it goes, and {use.source.name} computes with all timesteps beforehand"
    if use.reshapes and hasattr(scheduler, "contract"):
        yield f"it follows latents from step to step, whose shape {use.source.name} changes for each"
    if use.copies_state and not _outlives_copies(scheduler):
        yield f"its state cannot be copied, which {use.source.name} does for each of its views"
    if getattr(scheduler, "needs_unconditional", False) and not use.unconditional:
        yield (
            "it needs the denoiser's answers with and without the prompt from one batch, without first, which"
            f" {use.source.name} does not make"
        )


def _lacks(use: _Use, scheduler: Any) -> Iterator[str]:
    """What a pipeline reads or calls that is not there."""
    takes = inspect.signature(scheduler.step).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for name in use.step_keywords:
        if name not in takes and not free:
            yield f"its step takes no {name}, which {use.source.name} hands to it"
    for name in use.config_keys:
        if not hasattr(getattr(scheduler, "config", None), name):
            yield f"its config has no {name}, which {use.source.name} reads"
    for name in use.attributes:
        if not hasattr(scheduler, name):
            yield f"it has no {name}, which {use.source.name} asks for"
    for name in use.noising:
        if not hasattr(scheduler, name):
            yield f"it has no {name}, with which {use.source.name} begins from an image"


def _takes_variance(scheduler: Any) -> bool:
    """Whether it can do with what a denoiser says of the variance, in as many channels more. It is tried."""
    if not str(getattr(scheduler.config, _VARIANCE, "")).startswith("learned"):
        return True
    import torch

    trial, x = copy.deepcopy(scheduler), torch.zeros(1, 3, 2, 2)
    try:
        trial.set_timesteps(_FEW_STEPS)
        return trial.step(torch.zeros(1, 6, 2, 2), trial.timesteps[0], x, return_dict=False)[0].shape == x.shape  # type: ignore[no-any-return]
    except Exception:  # third-party code raises what it likes
        return False


def _outlives_copies(scheduler: Any) -> bool:
    """Whether it goes on from copies of its state, one for each of several views. It is tried."""
    import torch

    trial, x = copy.deepcopy(scheduler), torch.zeros(1, 4, 2, 2)
    try:
        trial.set_timesteps(_STEPS_OF_VIEWS)
        states = [copy.deepcopy(vars(trial))] * _VIEWS
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            for t, view in product(trial.timesteps, range(_VIEWS)):
                vars(trial).update(states[view])
                trial.step(x, t, trial.scale_model_input(x, t), return_dict=False)
                states[view] = copy.deepcopy(vars(trial))
    except Exception:  # third-party code raises what it likes
        return False
    return True


@dataclass(frozen=True)
class _Use:
    """What a pipeline does with a scheduler of one kind."""

    source: PipelineSource
    handed: tuple[str, ...]  # to `set_timesteps`
    step_keywords: tuple[str, ...]
    config_keys: tuple[str, ...]  # read whatever the branch, and not asked for before
    attributes: tuple[str, ...]  # likewise
    noising: tuple[str, ...]  # methods with which an image is begun from
    knows_flow_sigmas: bool
    computes_with_timesteps: bool  # with all of them, beside visiting each
    more_values: int | None  # it has a value for each step that the user asks for, and so many more; None: it has none
    whole_timesteps: bool  # others are refused
    reshapes: bool  # latents, for its steps alone
    copies_state: bool  # of the scheduler, to go back to it
    all_but_last: bool  # the last timestep is left out
    unconditional: bool  # the denoiser answers without the prompt in the first half of a batch


_uses: dict[tuple[str, str, str], _Use | None] = {}


def _use_of(pipeline: str, scheduler: Any) -> _Use | None:
    key = (pipeline, type(scheduler).__name__, repr(sorted(getattr(scheduler, "config", {}).items(), key=str)))
    if key not in _uses:
        source = loop_source(pipeline)
        _uses[key] = _read(source, source.name == pipeline, scheduler) if source else None
    return _uses[key]


def _read(source: PipelineSource, itself: bool, scheduler: Any) -> _Use:
    arguments = {"mu": source.defaults["mu"]} if "mu" in source.defaults else {}  # which no sweep gives
    conditions = Conditions(source, arguments, scheduler=scheduler)
    return _read_along(source, itself, tuple(reached(source.methods["__call__"].body, conditions)))


@lru_cache(maxsize=64)
def _read_along(source: PipelineSource, itself: bool, ways: tuple[tuple[ast.AST, bool], ...]) -> _Use:
    """Most schedulers are led the same ways."""
    nodes = [node for way, _ in ways for node in ast.walk(way)]
    certain = [node for way, sure in ways if sure for node in _unconditional(way)]
    asked = {node.value for node in nodes if isinstance(node, ast.Constant)}
    reads = [n for n in certain if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)]
    keys = dict.fromkeys(n.attr for n in reads if ast.unparse(n.value) == f"{_SCHEDULER}.config" and n.attr != "get")
    attributes = dict.fromkeys(n.attr for n in reads if ast.unparse(n.value) == _SCHEDULER and n.attr not in _SET_LATER)
    return _Use(
        source,
        handed=tuple(sorted(_handed(source, nodes))),
        step_keywords=tuple(dict.fromkeys(_step_keywords(nodes))),
        config_keys=tuple(name for name in keys if name not in asked),
        attributes=tuple(name for name in attributes if name not in asked),
        noising=_noising(source),
        knows_flow_sigmas=any(isinstance(n, ast.Attribute) and n.attr == "use_flow_sigmas" for n in nodes),
        computes_with_timesteps=any(map(_is_computation, nodes)) or _reads_levels(source),
        more_values=min((n for name, n in _a_value_each(nodes) if name in _subscripts(nodes)), default=None),
        whole_timesteps=any(isinstance(n, ast.Compare) and ast.unparse(n.left) == _DTYPE for n in nodes),
        reshapes=_reshapes(source),
        copies_state=any(isinstance(n, ast.Call) and ast.unparse(n) == _STATE_COPIED for n in nodes),
        all_but_last=_ALL_BUT_LAST in _subscripts(nodes),
        unconditional=itself and unconditional_first(source) and _COPIED not in map(ast.unparse, nodes),
    )


@cache
def _reads_levels(source: PipelineSource) -> bool:
    return bool(_EACH_LEVEL & _subscripts(source.walk(*source.methods)))


@cache
def _reshapes(source: PipelineSource) -> bool:
    return any(_PERMUTED in ast.unparse(node) for node in source.walk("__call__") if isinstance(node, ast.For))


def _subscripts(nodes: Iterable[ast.AST]) -> set[str]:
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Subscript)}


def _a_value_each(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """How lists with a value for each step are read at the i-th, and how many values more they have."""
    for node in (n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.value, ast.BinOp | ast.Call)):
        written = ast.unparse(node.value)
        more = 0 if written.endswith("] * num_inference_steps") else 1 if written.startswith(_ONE_MORE) else None
        if more is not None:
            yield from ((f"{ast.unparse(target)}[i]", more) for target in node.targets)


def _is_computation(node: ast.AST) -> bool:
    """Whether something is computed with all timesteps."""
    return isinstance(node, ast.Attribute) and node.attr not in _PLAIN and ast.unparse(node.value) == "timesteps"


def _handed(source: PipelineSource, nodes: list[ast.AST]) -> frozenset[str]:
    calls = [names for node in nodes if (names := _names_handed(source, node, nodes)) is not None]
    return frozenset.intersection(*map(frozenset, calls)) if calls else frozenset()


def _names_handed(source: PipelineSource, node: ast.AST, nodes: Iterable[ast.AST]) -> set[str] | None:
    """What a call that leads to `set_timesteps` hands over beside steps and device; None for any other node."""
    if not isinstance(node, ast.Call):
        return None
    function = ast.unparse(node.func)
    if function == f"{_SCHEDULER}.set_timesteps":
        return {k.arg for k in node.keywords if k.arg} - {"device"} | set(_spread(node, nodes))
    if function != "retrieve_timesteps" or not node.args or ast.unparse(node.args[0]) != _SCHEDULER:
        return None
    values = dict(zip(_RETRIEVE, node.args, strict=False)) | {k.arg: k.value for k in node.keywords if k.arg}
    for name in ("timesteps", "sigmas"):
        if name in values and not _has_default(source, values[name]):
            del values[name]
    return {*values, *_spread(node, nodes)} - {*_RETRIEVE[:3]}


def _spread(call: ast.Call, nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The keys of the dictionaries that a call takes its keywords from."""
    names = {ast.unparse(k.value) for k in call.keywords if k.arg is None}
    for node in (n for n in nodes if isinstance(n, ast.Assign)):
        for target in node.targets:
            if ast.unparse(target) in names and isinstance(node.value, ast.Dict):
                yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
            if isinstance(target, ast.Subscript) and ast.unparse(target.value) in names:
                yield from (str(key.value) for key in [target.slice] if isinstance(key, ast.Constant))


def _has_default(source: PipelineSource, value: ast.expr) -> bool:
    """Whether a name is given a value in `__call__` where the user has given none."""
    values = source.assigned(ast.unparse(value), "__call__") if isinstance(value, ast.Name) else []
    return any(not (isinstance(v, ast.Constant) and v.value is None) and not _is_slice(v) for v in values)


def _is_slice(value: ast.expr) -> bool:
    part = isinstance(value, ast.Subscript) and not isinstance(value.value, ast.Call)
    return part or ast.unparse(value).startswith(_SCHEDULER)


def _step_keywords(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{_SCHEDULER}.step":
            yield from (k.arg for k in node.keywords if k.arg)


def _noising(source: PipelineSource) -> tuple[str, ...]:
    """The scheduler's methods that bring an image to a noise level, as far as it is brought there."""
    called = [ast.unparse(node.func) for node in source.walk("prepare_latents") if isinstance(node, ast.Call)]
    return tuple(name for name in ("add_noise", "scale_noise") if f"{_SCHEDULER}.{name}" in called)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    """What is reached whatever the conditions within an expression."""
    yield node
    for child in [node.test] if isinstance(node, ast.IfExp) else ast.iter_child_nodes(node):
        yield from _unconditional(child)
