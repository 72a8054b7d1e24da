"""What several keys of a sweep have in common: numbers, ranges, names, and how they may be written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schedcmp.sweep.values import call_arguments, integers, numbers, shifts, sigma_names, sizes, words

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
Sizes = Annotated[
    tuple[Annotated[str, Field(pattern=r"^\d+x\d+$")], ...],
    BeforeValidator(sizes, json_schema_input_type=str | int | list[str | int]),
]


def _as_groups(value: Any) -> Any:
    """One group may be written without its own brackets."""
    plain = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return [value] if plain and value else value


Groups = Annotated[tuple[Words, ...], BeforeValidator(_as_groups, json_schema_input_type=list[str] | list[list[str]])]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
