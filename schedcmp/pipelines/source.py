"""A pipeline class of diffusers as its source has it: methods, arguments, and what they do with an object's parts."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Components whose evaluations are NFE
DENOISERS = ("unet", "transformer", "transformer_2", "unconditional_transformer")


@dataclass(frozen=True)
class PipelineSource:
    """The parsed class; methods that it inherits are not there."""

    name: str
    tree: ast.ClassDef

    @cached_property
    def methods(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    @cached_property
    def arguments(self) -> dict[str, ast.arg]:
        """Of `__call__`, without self."""
        call = self.methods["__call__"].args
        return {a.arg: a for a in [*call.posonlyargs, *call.args, *call.kwonlyargs][1:]}

    @cached_property
    def written_defaults(self) -> dict[str, ast.expr]:
        """Of `__call__`'s arguments."""
        call = self.methods["__call__"].args
        names = [a.arg for a in [*call.posonlyargs, *call.args]]
        pairs = [*zip(names[len(names) - len(call.defaults) :], call.defaults, strict=True)]
        pairs += [(a.arg, d) for a, d in zip(call.kwonlyargs, call.kw_defaults, strict=True) if d is not None]
        return dict(pairs)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Of `__call__`'s arguments, where they are literals."""
        found = {}
        for name, node in self.written_defaults.items():
            with suppress(ValueError):
                found[name] = ast.literal_eval(node)
        return found

    def walk(self, *methods: str) -> Iterator[ast.AST]:
        """All that stands in these methods."""
        for name in methods:
            yield from _nodes(self, name)

    def assigned(self, target: str, *methods: str) -> list[ast.expr]:
        """What is assigned to a name or attribute, as it is written ("self.vae_scale_factor")."""
        return [value for name in methods for value in _assigned(self, name).get(target, ())]


@lru_cache(maxsize=64)
def _nodes(source: PipelineSource, method: str) -> Sequence[ast.AST]:
    found = source.methods.get(method)
    return tuple(ast.walk(found)) if found else ()


@lru_cache(maxsize=64)
def _assigned(source: PipelineSource, method: str) -> Mapping[str, list[ast.expr]]:
    """By target, in a method."""
    found: dict[str, list[ast.expr]] = {}
    for node in (n for n in _nodes(source, method) if isinstance(n, ast.Assign)):
        for target in dict.fromkeys(map(ast.unparse, node.targets)):
            found.setdefault(target, []).append(node.value)
    return found


@lru_cache(maxsize=8)
def pipeline_source(name: str) -> PipelineSource | None:
    """The class called `name`, or None where diffusers has none with a `__call__` of its own."""
    tree = module_source(name)
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None) if tree else None
    source = PipelineSource(name, found) if found else None
    return source if source and "__call__" in source.methods else None


@lru_cache(maxsize=8)
def module_source(name: str) -> ast.Module | None:
    """The module that has the pipeline class `name`; None where diffusers has none."""
    path = pipeline_file(name)
    return ast.parse(path.read_text(encoding="utf-8")) if path and path.is_file() else None


def loop_source(name: str) -> PipelineSource | None:
    """The class whose `__call__` has the loop over the timesteps: a pipeline's own, or that of one it is made of."""
    source = pipeline_source(name)
    for node in source.walk("__init__") if source else ():
        if isinstance(node, ast.Call) and any(ast.unparse(k.value) == "scheduler" for k in node.keywords):
            inner = pipeline_source(ast.unparse(node.func))
            if inner:
                return inner
    return source


def pipeline_file(name: str) -> Path | None:
    """Where diffusers' lazy modules, which know it by their tables, would import the class from."""
    place = "diffusers.pipelines"
    while True:
        table = getattr(import_module(place), "_class_to_module", None)
        if table is None or name not in table:
            return None
        inner = f"{place}.{table[name]}"
        spec = find_spec(inner)
        if spec is None or not spec.submodule_search_locations:
            return Path(spec.origin) if spec and spec.origin else None
        place = inner
