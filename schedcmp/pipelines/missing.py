"""What becomes of an argument of a pipeline's call that nobody gives, followed through its source."""

from __future__ import annotations

import ast

from schedcmp.pipelines.conditions import Conditions, reached
from schedcmp.pipelines.source import PipelineSource


def read_without(source: PipelineSource, name: str) -> bool:
    """Whether the call reads the image `name` though it is None, whatever else it is given."""
    for way, certain in reached(source.methods["__call__"].body, Conditions(source, {name: None})):
        nodes = [*ast.walk(way)] if certain else []
        if any(_is_read(node, name) for node in nodes):
            return True
        if any(_ends(node, name) for node in nodes):
            return False
    return False


def _is_read(node: ast.AST, name: str) -> bool:
    """By diffusers' image processors, which refuse None."""
    match node:
        case ast.Call(func=ast.Attribute(attr="preprocess"), args=[first, *_]):
            return ast.unparse(first) == name
    return False


def _ends(node: ast.AST, name: str) -> bool:
    """Whether the way ends here, or the image is another one from here on."""
    set_anew = isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    return set_anew or isinstance(node, ast.Return | ast.Raise)
