"""The keys of a sweep that say which cells there are: what is made, in the order of the written file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BeforeValidator, Field, create_model, model_validator

from schedcmp.axes import AXES, SYNONYMS, Axis, canonical
from schedcmp.sweep.parts.adapters import Loras
from schedcmp.sweep.parts.entries import Entries
from schedcmp.sweep.parts.fields import (
    Call,
    Counts,
    Numbers,
    Part,
    Pixels,
    Seeds,
    Shifts,
    Sigmas,
    Sizes,
    Strengths,
    Words,
)
from schedcmp.sweep.parts.model import IpAdapterSpec, ModelSpec
from schedcmp.sweep.parts.steps import Steps
from schedcmp.sweep.parts.texts import Prompts, Syntaxes, Texts
from schedcmp.sweep.values import words

SEEN = "ip_adapter_image"  # which no task is about, and which stays at its own size
FILES = ("image", "mask", "control_image", SEEN)  # keys with files of images, or folders of them


class Keys(Part):
    """What is made, see `Sweep`; an axis's key is here."""

    name: Annotated[str, Field(pattern=r"^[\w][\w .+-]*$", max_length=100)] | None = Field(
        None, description="names the output folder, `outputs/NAME`; the file's own name by default"
    )
    model: ModelSpec = Field(
        description="`builtin:tiny`, `builtin:tiny-flow`, a diffusers folder, a `.safetensors` file, an address"
        " of either (`s3://...`, by fsspec), a hub id; a mapping of what is below; or a list of such"
        " ([models.md](models.md))"
    )
    prompt: Prompts = Field(
        description="a text, a list of texts, `{name: text}`, `{file: prompts.txt}` (one a line, or a `.csv`, `.tsv`,"
        " `.jsonl`, `.json` with `id` and `prompt`), or `{template: 'a {red|blue} __shape__', wildcards: FOLDER}`; with"
        " `sample: N` and `seed: S` some of these"
    )
    negative_prompt: Texts = Field(
        ("",), description="what images should not show: a text, a list of texts, or `{file: NAME}`"
    )
    prompt_syntax: Syntaxes | None = Field(
        None,
        description="`a1111`: (more), [less], (so much:1.3) and BREAK are read as weights and chunks (below);"
        " `plain`, the default: prompts are taken as they are written",
    )
    guidance_scale: Numbers | None = Field(
        None,
        description='classifier-free guidance: one, several, or a range such as `"1..9 step 0.5"`; 1 or less is off;'
        " the default of the pipeline's own call by default (Stable Diffusion 7.5, XL 5, 3 7, Flux 3.5), off for what"
        " was distilled without",
    )
    width: Pixels | None = Field(None, description="pixels, both or neither; the checkpoint's own by default")
    height: Pixels | None = Field(None, description="pixels, both or neither; the checkpoint's own by default")
    size: Sizes | None = Field(None, description="several sizes: `[512x512, 512x768]`, width first")
    num_frames: Counts | None = Field(
        None,
        description="how long videos are; the default of the pipeline's own call by default ([video.md](video.md))",
    )
    image: Pictures | None = Field(
        None,
        description="what images begin from, or edit: files or folders of them, seen from the sweep's folder, or"
        " `{run: FOLDER}` for an earlier run's images; several are an axis ([inputs.md](inputs.md))",
    )
    mask: Pictures | None = Field(None, description="files as for `image`: white is painted anew, black is kept")
    control_image: Pictures | None = Field(None, description="files as for `image`: what a ControlNet is led by")
    ip_adapter_image: Pictures | None = Field(
        None, description="files as for `image`: what an IP-Adapter sees, in any size"
    )
    ip_adapter_scale: Numbers | None = Field(
        None, description="how much `ip_adapter_image` counts beside the prompt; 0 is not at all, 1 by default"
    )
    strength: Strengths | None = Field(
        None,
        description="how much of `image` is noised away, above 0 and up to 1: so much of the steps run; the pipeline's"
        " own by default",
    )
    controlnet: str | None = Field(None, description="a ControlNet's folder, for a checkpoint that has none")
    ip_adapter: IpAdapterSpec | None = Field(
        None,
        description="an IP-Adapter's `.safetensors` file, or `{path: FILE, image_encoder: FOLDER}` where its image"
        " encoder is not beside it; for Stable Diffusion 1, 2 and XL",
    )
    call: Call = Field(
        {},
        description="any other argument of the pipeline's `__call__`, checked against its signature:"
        " `{true_cfg_scale: [1, 4], clip_skip: 1}`; a list of values is an axis",
    )
    lora: Loras | None = Field(
        None,
        description="LoRAs, an axis of `none`, paths, `{path: ..., weight: [0.5, 1]}`, and lists of those that are on"
        " at once ([distilled.md](distilled.md))",
    )
    schedulers: Entries = Field(
        description='names, entries of your own (below), or `"*"` for all that work with the checkpoint'
    )
    sigmas: Sigmas = Field(
        ("default",),
        description="sigma schedules, or lists of noise levels such as `[14.6, 6.5, 2.7, 1.0]`; each scheduler"
        " runs on each. `default` is the scheduler's own",
    )
    shift: Shifts | None = Field(
        None,
        description="of flow matching's noise levels, instead of the checkpoint's: numbers, or base/maximum such"
        ' as `"0.5/1.15"` where it goes by the image\'s size ([flow.md](flow.md))',
    )
    steps: Steps | None = Field(
        None,
        description='whole numbers, or a range such as `"4..30 step 2"`; `auto` finds for each scheduler the fewest'
        " that are near enough to converged, or `{auto: {tolerance: 0.05, most: 50}}`",
    )
    nfe: Counts | None = Field(
        None,
        description="equal cost, instead of `steps`: each scheduler takes the most steps that cost so many"
        " evaluations of the denoiser (Heun 5 for 10)",
    )
    seeds: Seeds = Field(
        (0,),
        description='whole numbers, or a range such as `"0..3"`; one generator per seed: an image does not'
        " depend on its neighbours",
    )

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


