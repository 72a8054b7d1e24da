"""The table of axes: what a sweep may have several of, and everything that differs between one axis and another.

Ids, folders, labels, the order of grids and their pages, columns of tables, what `exclude` and `zip` take, which images
may be compared, and the page's choices come from here. An axis more is a row, and a field of the sweep and of `Cell`:
see docs/extending.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from schedcmp.records import Cell
    from schedcmp.sweep.document import Sweep

Value = str | int | float
_NOTHING = ("", None)
_INPUTS = ("content", "setting")  # roles of what a cell is asked for beside its scheduler, steps and noise
_INNERMOST = 4  # of the inputs
_BY_NAME: Any = None  # a default that follows from the rest of the row


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that a sweep may have several of. Most of a row follows from its name.

    Attributes:
        name: in `grid` and `exclude`.
        title: its head on the page.
        role: "content" is what images show, and what schedulers are compared over; "setting" is what images that are
            compared have in common. Both, with the noise, are a cell's task. "solver" is what is compared.
        key: of the sweep, and in `zip`; the name by default.
        fields: of `Cell`, its value; the name by default.
        by_name: the field of `Cell` that has a short name for the value. In another plan it may name another value.
        short: in words and names of files; the name by default.
        subject: begins "... changed nothing"; None: another axis tells its values apart.
        optional: an image need not have it. Without it there is no column, no word of it and no part in an id.
        shown: above grids and in a cell's details also where it does not vary.
        depth: in folders and among pages of grids, 0 outermost; None: none of its own, as another axis implies it.
        digits: at least so many in names of files.
        prose: a text that people write; above a grid it has a line of its own.
        kept: a run's store has it; else it is what tells runs apart that are read as one.
        argument: of the pipeline's call, where the value is handed over as it is.
        named: `exclude` takes names, not values as the key has them.
        rule: what `exclude` takes, for people; by default what the key does.
        unrolled: sweep → its values, each as fields of `Cell`.
        lengths: sweep → how many values there are, by what `zip` may call them; all combinations make the axis.
        known_as: cell → what `exclude` may call its value; or by the part of the axis that it names, as texts.
        show: fields → the value in a grid.
        label: that value → words, as in "20 steps".
        brief: fields → words for one part of a setting; by default the label.
        folder: cell → its folder, where a sweep has several values.
        request: cell → what an id is made of, by name.
        columns: cell → its columns in results.csv.
        again: cell → keys of a sweep that has this value alone, None for one that it must not have; by default none of
            what is compared, as a scheduler's name alone does not say it.
    """

    name: str
    title: str
    role: Literal["solver", "noise", "content", "setting"]
    key: str = _BY_NAME
    fields: tuple[str, ...] = _BY_NAME
    by_name: str = ""
    short: str = _BY_NAME
    subject: str | None = None
    optional: bool = False
    shown: bool = False
    depth: int | None = None
    digits: int = 1
    prose: bool = False
    kept: bool = True
    argument: str = ""
    named: bool = False
    rule: str = _BY_NAME
    unrolled: Callable[[Sweep], Iterable[Mapping[str, Any]]] = _BY_NAME
    lengths: Callable[[Sweep], Mapping[str, int]] = _BY_NAME
    known_as: Callable[[Cell], Any] = _BY_NAME
    show: Callable[..., Value] = lambda value: value
    label: Callable[[Any], str] = _BY_NAME
    brief: Callable[..., str] = _BY_NAME
    folder: Callable[[Cell], str] = _BY_NAME
    request: Callable[[Cell], Mapping[str, Any]] = _BY_NAME
    columns: Callable[[Cell], Mapping[str, Any]] = _BY_NAME
    again: Callable[[Cell], Mapping[str, Any]] = _BY_NAME

    def __post_init__(self) -> None:
        key, fields, short = self.key or self.name, self.fields or (self.name,), self.short or self.name
        own = fields[0]
        defaults: dict[str, Any] = {
            "key": key,
            "fields": fields,
            "short": short,
            "rule": f"as in the sweep's `{key}`",
            "subject": f"The {short}" if self.role in _INPUTS else None,
            "depth": _INNERMOST if self.role in _INPUTS else None,
            "unrolled": lambda sweep: [{own: value} for value in getattr(sweep, key) or ()] or [{}],
            "lengths": lambda sweep: {key: len(values)} if (values := getattr(sweep, key)) is not None else {},
            "known_as": lambda cell: (getattr(cell, own),),
            "label": lambda value: f"{short} {text(value)}",
            "brief": lambda *values: self.label(self.show(*values)),
            "folder": lambda cell: f"{short}-{text(self.shown_of(cell))}",
            "request": lambda cell: {self.name: getattr(cell, own)},
            "columns": lambda cell: {name: getattr(cell, name) for name in filter(None, (self.by_name, *fields))},
            "again": lambda cell: {key: [getattr(cell, own)]} if self.role != "solver" and self.is_set(cell) else {},
        }
        for name, default in defaults.items():
            if getattr(self, name) is _BY_NAME:
                object.__setattr__(self, name, default)

    def zipped(self, sweep: Sweep) -> dict[str, int]:
        """By what `zip` may call the axis or a part of it: how many values there are."""
        lengths = dict(self.lengths(sweep))
        return lengths and {**lengths, self.key: prod(lengths.values())}

    def of(self, cell: Cell | Setting) -> tuple[Any, ...]:
        """A cell's value: all of its fields."""
        return tuple([getattr(cell, name) for name in self.fields])

    def is_set(self, cell: Cell | Setting) -> bool:
        """Whether a cell has it at all."""
        return not self.optional or any(getattr(cell, name) not in _NOTHING for name in self.fields)

    def shown_of(self, cell: Cell) -> Value:
        """A cell's value in a grid."""
        return getattr(cell, self.by_name) if self.by_name else self.show(*self.of(cell))


