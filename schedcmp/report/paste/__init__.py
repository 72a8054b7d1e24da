"""A cell of a run as what people paste elsewhere: lines of Python, settings of other programs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from schedcmp.report.paste.subject import Subject

_WRITERS = {
    "diffusers": "diffusers_code",
    "a1111": "a1111",
    "comfyui": "comfyui",
    "comfyui-workflow": "comfyui_workflow",
    "invokeai": "invokeai",
}
FORMS = tuple(_WRITERS)


def paste(subject: Subject, form: str) -> str:
    """The text in one of `FORMS`. Raises RequestError where that program has no such sampler."""
    write: Callable[[Subject], str] = import_module(f"schedcmp.report.paste.{_WRITERS[form]}").write
    return write(subject)


__all__ = ["FORMS", "Subject", "paste"]
