"""Prompts and other texts of a sweep."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from schedcmp.sweep.parts.fields import PromptName
from schedcmp.sweep.prompt_file import refuse_file_names
from schedcmp.sweep.values import words
from schedcmp.sweep.variants import stands_for_prompts, variants


def printable(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds half of a surrogate pair, which is no character")
    return text


Syntaxes = Annotated[
    tuple[Literal["plain", "a1111"], ...], BeforeValidator(words, json_schema_input_type=str | list[str])
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