def text(value: Any) -> str:
    """A value in a word; a number as short as it can be without becoming another one."""
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return "none" if value in _NOTHING else str(value)


def plain_name(token: str) -> str:
    """Of an image that cells are given, without the hash of its pixels."""
    return token.rpartition("@")[0]


def arguments(call: str) -> dict[str, Any]:
    """Of the pipeline's call, as `Cell.call` has them."""
    return dict(json.loads(call)) if call else {}


def adapters(lora: str) -> list[tuple[str, str, float, str]]:
    """Of a LoRA's value, as `Cell.adapters` has them."""
    return (
        [(place, file, weight, digest) for place, file, weight, digest in json.loads(lora)["adapters"]] if lora else []
    )


def lora_name(lora: str) -> str:
    """The label of a LoRA's value, as `Cell.lora` has it."""
    return str(json.loads(lora)["name"]) if lora else "none"


def _worn_again(lora: str) -> Any:
    found = [{"path": path, "file": file or None, "weight": weight} for path, file, weight, _ in adapters(lora)]
    return [{"name": lora_name(lora), "adapters": found}]


def canonical(value: Any) -> str:
    """Equal for arguments that are equal: 4 and 4.0, but not 1 and true."""
    return json.dumps(float(value) if type(value) is int else value)


def _pixels(width: int | None, height: int | None) -> str:
    return f"{width}x{height}" if width or height else "own"


