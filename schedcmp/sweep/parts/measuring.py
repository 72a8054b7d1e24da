"""What is measured, of time and of images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schedcmp.sweep.parts.fields import Part
from schedcmp.sweep.values import words


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
