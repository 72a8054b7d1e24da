"""`clip_skip`: the last layers of a text encoder that a pipeline leaves out, and where it fails at that."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.source import PipelineSource, pipeline_source

CLIP_SKIP = "clip_skip"
_ENCODERS = ("text_encoder", "text_encoder_2")  # those that are CLIP's
_PART = "text_model"  # of CLIP in transformers


def skip_refusal(pipeline: str, configs: Configs, values: Iterable[object]) -> str:
    """Why a pipeline fails at one of these values; empty if it takes all."""
    source = pipeline_source(pipeline)
    most = max((value for value in values if isinstance(value, int)), default=0)
    if source is None or not most:
        return ""
    if any(isinstance(n, ast.Attribute) and n.attr == _PART for n in ast.walk(source.tree)) and not _clip_has_part():
        return (
            f"{CLIP_SKIP}: {pipeline} asks CLIP for its {_PART}, which it has not in transformers"
            f" {version('transformers')}; leave it out"
        )
    further = _further(source)
    for name in _ENCODERS:
        config = configs(name)
        layers = config.get("num_hidden_layers")
        if layers and "clip" in str(config.get("model_type")) and most + further > layers + 1:
            return f"{CLIP_SKIP} {most} leaves none of the {layers} layers of this checkpoint's {name}; take less"
    return ""


def _further(source: PipelineSource) -> int:
    """The place from the end of what is read without skipping: 1 is what the last layer gives."""
    for node in ast.walk(source.tree):
        match node:
            case ast.BinOp(left=ast.Name(id="clip_skip"), op=ast.Add(), right=ast.Constant(value=int(n))):
                return n
    return 1


@cache
def _clip_has_part() -> bool:
    """Whether transformers' CLIP is a model in a model, as it was."""
    spec = find_spec("transformers.models.clip.modeling_clip")
    text = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    classes = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == "CLIPTextModel")
    return any(isinstance(n, ast.Attribute) and n.attr == _PART for cls in classes for n in ast.walk(cls))
