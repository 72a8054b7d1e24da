"""Infotext of AUTOMATIC1111's web UI and of Forge: the prompt, the negative prompt, and a line of settings."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from schedcmp.remake.made import Made
from schedcmp.remake.reading import Text

_LONGEST = 200_000
_NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*(\w[\w \-/]{1,60}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # as A1111 reads it back
_FEWEST = 3  # fields of a line of settings; with fewer it belongs to the prompt
_SAID_ELSEWHERE = {"Version", "Model hash", "Emphasis"}


def read(text: Text) -> Made | None:
    """None for what is no infotext."""
    if text.data is not None or len(text.text) > _LONGEST:
        return None
    *lines, last = text.text.strip().split("\n")
    fields = {name.strip(): _unquoted(value.strip()) for name, value in _FIELD.findall(last)}
    if len(fields) < _FEWEST or not {"Steps", "Sampler"} & fields.keys():
        return None
    made = Made("A1111 or Forge", "a1111")
    if fields.get("Version", "").startswith("schedcmp"):
        made.program, made.place = "schedcmp", ""
    prompt, _, negative = "\n".join(lines).partition(_NEGATIVE)
    made.prompt, made.negative_prompt = made.text(prompt), made.text(negative)
    _settings(made, fields)
    return made


def _settings(made: Made, fields: dict[str, str]) -> None:
    take = fields.pop
    made.sampler, made.schedule = take("Sampler", ""), take("Schedule type", "")
    made.numbers(fields, "Steps", "CFG scale", "Seed")
    width, _, height = take("Size", "").partition("x")
    made.size(width, height)
    made.model = take("Model", "")
    source = take("RNG", "GPU")
    if source != "CPU":
        made.keys["generator"] = "device"
        if source != "GPU":
            made.lose("RNG", source)
    skipped = made.whole("Clip skip", take("Clip skip", 1), 1, 12)
    if skipped and skipped > 1:
        made.keys["call"] = {"clip_skip": skipped - 1}  # diffusers counts from the layer before the last
    for name, value in fields.items():
        if name not in _SAID_ELSEWHERE:
            made.lose(name, value)


def _unquoted(value: str) -> str:
    with suppress(ValueError):
        return str(json.loads(value)) if value.startswith('"') else value
    return value
