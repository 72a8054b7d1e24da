"""Which arguments of a pipeline's call a sweep may give, and which it has keys or ways of its own for."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from schedcmp.axes import OPTIONAL
from schedcmp.errors import shown
from schedcmp.pipelines.source import pipeline_source

_KEYS: Mapping[str, str] = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "guidance_scale": "guidance_scale",
    "num_inference_steps": "steps",
    "generator": "seeds",
    "width": "width",
    "height": "height",
    "num_images_per_prompt": "seeds",
    "timesteps": "sigmas",
    "sigmas": "sigmas",
    "image": "image",
    "mask_image": "mask",
    "control_image": "control_image",
    "control_mask": "mask",
    "ip_adapter_image": "ip_adapter_image",
    **{axis.argument: axis.key for axis in OPTIONAL if axis.argument},
}
_ALSO: Mapping[str, tuple[str, ...]] = {"num_frames": ("frames", "video_length")}  # as some pipelines call it
# What is no number or text that a sweep could have, or would keep an image from being made
_NOT_HERE = ("latents", "mu", "return_dict", "output_type", "callback")
_TENSORS = ("_embeds", "_mask", "_image", "_latents")


def refused_arguments(pipeline: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(argument, why it cannot be given); of a class that is not diffusers' nothing is known."""
    source = pipeline_source(pipeline)
    known = sorted(source.arguments) if source else []
    for name in names:
        if name in _KEYS:
            yield name, f"{name} is this sweep's key {_KEYS[name]}"
        elif not _may_be_given(name):
            yield name, f"{name} cannot be given in a sweep"
        elif known and name not in known:
            near = get_close_matches(name, known, n=1)
            others = ", ".join(n for n in known if n not in _KEYS and _may_be_given(n))
            told = f"did you mean {near[0]}?" if near else f"it takes: {others}"
            yield name, f"{pipeline} takes no {shown(name)}; {told}"


def tuples(pipeline: str) -> list[str]:
    """Arguments of the call that are tuples and may be no lists."""
    source = pipeline_source(pipeline)
    return [name for name, argument in source.arguments.items() if _is_tuple(argument)] if source else []


def as_taken(names: Collection[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments with tuples under these `names`: a sweep's file has lists alone."""
    return {n: tuple(value) if n in names and isinstance(value, list) else value for n, value in arguments.items()}


def _is_tuple(argument: ast.arg) -> bool:
    written = ast.unparse(argument.annotation).lower() if argument.annotation else ""
    return "tuple[" in written and "list[" not in written


def called_by(pipeline: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the call that are a sweep's keys, as the pipeline calls them."""
    return {_name_of(pipeline, name): value for name, value in arguments.items()}


def _name_of(pipeline: str, argument: str) -> str:
    source = pipeline_source(pipeline)
    takes = source.arguments if source else {}
    return next((name for name in _ALSO.get(argument, ()) if argument not in takes and name in takes), argument)


def not_taken(pipeline: str, sweep: Any) -> Iterator[tuple[str, str]]:
    """(key, why it cannot be given), of a sweep's keys that are arguments of the call as they are."""
    source = pipeline_source(pipeline)
    for axis in OPTIONAL:
        name = axis.argument and _name_of(pipeline, axis.argument)
        if source and name and getattr(sweep, axis.key) and name not in source.arguments:
            yield axis.key, f"{pipeline} takes no {axis.argument}"


def _may_be_given(name: str) -> bool:
    return name not in _NOT_HERE and not name.startswith("callback") and not name.endswith(_TENSORS)
