"""The parts of a sweep file: their keys, types, defaults and limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schedcmp.axes import AXES, SYNONYMS
from schedcmp.sweep.prompt_file import refuse_file_names
from schedcmp.sweep.values import as_levels, call_arguments, integers, numbers, shifts, sigma_names, sizes, words
from schedcmp.sweep.variants import stands_for_prompts, variants

if TYPE_CHECKING:
    AxisName = str
else:
    AxisName = Literal[tuple(AXES)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$", max_length=64)]
PromptName = Annotated[str, Field(min_length=1, max_length=64)]
Pixels = Annotated[int, Field(strict=True, ge=8, le=4096, multiple_of=8)]
Range = str | int | list[int | str]
Counts = Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(integers, json_schema_input_type=Range)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(integers, json_schema_input_type=Range)
]
Numbers = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1000)], ...],
    BeforeValidator(numbers, json_schema_input_type=float | str | list[float | str]),
]
Strengths = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...],
    BeforeValidator(numbers, json_schema_input_type=float | str | list[float | str]),
]
Words = Annotated[tuple[str, ...], BeforeValidator(words, json_schema_input_type=str | list[str])]
Sigmas = Annotated[
    tuple[str, ...],
    BeforeValidator(sigma_names, json_schema_input_type=str | list[str | float | list[float]]),
]

Shifts = Annotated[tuple[str, ...], BeforeValidator(shifts, json_schema_input_type=float | str | list[float | str])]


Call = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)], tuple[Any, ...]],
    BeforeValidator(call_arguments, json_schema_input_type=dict[str, Any]),
]


def printable(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds half of a surrogate pair, which is no character")
    return text


Sizes = Annotated[
    tuple[Annotated[str, Field(pattern=r"^\d+x\d+$")], ...],
    BeforeValidator(sizes, json_schema_input_type=str | int | list[str | int]),
]
Texts = Annotated[
    tuple[Annotated[str, AfterValidator(printable)], ...],
    BeforeValidator(lambda v: as_texts(v or ""), json_schema_input_type=str | list[str] | dict[str, str]),
]


def as_texts(value: Any) -> tuple[str, ...]:
    """Text, list of texts, or a mapping that stands for some, see `variants`. Raises ValueError."""
    texts = tuple(variants(value).values()) if stands_for_prompts(value) else words(value)
    refuse_file_names(texts)
    return texts


def as_prompts(value: Any) -> Any:
    """Text, list of texts, {name: text} or what stands for some → {name: text}; unnamed ones are numbered."""
    if isinstance(value, dict):
        return variants(value) if stands_for_prompts(value) else value
    texts = words(value)
    refuse_file_names(texts)
    return {f"p{i}" if len(texts) > 1 else "prompt": text for i, text in enumerate(texts)}


Prompts = Annotated[
    dict[PromptName, Annotated[str, AfterValidator(printable)]],
    BeforeValidator(as_prompts, json_schema_input_type=str | list[str] | dict[str, str]),
    Field(min_length=1),
]


def _as_axes(value: Any) -> Any:
    return tuple(SYNONYMS.get(word, word) for word in words(value)) if value else ()


_Axes = Annotated[tuple[AxisName, ...], BeforeValidator(_as_axes, json_schema_input_type=str | list[str])]


def _as_groups(value: Any) -> Any:
    """One group may be written without its own brackets."""
    plain = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return [value] if plain and value else value


Groups = Annotated[tuple[Words, ...], BeforeValidator(_as_groups, json_schema_input_type=list[str] | list[list[str]])]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_embeddings(value: Any) -> Any:
    """A word is called as its file is, where it has no name."""
    return value if isinstance(value, dict) else {PurePath(name).stem: name for name in words(value)}


Embeddings = Annotated[
    dict[Annotated[str, Field(pattern=r"^\S+$", max_length=64)], str],
    BeforeValidator(_as_embeddings, json_schema_input_type=str | list[str] | dict[str, str]),
]


Quantize = Annotated[
    dict[str, Literal["int8", "fp8", "int4", "bnb-8bit", "bnb-4bit"]],
    BeforeValidator(
        lambda value: {"denoiser": value} if isinstance(value, str) else value or {},
        json_schema_input_type=str | dict[str, str],
    ),
]


Cache = Annotated[
    Mapping[Literal["first_block", "taylorseer", "mag", "pyramid", "faster"], dict[str, Any]],
    Field(max_length=1),
    BeforeValidator(
        lambda value: {value: {}} if isinstance(value, str) else value or {},
        json_schema_input_type=str | dict[str, dict[str, Any]],
    ),
]


class Model(Part):
    """Which checkpoint to load."""

    id: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="`builtin:tiny`, a folder, a `.safetensors` file, an address, or a hub id"
    )
    python: Annotated[str, Field(pattern=r"^\w+(\.\w+)+$")] | None = Field(
        None, description="instead: a function by its dotted path, which is called once and gives a diffusers pipeline"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="for `python`: the function's arguments")
    revision: str | None = Field(None, description="a branch, tag or commit of a hub id")
    variant: str | None = Field(None, description="such as fp16: which weight files to take")
    config: str | None = Field(
        None, description="for a single file: the folder or hub id with its configs, and what else the file lacks"
    )
    vae: str | None = Field(
        None, description="another VAE: its folder, a pipeline's, or a `.safetensors` file; likewise those that follow"
    )
    text_encoder: str | None = Field(None, description="another text encoder")
    text_encoder_2: str | None = Field(None, description="another second text encoder")
    text_encoder_3: str | None = Field(None, description="another third text encoder")
    unet: str | None = Field(None, description="another UNet; its file may also be a `.gguf`")
    transformer: str | None = Field(None, description="another transformer; its file may also be a `.gguf`")
    embeddings: Embeddings = Field(
        {},
        description="textual inversion: a `.safetensors` file, whose name is the word, a list of such, or"
        " `{word: file}`",
    )
    quantize: Quantize = Field(
        {},
        description="keep weights in fewer bits: `int8`, `fp8`, `int4`, `bnb-8bit`, `bnb-4bit`, of the denoiser; or"
        " `{transformer: int8, text_encoder: bnb-4bit}`",
    )
    cache: Cache = Field(
        {},
        description="a step cache of diffusers, for transformers that have some: `first_block`, `taylorseer`, `mag`,"
        " `pyramid`, `faster`, or `{first_block: {threshold: 0.1}}` ([models.md](models.md))",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Model:
        if (self.id is None) == (self.python is None):
            raise ValueError("model: needs either `id` or `python`")
        of_files = {*Model.model_fields} - {"python", "options"}
        wrong = sorted(self.model_fields_set & (of_files if self.python else {"options"}))
        given = [name for name in wrong if getattr(self, name)]
        if given:
            raise ValueError(f"model: {given[0]} goes {'not ' if self.python else 'only '}with `python`; leave it out")
        return self


def as_model(value: Any) -> Any:
    """A list of them is taken apart before, see `models`."""
    return {"id": value} if isinstance(value, str) else value


ModelSpec = Annotated[
    Model, BeforeValidator(as_model, json_schema_input_type=str | Model | list[str | Model | dict[str, Any]])
]


class IpAdapter(Part):
    """What lets a UNet see an image beside the prompt."""

    path: Annotated[str, Field(min_length=1)] = Field(description="its `.safetensors` file, or a folder with one")
    image_encoder: str | None = Field(
        None, description="its CLIP model's folder; by default `image_encoder` beside the file, or the checkpoint's"
    )


IpAdapterSpec = Annotated[
    IpAdapter,
    BeforeValidator(
        lambda value: {"path": value} if isinstance(value, str) else value, json_schema_input_type=str | IpAdapter
    ),
]


class EntrySpec(Part):
    """A scheduler of the sweep: by name, with other options than it has; or one of the user's own."""

    name: Name = Field(description="its label; without base or class, the entry that it changes")
    base: str | None = Field(None, description="the entry that it changes")
    cls: str | None = Field(None, alias="class", description="a dotted path to a scheduler class")
    options: dict[str, Any] = Field(
        default_factory=dict, description="constructor options of the class; a list of values makes an entry of each"
    )
    sigmas: Annotated[str | None, BeforeValidator(as_levels, json_schema_input_type=str | list[float] | None)] = Field(
        None, description="its sigma schedule, or its own list of noise levels"
    )
    steps: Counts | None = Field(None, description="instead of the sweep's")


