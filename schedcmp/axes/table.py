"""The table of axes: what a sweep may have several of, and everything that differs between one axis and another.

Ids, folders, labels, the order of grids and their pages, columns of tables, what `exclude` and `zip` take, which images
may be compared, and the page's choices come from here. An axis more is a row, and a field of the sweep and of `Cell`:
see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from schedcmp.axes.axis import INPUT_ROLES, Axis
from schedcmp.axes.words import (
    AS_WRITTEN,
    arguments,
    canonical,
    lora_name,
    pixels,
    plain_name,
    text,
    worn_again,
)

if TYPE_CHECKING:
    from schedcmp.axes.setting import Setting


def _files(name: str, key: str, title: str, short: str) -> Axis:
    """Images that cells are given; a cell has the name and a hash of its own."""
    return Axis(
        name=name, key=key, title=title, role="content", short=short, optional=True, depth=1, named=True, pictured=True,
        rule="names of images",
        known_as=lambda c: (getattr(c, name), plain_name(getattr(c, name))),
        label=lambda token: f"{short} {plain_name(token) or 'none'}",
        folder=lambda c: f"{short}-{getattr(c, name).replace('@', '-') or 'none'}",
        again=lambda c: {},  # the files are the sweep's to know
    )  # fmt: skip


_ROWS = (
    Axis(
        name="scheduler", key="schedulers", title="Scheduler", role="solver", subject="The scheduler", shown=True,
        depth=5, named=True, rule="names, with or without a sigma schedule", label=str,
        known_as=lambda c: (c.scheduler, c.base),
    ),
    Axis(
        name="sigma_schedule", key="sigmas", title="Sigmas", role="solver", short="sigma", shown=True,
        named=True, rule="names; `sigmas` is the same key",
        label=lambda value: f"{value} sigmas",
    ),
    Axis(
        name="shift", title="Shift", role="solver", optional=True,
        label=lambda value: f"shift {value or 'of the checkpoint'}",
    ),
    Axis(
        name="steps", title="Steps", role="solver", subject="The number of steps", shown=True, depth=6, digits=3,
        lengths=lambda sweep: {"steps": len(sweep.steps)} if isinstance(sweep.steps, tuple) else {},
        label=lambda value: f"{value} steps" if value != 1 else "1 step",
        again=lambda c: {"steps": [c.steps]},
    ),
    Axis(
        name="nfe", title="NFE", role="solver", fields=("nfe_budget",), show=lambda budget: budget or 0,
        label=lambda value: f"up to {value} NFE",
    ),
    Axis(name="seed", key="seeds", title="Seed", role="noise", subject="The seed", shown=True, depth=7, digits=4),
    Axis(
        name="prompt", title="Prompt", role="content", by_name="prompt_name", subject="The prompt", shown=True,
        depth=0, prose=True, named=True, rule="names of prompts, or prompts",
        unrolled=lambda sweep: [{"prompt_name": name, "prompt": text} for name, text in sweep.prompt.items()],
        known_as=lambda c: (c.prompt_name, c.prompt),
        label=str,
        folder=lambda c: c.prompt_name,
        request=lambda c: {"prompt": [c.prompt, c.negative_prompt]},
        again=lambda c: {"prompt": {c.prompt_name: c.prompt}},
    ),
    Axis(
        name="negative_prompt", title="Negative prompt", role="content", short="negative",
        subject="The negative prompt", depth=1, prose=True,
        label=lambda value: f"negative prompt: {value or 'none'}",
        request=lambda c: {},  # with the prompt
    ),
    Axis(
        name="prompt_syntax", title="Prompts read as", role="content", short="syntax", optional=True, depth=1,
        subject="How prompts are read",
        unrolled=lambda sweep: [
            {"prompt_syntax": "" if name == AS_WRITTEN else name} for name in sweep.prompt_syntax or ("",)
        ],
        known_as=lambda c: (c.prompt_syntax or AS_WRITTEN,),
        show=lambda value: value or AS_WRITTEN,
        label=lambda value: f"prompts {value}",
        again=lambda c: {"prompt_syntax": [c.prompt_syntax]} if c.prompt_syntax else {},
    ),
    Axis(
        name="guidance_scale", title="Guidance", role="setting", short="guidance", subject="Guidance", shown=True,
        depth=3, label=lambda value: f"guidance {value:g}",
    ),
    _files("init_image", "image", "Image", "image"),
    _files("mask", "mask", "Mask", "mask"),
    _files("control_image", "control_image", "Control image", "control"),
    _files("ip_adapter_image", "ip_adapter_image", "IP-Adapter image", "adapter-image"),
    Axis(
        name="ip_adapter_scale", title="IP-Adapter", role="setting", short="adapter", optional=True, depth=3,
        subject="The IP-Adapter's scale", label=lambda value: f"IP-Adapter {text(value)}",
    ),
    Axis(
        name="strength", title="Strength", role="setting", optional=True, argument="strength", depth=3,
    ),
    Axis(
        name="size", title="Size", role="setting", fields=("width", "height"), subject="The size", depth=2,
        unrolled=lambda sweep: [{"width": width, "height": height} for width, height in sweep.sizes],
        known_as=lambda c: (pixels(c.width, c.height),),
        show=lambda width, height: f"{width or 'default'} × {height or 'default'}",
        label=lambda value: f"{value} px",
        brief=lambda width, height: f"{width}×{height}" if width else "default size",
        folder=lambda c: f"size-{pixels(c.width, c.height)}",
        request=lambda c: {"size": [c.width, c.height]},
        again=lambda c: {"size": pixels(c.width, c.height), "width": None, "height": None} if c.width else {},
    ),
    Axis(
        name="num_frames", title="Frames", role="setting", short="frames", optional=True, argument="num_frames",
        depth=2, subject="The number of frames", label=lambda value: f"{value} frames",
    ),
    Axis(
        name="lora", title="LoRA", role="setting", subject="The LoRA", optional=True, depth=4,
        named=True, rule="labels",
        unrolled=lambda sweep: [{"lora": lora.text} for lora in sweep.lora or ()] or [{}],
        known_as=lambda c: (lora_name(c.lora),),
        show=lora_name,
        label=lambda value: "no LoRA" if value == "none" else value,
        folder=lambda c: f"lora-{lora_name(c.lora)}",
        request=lambda c: {"lora": c.worn},
        columns=lambda c: {"lora": lora_name(c.lora)},
        again=lambda c: {"lora": worn_again(c.lora) if c.lora else None},
    ),
    Axis(
        name="call", title="Call", role="setting", subject="What else the call is given", optional=True, depth=4,
        unrolled=lambda sweep: [{"call": call} for call in sweep.calls],
        lengths=lambda sweep: {f"call.{name}": len(values) for name, values in sweep.call.items()},
        known_as=lambda c: {name: (canonical(value),) for name, value in c.arguments.items()},
        show=lambda call: ", ".join(f"{name} {value}" for name, value in arguments(call).items()),
        label=str,
        folder=lambda c: "call-" + "-".join(f"{name}-{value}" for name, value in c.arguments.items()),
        request=lambda c: {"call": c.arguments},
        columns=lambda c: {f"call.{name}": value for name, value in c.arguments.items()},
        again=lambda c: {"call": c.arguments} if c.call else {},
    ),
    Axis(
        name="model", title="Model", role="setting", subject="The checkpoint", optional=True, kept=False, depth=-1,
        named=True,
        rule="labels, where `model` lists several",
        unrolled=lambda sweep: [{}],  # a run each, see `sweep.models`
        lengths=lambda sweep: {},
        label=str,
        again=lambda c: {},
    ),
)  # fmt: skip

AXES: Mapping[str, Axis] = {axis.name: axis for axis in _ROWS}
# What else a grid or a rule may call an axis: as the sweep does
SYNONYMS: Mapping[str, str] = {"guidance": "guidance_scale"} | {a.key: a.name for a in _ROWS if a.key != a.name}
INPUTS = tuple(axis for axis in _ROWS if axis.role in INPUT_ROLES)  # in the order of a sweep's cells
SETTING = tuple(axis for axis in INPUTS if axis.role == "setting")
CONTENT = tuple(axis for axis in INPUTS if axis.role == "content")
PAGED = tuple(sorted((a for a in _ROWS if a.depth is not None), key=lambda axis: axis.depth or 0))  # outermost first
FOLDERS = tuple(axis for axis in PAGED if axis in INPUTS and axis.kept)
PLAIN = tuple(axis for axis in INPUTS if not axis.optional)
OPTIONAL = tuple(axis for axis in _ROWS if axis.optional)


def is_guided(of: Setting) -> bool:
    """Whether each evaluation takes two rows, in most pipelines."""
    return (of.guidance_scale or 0) > 1
