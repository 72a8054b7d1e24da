"""A cell of a run as what people paste elsewhere: lines of Python, settings of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name

from schedcmp.axes import OPTIONAL
from schedcmp.errors import RequestError
from schedcmp.records import Cell
from schedcmp.report.paste.subject import Subject

_WRITERS = {
    "diffusers": "diffusers_code:write",
    "a1111": "infotext:write",
    "comfyui": "comfyui:write",
    "comfyui-workflow": "comfyui:write_workflow",
    "invokeai": "invokeai:write",
}
FORMS = tuple(_WRITERS)
# Axes that an image need not have and that the text of another program has a place for, or its user
_ANYWHERE = ("prompt_syntax", "lora")
_PLACES: Mapping[str, tuple[str, ...]] = {
    "a1111": (*_ANYWHERE, "init_image", "mask", "strength"),
    "comfyui": (*_ANYWHERE, "num_frames"),
    "comfyui-workflow": (*_ANYWHERE, "num_frames"),
    "invokeai": _ANYWHERE,
}


def paste(subject: Subject, form: str) -> str:
    """The text in one of `FORMS`. Raises RequestError where it would make another image: that program has no such
    sampler, or its text no place for something."""
    if form in _PLACES and (left := [*_left_out(subject.cell, form)]):
        raise RequestError(f"{form}'s text has no place for {', '.join(left)}; --as diffusers has it")
    write: Callable[[Subject], str] = resolve_name(f"{__name__}.{_WRITERS[form]}")
    return write(subject)


def _left_out(cell: Cell, form: str) -> Iterator[str]:
    for axis in OPTIONAL:
        if axis.kept and axis.is_set(cell) and axis.name not in _PLACES[form]:
            yield axis.label(axis.shown_of(cell))


__all__ = ["FORMS", "Subject", "paste"]
