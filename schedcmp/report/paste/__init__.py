"""A cell of a run as what people paste elsewhere: lines of Python, settings of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name

from schedcmp.errors import RequestError
from schedcmp.report.paste.subject import Subject

_WRITERS = {
    "diffusers": "diffusers_code:write",
    "a1111": "infotext:write",
    "comfyui": "comfyui:write",
    "comfyui-workflow": "comfyui:write_workflow",
    "invokeai": "invokeai:write",
}
FORMS = tuple(_WRITERS)
_WITH_IMAGES = ("diffusers", "a1111")


def paste(subject: Subject, form: str) -> str:
    """The text in one of `FORMS`. Raises RequestError where that program has no such sampler, or it has no images."""
    if subject.cell.images and form not in _WITH_IMAGES:
        raise RequestError(
            f"{form}'s text begins with noise and a prompt alone, and this cell with an image; --as diffusers has it"
        )
    write: Callable[[Subject], str] = resolve_name(f"{__name__}.{_WRITERS[form]}")
    return write(subject)


__all__ = ["FORMS", "Subject", "paste"]
