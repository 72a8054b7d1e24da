"""Coefficients that cost more than a step and are the same in every lane: they depend on the noise levels alone."""

from __future__ import annotations

import functools
from collections.abc import Hashable, MutableMapping
from typing import Any

# By class: the method that computes them. LMS integrates its polynomials by adaptive quadrature, 1 to 4 ms a step.
_METHODS = {"LMSDiscreteScheduler": "get_lms_coefficient"}


def remembered(scheduler: Any, memo: MutableMapping[Hashable, Any]) -> Any:
    """The scheduler, taking from `memo` what another with the same noise levels has computed."""
    name = _METHODS.get(type(scheduler).__name__, "")
    if not name:
        return scheduler
    compute = getattr(scheduler, name)

    @functools.wraps(compute)
    def remembering(*args: Any) -> Any:
        key = (name, *scheduler.sigmas.tolist(), *args)
        if key not in memo:
            memo[key] = compute(*args)
        return memo[key]

    setattr(scheduler, name, remembering)
    return scheduler
