"""What a pipeline means by guidance, and where it and negative prompts change nothing, by its source and configs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.source import PipelineSource, pipeline_source

_ALWAYS, _NEVER = float("-inf"), float("inf")
_RULES = ("__call__", "do_classifier_free_guidance")
_THIRDS = "do_perturbed_attention_guidance"  # whose batch has a third part
_TRUE, _DISTILLED = "true_cfg_scale", "distilled_guidance_scale"
_SCHEDULE = "guidance_schedule"  # which would be taken instead of a guidance_scale
_EVERY_OTHER = "noise_pred[::2]"
_STABLE_DIFFUSION, _OFF = 7.5, 1.0
_NO_TEXT = " "  # guidance by true_cfg_scale is on with a negative prompt alone


def guidance_arguments(
    pipeline: str, configs: Configs, scale: float, negative: str, call: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The arguments of the pipeline's call that a guidance scale and a negative prompt ("" for none) stand for.

    Args:
        call: further arguments, which win.
    """
    return spelled_guidance(guidance_names(pipeline, configs), scale, negative, call)


def guidance_names(pipeline: str, configs: Configs) -> list[str]:
    """The argument that guidance is, and the one that must be None beside it; those that the pipeline has."""
    source = pipeline_source(pipeline)
    name = guided_by(source, configs) if source else "guidance_scale"
    scheduled = source is not None and _SCHEDULE in source.arguments
    return [*filter(None, [name]), *([_SCHEDULE] if name and scheduled else [])]


