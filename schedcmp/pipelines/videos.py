"""Which pipelines make videos, and how fast these are meant to be played."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from schedcmp.pipelines.arithmetic import Arithmetic, Configs
from schedcmp.pipelines.inputs import returned
from schedcmp.pipelines.source import PipelineSource, pipeline_file, pipeline_source

FRAMES = "frames"  # what pipelines call what they return
_RATES = ("frame_rate", "fps")  # arguments that some models know the speed by
_EXAMPLE = re.compile(r"export_to_\w+\(.*?\bfps=(\d+)")
_USUAL = 8.0  # of `diffusers.utils.export_to_gif`


@cache
def makes_video(pipeline: str) -> bool:
    """Whether a class of diffusers returns frames."""
    source = pipeline_source(pipeline)
    return source is not None and any(FRAMES in names for names in returned(source))


def frames_per_second(pipeline: str, call: Mapping[str, Any]) -> float:
    """The rate that the model is told, by an argument of the call or its default; else that of the class's example."""
    source = pipeline_source(pipeline)
    told = {**(source.defaults if source else {}), **call}
    rates = [told[name] for name in _RATES if isinstance(told.get(name), int | float) and told[name] > 0]
    return float(rates[0]) if rates else _of_example(pipeline)


def frames_refusal(pipeline: str, configs: Configs, counts: Iterable[int]) -> str:
    """Why the pipeline would round a number of frames, and the nearest that it makes; empty if it makes all."""
    source = pipeline_source(pipeline)
    for each, rest in _remainders(source, configs) if source else ():
        for count in counts:
            below = count - (count - rest) % each
            if below != count:
                near = [str(n) for n in (below, below + each) if n > 0]
                return f"{count} is not made by {pipeline} with this checkpoint; take {' or '.join(near)}"
    return ""


def _remainders(source: PipelineSource, configs: Configs) -> Iterator[tuple[int, int]]:
    """What a number of frames is divided by, and what must be left over: `num_frames % 4 != 1`."""
    for method in ("check_inputs", "__call__"):
        for node in source.walk(method):
            match node:
                case ast.Compare(
                    left=ast.BinOp(left=ast.Name(id="num_frames"), op=ast.Mod(), right=right),
                    ops=[ast.NotEq()],
                    comparators=[ast.Constant(value=int(rest))],
                ) if each := Arithmetic(source, configs, method).value(right):
                    yield each, rest


@cache
def _of_example(pipeline: str) -> float:
    path = pipeline_file(pipeline)
    found = _EXAMPLE.search(path.read_text(encoding="utf-8")) if path else None
    return float(found[1]) if found else _USUAL
