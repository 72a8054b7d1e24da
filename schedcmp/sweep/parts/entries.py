"""The schedulers of a sweep."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from schedcmp.sweep.parts.fields import Counts, Name, Part
from schedcmp.sweep.values import as_levels


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
