"""Packages that a pipeline needs beside schedcmp's own dependencies, by diffusers' tables and the pipeline's source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec

from schedcmp.pipelines.source import module_source

_DUMMIES = re.compile(r"dummy_(\w+)_objects$")  # diffusers' modules of what it cannot import
_ASKED = re.compile(r"is_(\w+)_available\(\)")
_EXTRA = {"bs4", "ftfy", "sentencepiece"}  # what `families` has


def missing_packages(pipeline: str) -> list[str]:
    """The packages that a pipeline class cannot do without and that are not installed."""
    return [name for name in packages(pipeline) if find_spec(name) is None]


def packages(pipeline: str) -> list[str]:
    """The packages that a pipeline class cannot do without, by the names that they are imported under."""
    table = getattr(import_module("diffusers"), "_class_to_module", {})
    dummy = _DUMMIES.search(table.get(pipeline, ""))
    if dummy:
        return dummy[1].split("_and_")
    tree = module_source(pipeline)
    return sorted(set(_used(tree))) if tree else []


def install(names: Iterable[str]) -> str:
    """The command that installs packages."""
    wanted = sorted(set(names))
    extra = ['"schedcmp[families]"'] if _EXTRA & {*wanted} else []
    return f"pip install {' '.join([*extra, *(name for name in wanted if name not in _EXTRA)])}"


def _used(tree: ast.Module) -> Iterator[str]:
    """What is imported only if it is there, and used whether it is there or not.

    Not by the pipeline itself, which may ask for it (`clean_caption`), but by functions and classes beside it.
    """
    guarded = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.If) and _ASKED.search(ast.unparse(node.test))
        for inner in node.body
        if isinstance(inner, ast.Import)
        for alias in inner.names
    }
    pipelines = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Pipeline")]
    for beside in (node for node in tree.body if node not in pipelines):
        for function in (node for node in ast.walk(beside) if isinstance(node, ast.FunctionDef)):
            if not _ASKED.search(ast.unparse(function)):
                yield from (n.id for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in guarded)
