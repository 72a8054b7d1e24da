"""Which size a pipeline makes of the one that it is asked for, by the lines of its call that choose another."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from logging import CRITICAL, Logger
from typing import Any

import numpy as np

from schedcmp.pipelines.arithmetic import Arithmetic, Configs, size_text
from schedcmp.pipelines.source import PipelineSource, module_source, pipeline_source

Size = tuple[int, int]  # width, height, in pixels

_CALL = "__call__"
_PROMPTS_ARE_READ = "encode"  # what is called height afterwards may be that of latents
_MADE_FIT = "resize_and_crop_tensor"  # brings images to the size that was asked for
_TRIES = 4  # until a size stays as it is


def chosen_instead(pipeline: str, configs: Configs, sizes: Iterable[Size], calls: Iterable[Mapping[str, Any]]) -> str:
    """Why a size is none that the pipeline makes, though it takes it, and which one it does; empty if it makes all.

    Args:
        calls: further arguments of the call, which may say how sizes are chosen.
    """
    for size, call in product(sizes, calls):
        made = made_size(pipeline, configs, size, call)
        if made == size:
            continue
        best = made
        for _ in range(_TRIES):
            best = made_size(pipeline, configs, best, call)
        keeps = made_size(pipeline, configs, best, call) == best
        told = f"take {size_text(best)}" if keeps else "leave it out"
        return f"{size_text(size)} is not made by {pipeline}, which makes {size_text(made)} of it; {told}"
    return ""


def made_size(pipeline: str, configs: Configs, size: Size, call: Mapping[str, Any]) -> Size:
    """What becomes of a size; the same one, where the source does not tell."""
    source = pipeline_source(pipeline)
    if source is None or any(isinstance(n, ast.Attribute) and n.attr == _MADE_FIT for n in source.walk(_CALL)):
        return size
    lines = list(_choosing(source))
    if not any(_names(line, ast.Store) & {"width", "height"} for line in lines):
        return size
    own = Arithmetic(source, configs, _CALL)
    known = _surroundings(pipeline)
    known |= {name: own.value(default) for name, default in source.written_defaults.items()}
    known |= {**call, "width": size[0], "height": size[1], "self": _Part(source, configs)}
    try:
        exec(compile(ast.Module(lines, type_ignores=[]), pipeline, "exec"), known)
        return int(known["width"]), int(known["height"])
    except Exception:  # asks for more than is known before the pipeline is loaded
        return size


class _Part:
    """The pipeline, as far as its `__init__` and its configs tell."""

    def __init__(self, source: PipelineSource, configs: Configs) -> None:
        self._own = Arithmetic(source, configs, _CALL)

    def __getattr__(self, name: str) -> Any:
        value = self._own.value(ast.parse(f"self.{name}", mode="eval").body)
        if value is None:
            raise AttributeError(name)
        return value


def _choosing(source: PipelineSource) -> Iterator[ast.stmt]:
    """The statements of the call, before it reads prompts, that width and height come from."""
    body = source.methods[_CALL].body
    first = next((i for i, line in enumerate(body) if _reads_prompts(line)), len(body))
    wanted, found = {"width", "height"}, []
    for line in reversed(body[:first]):
        if isinstance(line, ast.Assign | ast.AugAssign | ast.If) and _names(line, ast.Store) & wanted:
            wanted |= _names(line, ast.Load)
            found.append(line)
    return reversed(found)


def _reads_prompts(line: ast.stmt) -> bool:
    return any(isinstance(node, ast.Attribute) and _PROMPTS_ARE_READ in node.attr for node in ast.walk(line))


def _names(line: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    return {n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}


def _surroundings(pipeline: str) -> dict[str, Any]:
    """What the pipeline's module has beside it, as far as that needs no other."""
    there: dict[str, Any] = {"np": np, "math": math}
    tree = module_source(pipeline)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign | ast.FunctionDef):
            try:
                exec(compile(ast.Module([node], type_ignores=[]), pipeline, "exec"), there)
            except Exception:  # imports what is not imported here
                continue
    return there | {"logger": Logger(pipeline, CRITICAL)}
