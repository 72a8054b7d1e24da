"""The text that A1111 writes into its images and reads back ("infotext"): a cell in its words.

What the text leaves out is taken for A1111's default when it is read: Karras for many samplers without a schedule type,
noise of the GPU without a source of random numbers, weights for words in brackets without a mode of emphasis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from schedcmp import __version__
from schedcmp.errors import RequestError
from schedcmp.files import adapter_name
from schedcmp.records import Cell
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry, SigmaSchedule
from schedcmp.registry.table import builtin_registry
from schedcmp.report.paste.subject import Subject

# Even steps: A1111's schedule of this kind ends at the first timestep, as linspace does and leading nearly
_NEAREST = {DEFAULT_SIGMAS: "Uniform", "leading": "Uniform", "linspace": "Uniform", "trailing": "SGM Uniform"}
_BRACKETS = re.compile(r"[()\[\]]")


def write(subject: Subject) -> str:
    """Raises RequestError where A1111 has no such sampler."""
    subject.names("a1111")
    if subject.entry is None:
        raise RequestError(f"a1111 has no sampler that is {subject.cell.scheduler}")
    environment = subject.environment
    generator = "cpu" if subject.sweep.get("generator", "cpu") == "cpu" else environment["device"]
    model = environment["checkpoint"]
    config = subject.config
    return a1111_parameters(subject.cell, subject.entry, config, subject.size, model=model, generator=generator) + "\n"


def a1111_parameters(
    cell: Cell, entry: Entry, config: Mapping[str, Any], size: tuple[int, int], *, model: str, generator: str
) -> str:
    """The text for a cell's image.

    Args:
        config: the scheduler's, as it ran.
        size: width and height as made, in pixels.
        model: the checkpoint's name.
        generator: the kind of device that initial noise was drawn on: "cpu", "cuda", ...
    """
    prompts = [
        cell.prompt + _adapters(cell),
        *([f"Negative prompt: {cell.negative_prompt}"] if cell.negative_prompt else []),
    ]
    literal = {"Emphasis": "None"} if not cell.prompt_syntax and any(map(_BRACKETS.search, prompts)) else {}
    fields = {
        "Steps": cell.steps,
        "Sampler": _sampler(entry),
        "Schedule type": _schedule_type(cell, config),
        "CFG scale": repr(cell.guidance_scale).removesuffix(".0"),
        "Seed": cell.seed,
        "Size": f"{size[0]}x{size[1]}",
        **({} if cell.strength is None else {"Denoising strength": f"{cell.strength:g}"}),
        "Model": model,
        "RNG": "CPU" if generator == "cpu" else "GPU",
        **literal,
        "Version": f"schedcmp {__version__}",
    }
    return "\n".join([*prompts, ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items())])


def _adapters(cell: Cell) -> str:
    """LoRAs stand in A1111's prompt, by their files' names."""
    named = ((adapter_name(place, file), weight) for place, file, weight, _ in cell.adapters)
    return "".join(f" <lora:{name}:{weight:g}>" for name, weight in named)


def _sampler(entry: Entry) -> str:
    """A1111's name for the entry, or for the one that it is but for its schedule; else its own."""
    known = builtin_registry().entries
    own = known.get(entry.base) or next((e for e in known.values() if e.also and _solver(e) == _solver(entry)), entry)
    return next(iter((entry.also or own.also).get("a1111", ())), entry.name)


def _solver(entry: Entry) -> tuple[str, dict[str, Any]]:
    spaced = {option for schedule in builtin_registry().sigma_schedules.values() for option in schedule.options}
    return entry.class_name, {name: value for name, value in entry.options.items() if name not in spaced}


def _schedule_type(cell: Cell, config: Mapping[str, Any]) -> str:
    schedules = builtin_registry().sigma_schedules
    plain = schedules[DEFAULT_SIGMAS]
    asked = schedules.get(cell.sigma_schedule, plain)
    ran = next((s for s in schedules.values() if _is_that(s, config)), plain) if asked is plain else asked
    return next(iter(ran.also.get("a1111", ())), None) or _NEAREST.get(ran.name) or ran.name.replace("-", " ").title()


def _is_that(schedule: SigmaSchedule, config: Mapping[str, Any]) -> bool:
    """Whether options that the scheduler ran with are those of a schedule."""
    options = {} if schedule.levels else schedule.options
    return bool(options) and all(config.get(name) == value for name, value in options.items())


def _quoted(value: object) -> str:
    """As A1111 does: a value with a separator in it is a JSON string."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
