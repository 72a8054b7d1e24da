"""Where in its steps a pipeline begins that is given an image and a strength, by its own arithmetic."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.pipelines.source import pipeline_source

_METHOD = "get_timesteps"  # (steps, strength, device) → (the timesteps that are left, how many steps these are)


def begun(pipeline: str, scheduler: Any, steps: int, strength: float | None) -> Any:
    """The timesteps that the pipeline's loop visits; tells the scheduler where it begins, as the pipeline does.

    Args:
        scheduler: after its `set_timesteps`.
        strength: None for a pipeline that takes none.
    """
    rule = _rule(pipeline) if strength is not None else None
    if rule is None:
        return scheduler.timesteps
    if {"sigmas", "timesteps"} & timestep_arguments(pipeline, scheduler, steps).keys():
        steps = len(scheduler.timesteps)  # diffusers' `retrieve_timesteps` counts these, as many as evaluations
    return rule(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")[0]


def default_strength(pipeline: str) -> float | None:
    """What the pipeline takes where nobody gives a strength; None where it takes none."""
    source = pipeline_source(pipeline)
    return source.defaults.get("strength") if source else None


@lru_cache(maxsize=8)
def _rule(pipeline: str) -> Callable[..., Any] | None:
    """The class's method, from its source: it asks nothing of the pipeline but its scheduler."""
    source = pipeline_source(pipeline)
    method = source.methods.get(_METHOD) if source else None
    if method is None:
        return None
    found: dict[str, Any] = {}
    exec(compile(ast.Module([method], type_ignores=[]), pipeline, "exec"), {}, found)
    return found[_METHOD]  # type: ignore[no-any-return]
