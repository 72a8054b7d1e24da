"""The values of axes as cells have them, and as they are said."""

from __future__ import annotations

import json
from typing import Any

NOTHING = ("", None)


def text(value: Any) -> str:
    """A value in a word; a number as short as it can be without becoming another one."""
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return "none" if value in NOTHING else str(value)


def plain_name(token: str) -> str:
    """Of an image that cells are given, without the hash of its pixels."""
    return token.rpartition("@")[0]


def arguments(call: str) -> dict[str, Any]:
    """Of the pipeline's call, as `Cell.call` has them."""
    return dict(json.loads(call)) if call else {}


def adapters(lora: str) -> list[tuple[str, str, float, str]]:
    """Of a LoRA's value, as `Cell.adapters` has them."""
    return [tuple(adapter) for adapter in json.loads(lora)["adapters"]] if lora else []


def lora_name(lora: str) -> str:
    """The label of a LoRA's value, as `Cell.lora` has it."""
    return str(json.loads(lora)["name"]) if lora else "none"


def worn_again(lora: str) -> Any:
    found = [{"path": path, "file": file or None, "weight": weight} for path, file, weight, _ in adapters(lora)]
    return [{"name": lora_name(lora), "adapters": found}]


def canonical(value: Any) -> str:
    """Equal for arguments that are equal: 4 and 4.0, but not 1 and true."""
    return json.dumps(float(value) if type(value) is int else value)


AS_WRITTEN = "plain"  # of prompts; a cell says nothing where they are taken so


def pixels(width: int | None, height: int | None) -> str:
    return f"{width}x{height}" if width or height else "own"
