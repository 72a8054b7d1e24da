"""A cell's scheduler as the engines hand it to a pipeline: with the cell's random numbers, and looked after."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import AbstractContextManager
from types import MethodType
from typing import Any

import torch

Around = Callable[[], AbstractContextManager[None]]

_METHODS = ("set_timesteps", "scale_model_input", "step")  # what pipelines call
# By class: what computes its coefficients. LMS integrates its polynomials by adaptive quadrature, 1 to 4 ms a step.
_COSTLY = {"LMSDiscreteScheduler": "get_lms_coefficient"}


def shadow(scheduler: Any, name: str, method: Callable[..., Any]) -> None:
    """Put a function of the scheduler and its arguments in a method's place. In a deep copy of the scheduler, as LTX-2
    makes one for sound, it is the copy's."""
    setattr(scheduler, name, MethodType(method, scheduler))


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
        step = function_of(scheduler, "step")

        @functools.wraps(step)  # pipelines inspect its signature
        def with_generator(*args: Any, **kwargs: Any) -> Any:
            return step(*args, **{"generator": generator} | kwargs)

        shadow(scheduler, "step", with_generator)
    return scheduler


def checked(scheduler: Any) -> Any:
    """The scheduler, whose steps raise TypeError where they return anything else than latents of the same shape.

    A decoder takes other sizes and makes another image of them. Its attribute `was_used` tells whether it made a step.
    """
    step, name = function_of(scheduler, "step"), type(scheduler).__name__
    scheduler.was_used = False

    @functools.wraps(step)
    def checking(*args: Any, **kwargs: Any) -> Any:
        scheduler.was_used = True
        result = step(*args, **kwargs)
        before = kwargs["sample"] if "sample" in kwargs else args[3] if len(args) > 3 else None
        after = result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None)
        if after is not None and isinstance(before, torch.Tensor):
            _refuse_other(name, before, after)
        return result

    shadow(scheduler, "step", checking)
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


def within(scheduler: Any, around: Around) -> Any:
    """The scheduler, each call of which runs inside a context of its own."""
    for name in _METHODS:
        if hasattr(scheduler, name):
            shadow(scheduler, name, _inside(around, function_of(scheduler, name)))
    return scheduler


def _inside(around: Around, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with around():
            return method(*args, **kwargs)

    return inside


def remembered(scheduler: Any, memo: MutableMapping[Hashable, Any]) -> Any:
    """The scheduler, taking from `memo` the coefficients that another with the same noise levels has computed: they
    cost more than a step and are the same in every lane."""
    name = _COSTLY.get(type(scheduler).__name__, "")
    if not name:
        return scheduler
    compute = function_of(scheduler, name)

    @functools.wraps(compute)
    def remembering(own: Any, *args: Any) -> Any:
        key = (name, *own.sigmas.tolist(), *args)
        if key not in memo:
            memo[key] = compute(own, *args)
        return memo[key]

    shadow(scheduler, name, remembering)
    return scheduler