class _Rule(Part):
    """Cells that have one of the values of every key here."""

    @model_validator(mode="before")
    @classmethod
    def _synonyms(cls, data: Any) -> Any:
        return {SYNONYMS.get(key, key): value for key, value in data.items()} if isinstance(data, dict) else data

    @property
    def conditions(self) -> Mapping[str, tuple[Any, ...]]:
        """By an axis's name, or that of a part of one."""
        found: dict[str, tuple[Any, ...]] = {}
        for name, value in self.model_dump(exclude_none=True, include={*AXES}).items():
            if isinstance(value, dict):
                found |= {f"{name}.{part}": tuple(map(canonical, values)) for part, values in value.items()}
            else:
                found[name] = value
        return found


class _Exclude(_Rule):
    """Cells to leave out: those that have one of the values of every key here."""

    @model_validator(mode="after")
    def _says_something(self) -> _Exclude:
        if not self.conditions:
            raise ValueError("is empty, which would leave out everything; give at least one key")
        return self


class _OfRun(_Rule):
    """Images of an earlier run: all that are finished, or those that have one of the values of every key here."""

    run: str = Field(min_length=1, description="the run's folder, seen from the sweep's")
    file: Words | None = Field(None, description="its images, as `image` in results.csv")


def _named(axis: Axis) -> tuple[Any, Any]:
    """What a rule takes of an axis: what its key does, or names."""
    own = {"steps": Counts}  # no rule is looked for
    hints = get_type_hints(Keys, localns={"Pictures": Any}, include_extras=True) | own
    taken = Words if axis.named else hints[axis.key]
    return (taken | None, Field(None, description=axis.rule))


if TYPE_CHECKING:
    Exclude = _Exclude
    OfRun = _OfRun
else:
    _AXES = {axis.name: _named(axis) for axis in AXES.values()}
    Exclude = create_model("Exclude", __base__=_Exclude, __doc__=_Exclude.__doc__, **_AXES)
    OfRun = create_model("OfRun", __base__=_OfRun, __doc__=_OfRun.__doc__, **_AXES)


def _pictures(value: Any) -> Any:
    """One or several: names of files, or {run: FOLDER}. Raises ValueError."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    names = [item for item in items if not isinstance(item, OfRun) and not (isinstance(item, dict) and "run" in item)]
    if names or not items:
        words(names)
    return items


Pictures = Annotated[
    tuple[str | OfRun, ...],
    BeforeValidator(_pictures, json_schema_input_type=str | OfRun | list[str | OfRun]),
]
Keys.model_rebuild()
