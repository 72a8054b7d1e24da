"""Which class of diffusers runs a checkpoint's parts for a task: from an image, into a mask, led by a ControlNet."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.inputs import argument_names, leads_by_mask, needs
from schedcmp.pipelines.source import pipeline_source

# By the images that are given: the table of `diffusers.pipelines.auto_pipeline`, and what the task is called
_TASKS: Mapping[frozenset[str], tuple[str, str]] = {
    frozenset(): ("AUTO_TEXT2IMAGE_PIPELINES_MAPPING", "text to image"),
    frozenset({"image"}): ("AUTO_IMAGE2IMAGE_PIPELINES_MAPPING", "image to image"),
    frozenset({"image", "mask"}): ("AUTO_INPAINT_PIPELINES_MAPPING", "inpainting"),
}
# What diffusers has and its tables lack
_MISSING = {"AUTO_INPAINT_PIPELINES_MAPPING": ("qwenimage-controlnet", "QwenImageControlNetInpaintPipeline")}
_CONTROLNET = "-controlnet"  # in the tables' names of families; "-pag" stands behind it
_UNION = "-union"  # of a ControlNet that is led in several ways; stands behind that
_WIDTHS = (  # of what a ControlNet reads beside latents and its image, as the denoiser does
    "cross_attention_dim",
    "projection_class_embeddings_input_dim",
    "addition_time_embed_dim",
    "block_out_channels",
    "joint_attention_dim",
    "pooled_projection_dim",
)
_MODE = "control_mode"  # the call's argument
_MODES = ("num_control_type", "num_mode")  # in a ControlNet's config: how many ways


def task_pipeline(own: str, given: Collection[str], *, controlnet: str = "") -> str:
    """The class that takes these images: the checkpoint's own if it does, else its family's for the task.

    Args:
        own: the class that the checkpoint was saved as.
        given: keys of the sweep that have images of the task, see `_TASKS`.
        controlnet: the class of the ControlNet that the sweep names, beside what the checkpoint has.

    Raises:
        ValueError: there is none; the message begins with the key that is to blame.
    """
    if "mask" in given and "image" not in given:
        raise ValueError("mask: says where an image is repainted, and there is none; add `image`")
    names = argument_names(own)
    if not given and not controlnet:
        return own
    if set(given) <= names.keys() and {*needs(own)} <= {names[key] for key in given}:
        return own
    family = _family(own)
    led = bool(controlnet) or _CONTROLNET in family  # others are led by their own denoiser
    if "control_image" in given and "-control" not in family and not led:
        raise ValueError(f"control_image: {own} has nothing that it could lead; add `controlnet`, or leave it out")
    table, task = _TASKS[frozenset(given) - {"control_image"}]
    union = _UNION if "Union" in controlnet or f"{_CONTROLNET}{_UNION}" in family else ""
    plain = family.replace(f"{_CONTROLNET}{_UNION}", "").replace(_CONTROLNET, "")
    pag = plain[len(plain.removesuffix("-pag")) :]
    wanted = plain.removesuffix("-pag") + _CONTROLNET + union + pag if led else plain
    found = _tables().get(table, {}).get(wanted)
    masked = found is not None and leads_by_mask(found)
    if led and found and not masked and "control_image" not in given:
        raise ValueError("controlnet: is led by an image, and there is none; add `control_image`")
    if masked and "control_image" in given:
        raise ValueError(f"control_image: {found} is led by `image` and `mask` themselves; leave it out")
    if not family or found is None or not set(given) <= argument_names(found).keys():
        key = next(iter(given), "controlnet")
        kind = f"{task}{' with a ControlNet' if led else ''}"
        raise ValueError(f"{key}: diffusers has no pipeline for {kind} beside {own}; take another checkpoint")
    return found


def unfit_controlnet(pipeline: str, configs: Configs, call: Collection[str]) -> str:
    """Why a pipeline does not run with the ControlNet that it has; empty if it does, or if that is not known.

    Args:
        call: further arguments that the sweep has.
    """
    config = configs("controlnet")
    source, cls = pipeline_source(pipeline), config.get("_class_name")
    init = source.methods.get("__init__") if source else None
    for argument in init.args.args if init else ():
        if argument.arg == "controlnet" and argument.annotation and cls:
            takes = [n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name) and "Net" in n.id]
            if takes and cls not in takes:
                own = min(takes, key=len)  # the others are of several at once
                return f"is a {cls}, and {pipeline} takes a {own}; give one that was made for this checkpoint"
    denoiser = configs("unet") or configs("transformer")
    for key in (name for name in _WIDTHS if config.get(name) and denoiser.get(name)):
        if config[key] != denoiser[key]:
            return f"has {key}: {config[key]}, and the checkpoint {denoiser[key]}; give one that was made for it"
    modes = next((config[key] for key in _MODES if config.get(key)), 0)
    if modes and source and _MODE in source.arguments and _MODE not in call:
        return f"is led in {modes} ways; say by which one, as in call: {{{_MODE}: 0}}"
    return ""


def _family(pipeline: str) -> str:
    """What the tables call it; empty where they do not know it."""
    known = (family for table in _tables().values() for family, name in table.items() if name == pipeline)
    return next(known, "")


@cache
def _tables() -> dict[str, dict[str, str]]:
    """Of `auto_pipeline`: table → family → class, read without importing any of them."""
    spec = find_spec("diffusers.pipelines")
    assert spec is not None
    assert spec.submodule_search_locations
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "auto_pipeline.py").read_text(encoding="utf-8"))
    tables: dict[str, dict[str, str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=table)], value=ast.Call(args=[ast.List(elts=rows)])):
                pairs = [[ast.unparse(part) for part in row.elts] for row in rows if isinstance(row, ast.Tuple)]
                tables.setdefault(table, {}).update({ast.literal_eval(key): name for key, name in pairs})
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=table), slice=key)], value=ast.Name(id=name)):
                tables.setdefault(table, {})[str(ast.literal_eval(key))] = name
    for table, (family, name) in _MISSING.items():
        tables[table].setdefault(family, name)
    return {table: rows for table, rows in tables.items() if "PIPELINES_MAPPING" in table}
