"""InvokeAI's metadata: JSON in its images, or lines of a name and a value."""

from __future__ import annotations

import re
from typing import Any

from schedcmp.remake.made import Made
from schedcmp.remake.reading import Text

_LINE = re.compile(r"([a-z_]{1,40}): ?(.*)")
_QUIET = {"app_version", "generation_mode", "rand_device", "model", "ref_images", "metadata_version"}
_KEYS = ("scheduler", "positive_prompt")


def read(text: Text) -> Made | None:
    """None for what is none of its."""
    data = text.data if text.data is not None else _lines(text.text)
    if not isinstance(data, dict) or not all(key in data for key in _KEYS):
        return None
    fields, made = dict(data), Made("InvokeAI", "invokeai")
    take = fields.pop
    made.prompt = made.text(take("positive_prompt"))
    made.negative_prompt = made.text(take("negative_prompt", ""))
    made.sampler = str(take("scheduler"))
    made.numbers(fields, "steps", "cfg_scale", "seed")
    made.size(take("width", None), take("height", None))
    made.model = _model(fields.get("model"))
    if fields.get("rand_device", "cpu") != "cpu":
        made.keys["generator"] = "device"
    skip = made.whole("clip_skip", take("clip_skip", 0), 0, 12)
    if skip:
        made.keys["call"] = {"clip_skip": skip}
    for name, value in fields.items():
        if name not in _QUIET and value not in (None, "", [], {}, False, 0):
            made.lose(str(name), value)
    return made


def _lines(text: str) -> dict[str, str] | None:
    """Lines of `name: value`; one that is none goes on with the value before it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += f"\n{line}"
    return found or None


def _model(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    return str(value.get("name") or value.get("model_name") or "")