def spelled_guidance(
    names: Sequence[str], scale: float, negative: str, call: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """As `guidance_arguments`, of a pipeline that has these `guidance_names`."""
    given: dict[str, Any] = {"negative_prompt": negative} if negative else {}
    if not names or names[0] in call:
        return given
    if names[0] == _TRUE and scale > 1:
        given.setdefault("negative_prompt", _NO_TEXT)
    others = {name: None for name in names[1:] if name not in call}
    return {names[0]: scale, **others, **given}


def guided_by(source: PipelineSource, configs: Configs) -> str | None:
    """The argument that says how much a pipeline guides; None where there is none.

    It is `true_cfg_scale` where the pipeline means that by guidance, that is, where it is on by default.
    """
    default = source.defaults.get(_TRUE)
    if isinstance(default, int | float) and default > 1 and not _distilled(configs):
        return _TRUE
    if _DISTILLED in source.arguments and _distilled(configs):
        return _DISTILLED
    return "guidance_scale" if "guidance_scale" in source.arguments else None


def default_guidance(pipeline: str, configs: Configs) -> float:
    """What the pipeline's own call takes where nobody gives a guidance scale: of a schedule the first.

    1, which is off, where it takes none; Stable Diffusion's, of a class that is not diffusers'.
    """
    source = pipeline_source(pipeline)
    if source is None:
        return _STABLE_DIFFUSION
    name = guided_by(source, configs)
    written = [source.written_defaults[key] for key in (name, _SCHEDULE) if key in source.written_defaults]
    constants = [node for default in written for node in ast.walk(default) if isinstance(node, ast.Constant)]
    values = [node.value for node in sorted(constants, key=lambda node: (node.lineno, node.col_offset))]
    return next((float(value) for value in values if isinstance(value, int | float)), _OFF)


def _distilled(configs: Configs) -> bool:
    """Whether guidance is an input of the transformer."""
    return bool(configs("transformer").get("guidance_embeds"))


def inert_guidance(
    pipeline: str,
    configs: Configs,
    scales: Sequence[float],
    negatives: Sequence[str],
    call: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> Iterator[str]:
    """Sentences on what of a sweep's guidance and negative prompts changes nothing.

    Args:
        call: values of further arguments of the call.
    """
    source = pipeline_source(pipeline)
    if source is None:
        return
    if any(negatives) and (why := _unread(source, configs, call)):
        yield f"negative_prompt changes nothing: {why}; leave it out"
        negatives = ()
    if why := _unguided(source, configs, call):
        yield f"guidance_scale changes nothing: {why}; leave it out"
        return
    limit = 1.0 if guided_by(source, configs) == _TRUE else guided_above(source)
    off = [scale for scale in scales if scale <= limit]
    if limit in (_ALWAYS, _NEVER) or _embeds(source, configs) or not off:
        return
    told = f"{source.name} guides above {limit:g}"
    listed = ", ".join(f"{scale:g}" for scale in off)
    if any(negatives):
        yield f"negative_prompt changes nothing at guidance_scale {listed}: {told}"
    if len(off) > 1:
        yield f"guidance_scale {listed} are one setting, off: {told}"


def guided_above(source: PipelineSource) -> float:
    """The guidance that a negative prompt needs more than; infinite where it is never read."""
    for method in _RULES:
        for node in source.walk(method):
            value = node.value if isinstance(node, ast.Return) else None
            if method != "__call__" and isinstance(value, ast.Constant) and value.value is False:
                return _NEVER
            if isinstance(node, ast.Compare) and _asks_for_guidance(node):
                return float(ast.literal_eval(node.comparators[0]))
    return _ALWAYS


def unconditional_first(source: PipelineSource) -> bool:
    """Whether the denoiser answers with and without the prompt in one batch, without first, and the scheduler is given
    a mixture of these answers as they are."""
    halves, changed = False, False
    for node in source.walk("__call__"):
        match node:
            case ast.Assign(
                targets=[ast.Tuple(elts=[first, _])], value=ast.Call(func=ast.Attribute(attr="chunk")) as call
            ):
                halves |= "uncond" in ast.unparse(first) and [ast.unparse(a) for a in call.args] == ["2"]
            case ast.Assign(
                targets=[ast.Name(id="noise_pred")], value=ast.UnaryOp(operand=inner) | ast.Subscript(value=inner)
            ):
                changed |= ast.unparse(inner) == "noise_pred"
    return halves and not changed and not _mentions(source, _THIRDS)


@cache
def is_for_one_image(pipeline: str) -> bool:
    """Whether answers with and without the prompt are told apart as every other row, while embeddings are in halves:
    of several images in a call, some would get the wrong ones."""
    source = pipeline_source(pipeline)
    parts = (node for node in source.walk("__call__") if isinstance(node, ast.Subscript)) if source else ()
    return any(ast.unparse(part) == _EVERY_OTHER for part in parts)


def _asks_for_guidance(node: ast.Compare) -> bool:
    left = ast.unparse(node.left).removeprefix("self.").removeprefix("_")
    right = node.comparators[0]
    return left == "guidance_scale" and isinstance(node.ops[0], ast.Gt) and isinstance(right, ast.Constant)


def _unread(source: PipelineSource, configs: Configs, call: Mapping[str, Sequence[Any]]) -> str:
    """Why no negative prompt is read, whatever the guidance."""
    scale = max(call.get(_TRUE, ()), default=source.defaults.get(_TRUE))
    if "negative_prompt" not in source.arguments:
        return f"{source.name} takes none"
    if isinstance(scale, int | float) and scale <= 1:
        return f"{source.name} reads it with a true_cfg_scale above 1, and runs with {scale:g}"
    if configs("unet").get("time_cond_proj_dim") is not None:
        return "this checkpoint was distilled and has its guidance as an input of the UNet"
    return f"{source.name} never reads it" if guided_above(source) == _NEVER else ""


def _unguided(source: PipelineSource, configs: Configs, call: Mapping[str, Sequence[Any]]) -> str:
    """Why guidance is not looked at."""
    name = guided_by(source, configs)
    if name is None:
        return f"{source.name} takes none"
    if name in call:
        return f"`call` has {name}"
    if name == "guidance_scale" and _mentions(source, "guidance_embeds") and not _distilled(configs):
        return "this checkpoint has no place for it (guidance_embeds is false)"
    return ""


def _embeds(source: PipelineSource, configs: Configs) -> bool:
    """Whether guidance is an input of the denoiser, at every value."""
    if guided_by(source, configs) == _TRUE:
        return False
    return _mentions(source, "guidance_embeds") or configs("unet").get("time_cond_proj_dim") is not None


def _mentions(source: PipelineSource, word: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == word for node in source.walk("__call__"))