def as_entries(value: Any) -> Any:
    items = [value] if isinstance(value, str | dict) else value
    if isinstance(items, list) and not items:
        raise ValueError("is an empty list; give at least one scheduler")
    return [_as_entry(item) for item in items] if isinstance(items, list) else items


def _as_entry(item: Any) -> Any:
    """Options may be written under a name alone ({dpmpp-2m: {euler_at_final: true}}), or with a base and no name."""
    if not isinstance(item, dict):
        return item
    keys = {field.alias or name for name, field in EntrySpec.model_fields.items()}
    match list(item.items()):
        case [(str(name), dict() | None as options)] if name not in keys:
            return {"name": name, "options": options or {}}
    if "name" not in item and isinstance(item.get("base"), str):
        return {**{key: value for key, value in item.items() if key != "base"}, "name": item["base"]}
    return item


Entries = Annotated[
    tuple[str | EntrySpec, ...], BeforeValidator(as_entries, json_schema_input_type=str | list[str | EntrySpec])
]


class Timing(Part):
    """How latency is measured."""

    mode: Annotated[Literal["solo", "off"], BeforeValidator(lambda v: "off" if v is False else v)] = Field(
        "solo", description="`solo`: images made alone are timed; `off`: none"
    )
    seeds: Annotated[int, Field(strict=True, ge=1)] = Field(1, description="how many seeds are timed, when packed")
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        1, description="how often each timed image is made, in turns; six tell schedulers apart"
    )
    warmup: Annotated[int, Field(strict=True, ge=0, le=1000)] = Field(
        1, description="images of each size made before the clock counts"
    )


