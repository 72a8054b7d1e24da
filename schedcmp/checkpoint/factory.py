"""A pipeline that a function of the user's own makes, named by its path as scheduler classes are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from schedcmp.checkpoint.given import Given, given
from schedcmp.errors import CheckpointError, PartError, one_line
from schedcmp.guard.foreign import IMPORT_S, contained

_KEY = ("python",)


def made(path: str, options: Mapping[str, Any]) -> Given:
    """What the function at a dotted path gives for these arguments, which it is called with once.

    Raises:
        PartError: there is none, it fails, or gives something else than one of diffusers' pipelines.
    """
    module, _, name = path.rpartition(".")
    try:
        with contained(IMPORT_S):
            function = getattr(import_module(module), name)
    except Exception as error:  # importing runs somebody's code
        raise PartError(_KEY, f"{path} cannot be imported ({one_line(error)}); correct it.") from error
    try:
        with contained():
            pipeline = function(**options)
    except Exception as error:
        raise PartError(_KEY, f"{path} failed ({type(error).__name__}: {one_line(error)}); correct it.") from error
    try:
        found = given(pipeline, name=f"python:{path}")
    except CheckpointError as error:
        raise PartError(_KEY, f"{path}: {error}") from error
    for model in found.models:
        model.eval()
    return found