def _files(name: str, key: str, title: str, short: str) -> Axis:
    """Images that cells are given; a cell has the name and a hash of its own."""
    return Axis(
        name=name, key=key, title=title, role="content", short=short, optional=True, depth=1, named=True,
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
        known_as=lambda c: (_pixels(c.width, c.height),),
        show=lambda width, height: f"{width or 'default'} × {height or 'default'}",
        label=lambda value: f"{value} px",
        brief=lambda width, height: f"{width}×{height}" if width else "default size",
        folder=lambda c: f"size-{_pixels(c.width, c.height)}",
        request=lambda c: {"size": [c.width, c.height]},
        again=lambda c: {"size": _pixels(c.width, c.height), "width": None, "height": None} if c.width else {},
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
        again=lambda c: {"lora": _worn_again(c.lora) if c.lora else None},
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
INPUTS = tuple(axis for axis in _ROWS if axis.role in _INPUTS)  # in the order of a sweep's cells
SETTING = tuple(axis for axis in INPUTS if axis.role == "setting")
CONTENT = tuple(axis for axis in INPUTS if axis.role == "content")
PAGED = tuple(sorted((a for a in _ROWS if a.depth is not None), key=lambda axis: axis.depth or 0))  # outermost first
FOLDERS = tuple(axis for axis in PAGED if axis in INPUTS and axis.kept)
PLAIN = tuple(axis for axis in INPUTS if not axis.optional)
OPTIONAL = tuple(axis for axis in _ROWS if axis.optional)
SETTING_FIELDS = tuple(name for axis in SETTING for name in axis.fields)
_WIDTH, _HEIGHT = map(SETTING_FIELDS.index, AXES["size"].fields)

_setting = attrgetter(*SETTING_FIELDS)
_plain_task = attrgetter(*(name for axis in PLAIN for name in axis.fields), "seed")
_task_extras = tuple(axis for axis in INPUTS if axis.optional)


def task_of(cell: Cell) -> tuple[Any, ...]:
    """All but the scheduler and its steps, as plain data: deterministic schedulers of one task head for one image."""
    return (*_plain_task(cell), *(_extra(axis, cell) for axis in _task_extras if axis.is_set(cell)))


def _extra(axis: Axis, cell: Cell) -> str:
    told = axis.request(cell)
    return json.dumps(told["call"] if axis.name == "call" else told)


def request_of(cell: Cell) -> dict[str, Any]:
    """What an id says of a cell beside its scheduler, steps and seed."""
    told = (axis.request(cell) for axis in (*PLAIN, *OPTIONAL) if axis.is_set(cell))
    return {name: value for part in told for name, value in part.items()}


def values_of(cell: Cell, axes: Iterable[Axis]) -> tuple[Any, ...]:
    """A cell's fields of these axes."""
    return tuple([value for axis in axes for value in axis.of(cell)])


def arguments_of(cell: Cell) -> dict[str, Any]:
    """What of a cell's axes the pipeline's call is handed as it is."""
    return {axis.argument: getattr(cell, axis.fields[0]) for axis in OPTIONAL if axis.argument and axis.is_set(cell)}


class Setting(tuple[Any, ...]):
    """What images that are compared must have in common: a value of each of `SETTING_FIELDS`."""

    __slots__ = ()

    @classmethod
    def of(cls, cell: Cell) -> Setting:
        return cls(_setting(cell))

    def __getattr__(self, name: str) -> Any:
        if name not in SETTING_FIELDS:
            raise AttributeError(name)
        return self[SETTING_FIELDS.index(name)]

    def fields(self) -> dict[str, Any]:
        """By name, without those of axes that it has not."""
        return {name: getattr(self, name) for axis in SETTING if axis.is_set(self) for name in axis.fields}

    def columns(self) -> dict[str, Any]:
        """A column an axis, of those that it has; a size as "64x64"."""
        own = {axis.name: axis.of(self) for axis in SETTING if axis.is_set(self)}
        return {name: value[0] if len(value) == 1 else "x".join(map(str, value)) for name, value in own.items()}

    def sized(self, width: int | None, height: int | None) -> Setting:
        """The same at another size, in pixels."""
        values = list(self)
        values[_WIDTH], values[_HEIGHT] = width, height
        return Setting(values)

    def words(self, among: Collection[Setting] = (), *, whole: bool = True) -> list[str]:
        """What it is, an axis each, as in "guidance 7.5": all that it has, or if not `whole` what it need not have and
        what tells it from those that it is `among`."""
        varying = [axis for axis in SETTING if len({axis.of(one) for one in among}) > 1]
        own = [axis for axis in SETTING if axis.is_set(self) and (axis.optional or whole)]
        told = (axis.brief(*axis.of(self)) for axis in SETTING if axis in varying or axis in own)
        return [words for words in told if words]
