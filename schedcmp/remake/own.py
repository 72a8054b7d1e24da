"""What this project writes into its own images."""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schedcmp.axes import INPUTS
from schedcmp.axes.words import NOTHING
from schedcmp.errors import RegistryError
from schedcmp.records import solver_of
from schedcmp.registry.table import builtin_registry
from schedcmp.remake.made import Made
from schedcmp.remake.reading import Text
from schedcmp.sweep.keys import Keys

_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_OURS = re.compile(r"(schedcmp\.samplers\.\w+\.)?\w+")  # any other dotted path would run somebody's code


def read(text: Text) -> Made | None:
    """None for what is nobody's of ours."""
    data = text.data
    if not isinstance(data, dict) or not isinstance(data.get("cell"), dict) or "scheduler_config" not in data:
        return None
    cell, made = dict(data["cell"]), Made("schedcmp")
    made.prompt, made.negative_prompt = made.text(cell.get("prompt")), made.text(cell.get("negative_prompt"))
    made.numbers(cell, "steps", "guidance_scale", "seed")
    if cell.get("width") is not None:
        made.size(cell.get("width"), cell.get("height"))
    _further(made, cell)
    made.entry = _entry(made, data, cell)
    _environment(made, data, cell)
    return made


def _further(made: Made, cell: dict[str, Any]) -> None:
    """Numbers that the call was given; the other axes that an image need not have are told, as files are not in it."""
    axes = {axis: cell.get(axis.fields[0]) for axis in INPUTS if axis.optional and axis.kept}
    given = {axis: value for axis, value in axes.items() if value not in NOTHING}
    from_images = any(axis.pictured for axis in given)
    for axis, value in given.items():
        if axis.argument and not from_images and _may_be(axis.key, value):
            made.keys[axis.key] = value
        else:
            made.lose(axis.key, value, f"give it as `{axis.key}:`")


def _may_be(key: str, value: object) -> bool:
    """Whether a number may be the value of a sweep's key."""
    taken: Any = Keys.model_fields[key].annotation
    try:
        TypeAdapter(taken).validate_python(value)
    except ValidationError:
        return False
    return isinstance(value, int | float)


def _entry(made: Made, data: dict[str, Any], cell: dict[str, Any]) -> Any:
    """The scheduler's name, or what it is where the registry knows none of that name."""
    label = str(cell.get("scheduler", ""))
    label = solver_of(label) or label
    shift = str(cell.get("shift") or "")
    if shift:
        made.keys["shift"] = [shift]
        label = label.removesuffix(f" shift={shift}")
    try:
        builtin_registry().entry(label)
    except RegistryError:
        return _own_entry(made, data, label)
    return label


def _own_entry(made: Made, data: dict[str, Any], label: str) -> Any:
    cls, config = data.get("class"), data["scheduler_config"]
    if not isinstance(cls, str) or not _OURS.fullmatch(cls) or not isinstance(config, dict):
        made.lose("the scheduler", label, "its class is somebody's own, which no image may name")
        return None
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    if "_levels" in config:
        made.lose("its list of noise levels")
    name = re.sub(r"[^A-Za-z0-9 ._+-]", "-", label)[:64].strip() or "mine"
    return {"name": f"own {name}"[:64], "class": cls, "options": options}


def _environment(made: Made, data: dict[str, Any], cell: dict[str, Any]) -> None:
    found = data.get("environment")
    environment: dict[str, Any] = found if isinstance(found, dict) else {}
    made.model = str(environment.get("checkpoint") or "")
    if data.get("generator") == "device":
        made.keys["generator"] = "device"
    if dtype := _DTYPES.get(str(environment.get("dtype"))):
        made.keys["dtype"] = dtype
    if optimized := environment.get("optimize"):
        made.lose("optimize", optimized)
