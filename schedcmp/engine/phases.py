"""Tells which of a pipeline's models works at the moment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.probe import replaced

ENCODING, DENOISING, DECODING = "encoding prompts", "denoising", "decoding"
Doing = Callable[[str, int], None]


@contextmanager
def phases(pipeline: Any, doing: Doing) -> Iterator[None]:
    """While open, tells `doing` of each call of a model: its phase and how many rows it has; "" and 0 once it is over.

    A model that accelerate moves to and fro is not followed: it has replaced the same method, and will again.
    """
    with ExitStack() as stack:
        for name in pipeline.components:
            model = getattr(pipeline, name, None)
            method, phase = _followed(name)
            real = getattr(model, method, None)
            if real is not None and not (method == "forward" and hasattr(model, "_hf_hook")):
                stack.enter_context(replaced(model, method, _telling(real, phase, doing)))
        yield


def _followed(component: str) -> tuple[str, str]:
    """The method of a component that does the work, and the name of that work."""
    if component in DENOISERS:
        return "forward", DENOISING
    if component.startswith("text_encoder"):
        return "forward", ENCODING
    return ("decode", DECODING) if component == "vae" else ("", "")


def _telling(real: Callable[..., Any], phase: str, doing: Doing) -> Callable[..., Any]:
    @functools.wraps(real)  # its signature tells the engine which argument is what
    def telling(*args: Any, **kwargs: Any) -> Any:
        first = next(iter((*args, *kwargs.values())), ())
        doing(phase, len(first) if hasattr(first, "__len__") else 0)
        try:
            return real(*args, **kwargs)
        finally:
            doing("", 0)

    return telling
