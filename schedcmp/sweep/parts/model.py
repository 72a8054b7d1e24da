"""Which checkpoint a sweep is of, and what it takes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schedcmp.sweep.parts.fields import Part
from schedcmp.sweep.values import words


def _as_embeddings(value: Any) -> Any:
    """A word is called as its file is, where it has no name."""
    return value if isinstance(value, dict) else {PurePath(name).stem: name for name in words(value)}


Embeddings = Annotated[
    dict[Annotated[str, Field(pattern=r"^\S+$", max_length=64)], str],
    BeforeValidator(_as_embeddings, json_schema_input_type=str | list[str] | dict[str, str]),
]


_AS_ELSEWHERE = {  # backends of diffusers' PipelineQuantizationConfig, and types of torchao
    "bitsandbytes_8bit": "bnb-8bit", "bitsandbytes_4bit": "bnb-4bit", "int8wo": "int8", "int8_weight_only": "int8",
    "float8wo": "fp8", "float8_weight_only": "fp8", "int4wo": "int4", "int4_weight_only": "int4",
}  # fmt: skip


def _as_methods(value: Any) -> Any:
    """By component; a method alone is the denoiser's."""
    methods = {"denoiser": value} if isinstance(value, str) else value or {}
    if not isinstance(methods, dict):
        return methods
    return {part: _AS_ELSEWHERE.get(one, one) if isinstance(one, str) else one for part, one in methods.items()}


Quantize = Annotated[
    dict[str, Literal["int8", "fp8", "int4", "bnb-8bit", "bnb-4bit"]],
    BeforeValidator(_as_methods, json_schema_input_type=str | dict[str, str]),
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


ModelSpec = Annotated[
    Model,
    BeforeValidator(
        lambda value: {"id": value} if isinstance(value, str) else value,
        json_schema_input_type=str | Model | list[str | Model | dict[str, Any]],  # taken apart before, see `models`
    ),
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
