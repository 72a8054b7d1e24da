"""A cell's scheduler as the engines hand it to a pipeline: with the cell's random numbers, and looked after."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import AbstractContextManager
from functools import partial
from types import MethodType
from typing import Any

import torch

_METHODS = ("set_timesteps", "scale_model_input", "step")  # what pipelines call
# By class: what computes its coefficients. LMS integrates its polynomials by adaptive quadrature, 1 to 4 ms a step.
_COSTLY = {"LMSDiscreteScheduler": "get_lms_coefficient"}


def put_around(scheduler: Any, name: str, work: Callable[..., Any]) -> None:
    """Put `work`, which is given the method as a function and all that this takes, in a method's place. In a deep copy
    of the scheduler, as LTX-2 makes one for sound, it is the copy's."""
    method = function_of(scheduler, name)

    @functools.wraps(method)  # pipelines inspect its signature
    def instead(*args: Any, **kwargs: Any) -> Any:
        return work(method, *args, **kwargs)

    setattr(scheduler, name, MethodType(instead, scheduler))


def function_of(scheduler: Any, name: str) -> Callable[..., Any]:
    """A method as a function of the scheduler and its arguments."""
    method = getattr(scheduler, name)
    if getattr(method, "__self__", None) is scheduler:
        return method.__func__  # type: ignore[no-any-return]

    def function(_: Any, *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    signature = inspect.signature(method)  # pipelines inspect it
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    vars(function)["__signature__"] = signature.replace(parameters=[first, *signature.parameters.values()])
    return function


def seeded(scheduler: Any, generator: torch.Generator | list[torch.Generator]) -> Any:
    """The scheduler, drawing its noise from the cells' generators even where a pipeline does not hand them on.

    Those of Stable Diffusion 3 and Flux do not, so that noise would come from the global generator.
    """
    if hasattr(scheduler, "generator"):  # a sampler function may draw before the first step
        scheduler.generator = generator
    if "generator" in inspect.signature(scheduler.step).parameters:
        put_around(scheduler, "step", lambda step, *args, **more: step(*args, **{"generator": generator} | more))
    return scheduler


def checked(scheduler: Any) -> Any:
    """The scheduler, whose steps raise TypeError where they return anything else than latents of the same shape.

    A decoder takes other sizes and makes another image of them. Its attribute `was_used` tells whether it made a step.
    """
    name = type(scheduler).__name__
    scheduler.was_used = False

    def checking(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        scheduler.was_used = True
        result = step(*args, **kwargs)
        before = kwargs["sample"] if "sample" in kwargs else args[3] if len(args) > 3 else None
        after = result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None)
        if after is not None and isinstance(before, torch.Tensor):
            _refuse_other(name, before, after)
        return result

    put_around(scheduler, "step", checking)
    return scheduler


def _refuse_other(name: str, before: torch.Tensor, after: Any) -> None:
    if not isinstance(after, torch.Tensor):
        what = f"{type(after).__name__} for latents"
    elif after.shape != before.shape:
        what = f"{tuple(after.shape)} for latents of shape {tuple(before.shape)}"
    elif after.is_floating_point() != before.is_floating_point():
        what = f"{after.dtype} for latents of {before.dtype}"
    else:
        return
    raise TypeError(f"{name}.step returned {what}: mend it, or take another scheduler")


def within(scheduler: Any, context: Callable[[], AbstractContextManager[None]]) -> Any:
    """The scheduler, each call of which runs inside a context of its own."""

    def inside(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with context():
            return method(*args, **kwargs)

    for name in filter(partial(hasattr, scheduler), _METHODS):
        put_around(scheduler, name, inside)
    return scheduler


def remembered(scheduler: Any, memo: MutableMapping[Hashable, Any]) -> Any:
    """The scheduler, taking from `memo` the coefficients that another with the same noise levels has computed: they
    cost more than a step and are the same in every lane."""
    name = _COSTLY.get(type(scheduler).__name__, "")
    if not name:
        return scheduler

    def remembering(compute: Callable[..., Any], own: Any, *args: Any) -> Any:
        key = (name, *own.sigmas.tolist(), *args)
        if key not in memo:
            memo[key] = compute(own, *args)
        return memo[key]

    put_around(scheduler, name, remembering)
    return scheduler
