"""LoRAs as a sweep writes them: an axis whose values are none, one, or several at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer, model_validator

from schedcmp.errors import shown
from schedcmp.files import adapter_name
from schedcmp.records import Worn
from schedcmp.sweep.parts.fields import Part
from schedcmp.sweep.values import numbers

NONE = "none"


class AdapterSpec(Part):
    """A LoRA and its weight."""

    path: str = Field(
        min_length=1, description="builtin:tiny-lcm, a .safetensors file, a folder, an address of either, or a hub id"
    )
    weight: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)] = Field(
        1.0, description="how strong it is; several, or a range such as `0..1 step 0.25`, make a value of each"
    )
    file: str | None = Field(None, description="which file of a folder or hub id that has several")
    revision: str | None = Field(None, description="a branch, tag or commit of a hub id")

    @property
    def label(self) -> str:
        stem = adapter_name(self.path, self.file)
        return stem if self.weight == 1 else f"{stem} {self.weight:g}"


class FoundAdapter(AdapterSpec):
    """A LoRA that is there."""

    digest: str = Field(description="of its content")


class Lora(Part):
    """One value of the axis: the LoRAs that are on at once."""

    name: str | None = Field(None, min_length=1, max_length=64, description="its label")
    adapters: tuple[AdapterSpec, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Lora:
        places = [(a.path, a.file) for a in self.adapters]
        if len({*places}) < len(places):
            raise ValueError("has the same LoRA twice at once; give it one weight")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Any) -> Any:
        return handler(self) if self.adapters else NONE

    @property
    def found(self) -> Worn:
        """By digest, with their weights."""
        return tuple((a.digest, a.weight) for a in self.adapters if isinstance(a, FoundAdapter))

    @property
    def text(self) -> str:
        """As `Cell.lora` has it, once its adapters are found."""
        found = [(a.path, a.file or "", a.weight, a.digest) for a in self.adapters if isinstance(a, FoundAdapter)]
        return json.dumps({"name": self.label, "adapters": found}) if found else ""

    @property
    def label(self) -> str:
        return self.name or " + ".join(adapter.label for adapter in self.adapters) or NONE


def as_loras(value: Any) -> Any:
    """One value or a list of them; a list within it is of LoRAs that are on at once. Raises ValueError."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError("is an empty list; give at least one value, such as none")
    return [lora for item in items for lora in _loras(item)]


def _loras(item: Any) -> Iterator[Any]:
    if item is None or item is False or item == NONE:
        yield {}
    elif isinstance(item, Lora):
        yield item
    elif isinstance(item, dict) and "adapters" in item:
        yield from ({**item, "adapters": adapters} for adapters in _at_once(item["adapters"]))
    else:
        name = {"name": item["name"]} if isinstance(item, dict) and "name" in item else {}
        yield from ({**name, "adapters": adapters} for adapters in _at_once(item))


def _at_once(value: Any) -> Iterator[tuple[Any, ...]]:
    """Each combination of the weights of LoRAs that are on together."""
    yield from product(*map(_weighted, value if isinstance(value, list | tuple) else [value]))


def _weighted(item: Any) -> list[Any]:
    if isinstance(item, str):
        return [{"path": item}]
    if not isinstance(item, dict):
        raise ValueError(f"expected a LoRA's path or {{path: ..., weight: ...}}, got {shown(item)}")
    own = {key: value for key, value in item.items() if key not in ("name", "weight")}
    return [{**own, "weight": weight} for weight in numbers(item.get("weight", 1.0))]


def _distinct_labels(loras: tuple[Lora, ...]) -> tuple[Lora, ...]:
    labels = [lora.label for lora in loras]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"two values are called {shown(label)}; remove one, or give names, as in"
                " {name: mine, adapters: [...]}"
            )
    return loras


Loras = Annotated[
    tuple[Lora, ...],
    BeforeValidator(as_loras, json_schema_input_type=str | Lora | AdapterSpec | list[Any] | None),
    AfterValidator(_distinct_labels),
]
