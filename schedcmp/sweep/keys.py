"""The keys of a sweep that say which cells there are: what is made, in the order of the written file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import Field, create_model, model_validator

from schedcmp.axes import AXES, SYNONYMS, Axis, canonical
from schedcmp.sweep.parts import (
    Call,
    Counts,
    Entries,
    ModelSpec,
    Numbers,
    Part,
    Pixels,
    Prompts,
    Seeds,
    Shifts,
    Sigmas,
    Sizes,
    Texts,
    Words,
)


class Keys(Part):
    """What is made, see `Sweep`; an axis's key is here."""

    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]*$", max_length=100)] | None = Field(
        None, description="names the output folder, outputs/NAME; the file's own name by default"
    )
    model: ModelSpec = Field(description="builtin:tiny, a folder, a .safetensors file, or a hub id")
    prompt: Prompts = Field(description="a text, a list of texts, {name: text}, or {file: NAME}")
    negative_prompt: Texts = Field(("",), description="what images should not show; one text or several")
    guidance_scale: Numbers = Field((7.5,), description="classifier-free guidance; 1 or less is off")
    width: Pixels | None = Field(None, description="pixels; the checkpoint's own by default")
    height: Pixels | None = Field(None, description="pixels; the checkpoint's own by default")
    size: Sizes | None = Field(None, description='several sizes, such as ["512x512", "512x768"], width first')
    call: Call = Field(
        {}, description="further arguments of the pipeline's call; a list of values makes an axis of one"
    )
    schedulers: Entries = Field(description='names, entries of your own, or "*" for all that work with the checkpoint')
    sigmas: Sigmas = Field(
        ("default",), description="sigma schedules, or lists of noise levels: each scheduler runs on each of them"
    )
    shift: Shifts | None = Field(
        None, description='of flow matching, instead of the checkpoint\'s: numbers, or base/maximum such as "0.5/1.15"'
    )
    steps: Counts | None = Field(None, description='whole numbers, or a range such as "4..30 step 2"')
    nfe: Counts | None = Field(
        None, description="instead of steps: each scheduler takes the most steps that cost so many evaluations"
    )
    seeds: Seeds = Field((0,), description='whole numbers, or a range such as "0..3"')

    @property
    def sizes(self) -> tuple[tuple[int | None, int | None], ...]:
        """Width and height of each size, in pixels; None for the checkpoint's own."""
        if self.size is None:
            return ((self.width, self.height),)
        pairs = (size.split("x") for size in self.size)
        return tuple((int(width), int(height)) for width, height in pairs)

    @property
    def calls(self) -> Iterator[str]:
        """Each combination of the further arguments, as `Cell.call` has it; one without any, if there are none."""
        for values in product(*self.call.values()):
            yield json.dumps(dict(zip(self.call, values, strict=True))) if values else ""


class _Exclude(Part):
    """Cells to leave out: those that have one of the values of every key here."""

    @model_validator(mode="before")
    @classmethod
    def _synonyms(cls, data: Any) -> Any:
        return {SYNONYMS.get(key, key): value for key, value in data.items()} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _says_something(self) -> _Exclude:
        if not self.conditions:
            raise ValueError("is empty, which would leave out everything; give at least one key")
        return self

    @property
    def conditions(self) -> Mapping[str, tuple[Any, ...]]:
        """By an axis's name, or that of a part of one."""
        found: dict[str, tuple[Any, ...]] = {}
        for name, value in self.model_dump(exclude_none=True).items():
            if isinstance(value, dict):
                found |= {f"{name}.{part}": tuple(map(canonical, values)) for part, values in value.items()}
            else:
                found[name] = value
        return found


def _excludable(axis: Axis) -> tuple[Any, Any]:
    """What a rule takes of an axis: what its key does, or names."""
    hints = get_type_hints(Keys, include_extras=True)
    taken = Words if axis.named else hints[axis.key]
    return (taken | None, Field(None, description=axis.named or None))


if TYPE_CHECKING:
    Exclude = _Exclude
else:
    Exclude = create_model("Exclude", __base__=_Exclude, **{a.name: _excludable(a) for a in AXES.values()})