def _as_timing(value: Any) -> Any:
    """`timing: off`, which YAML reads as false."""
    return {"mode": "solo" if value is True else value} if isinstance(value, str | bool) else value


Timings = Annotated[Timing, BeforeValidator(_as_timing, json_schema_input_type=str | bool | Timing)]


class MetricSpec(Part):
    """A metric of the sweep with options of its own, or under another name."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)] = Field(
        description="its column in results.csv"
    )
    metric: str | None = Field(
        None, description="which one it is, if not that of its name; or a dotted path to a class"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="what its class takes")

    @property
    def kind(self) -> str:
        return self.metric or self.name


def _as_metrics(value: Any) -> Any:
    """`metrics: off`, which YAML reads as false, is none of them."""
    items = [value] if isinstance(value, str | dict) else value
    if items in (False, ["off"], [], ()):
        return ()
    own = [item for item in items if isinstance(item, dict)] if isinstance(items, list | tuple) else []
    named = [item for item in items if item not in own] if own else items
    return [*(words(named) if named else ()), *own]


Metrics = Annotated[
    tuple[str | MetricSpec, ...],
    BeforeValidator(_as_metrics, json_schema_input_type=str | bool | list[str | MetricSpec]),
]


class Optimize(Part):
    """What trades set-up time, memory or the last digits for speed. All off by default."""

    compile: Annotated[
        Literal["default", "regional", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None,
        BeforeValidator(lambda v: {True: "default", False: None}.get(v, v) if isinstance(v, bool) else v),
    ] = Field(
        None,
        description="torch.compile of the denoiser; regional: of its repeated blocks; reduce-overhead: CUDA graphs",
    )
    channels_last: bool = Field(False, description="the memory format of convolutions")
    tf32: bool = Field(False, description="fp32 products in TF32, where the hardware has it")
    attention: str | None = Field(None, description="an attention backend of diffusers, such as flash or sage")
    vae_slicing: bool = Field(False, description="decode images one by one, for less memory")
    vae_tiling: bool = Field(False, description="decode images in tiles, for less memory; seams may show")
    offload: bool = Field(False, description="models wait in main memory; needs accelerate")

    @property
    def enabled(self) -> dict[str, Any]:
        return {name: value for name, value in self.model_dump().items() if value}


class Jax(Part):
    """How `backend: jax` solves."""

    solve: Literal["steps", "scan"] = Field(
        "steps", description="scan: each image's whole solve is one program, for deterministic linear schedulers"
    )


class Grid(Part):
    """Which axes become rows, columns and pages."""

    rows: _Axes = Field(("scheduler",), description="an axis or several, outermost first")
    cols: _Axes = Field(("steps",), description="likewise")
    page: _Axes = Field((), description="each value has a grid of its own")

    @model_validator(mode="before")
    @classmethod
    def _defaults_give_way(cls, data: Any) -> Any:
        """`rows: steps` alone means steps down and schedulers across."""
        if isinstance(data, dict) and ("rows" in data) != ("cols" in data):
            given, other = ("rows", "cols") if "rows" in data else ("cols", "rows")
            taken = {*_as_axes(data[given]), *_as_axes(data.get("page"))}
            wanted = ("scheduler", "steps", "seed") if other == "rows" else ("steps", "scheduler", "seed")
            default = next((axis for axis in wanted if axis not in taken), wanted[0])
            return {**data, other: default}
        return data

    @model_validator(mode="after")
    def _each_axis_once(self) -> Grid:
        used = [*self.rows, *self.cols, *self.page]
        twice = next((axis for axis in used if used.count(axis) > 1), None)
        if twice:
            raise ValueError(f"uses {twice} twice; give each axis one place among rows, cols and page")
        return self
