"""Which axes become rows, columns and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schedcmp.axes import AXES, SYNONYMS
from schedcmp.sweep.parts.fields import Part
from schedcmp.sweep.values import words

if TYPE_CHECKING:
    AxisName = str
else:
    AxisName = Literal[tuple(AXES)]


def _as_axes(value: Any) -> Any:
    return tuple(SYNONYMS.get(word, word) for word in words(value)) if value else ()


_Axes = Annotated[tuple[AxisName, ...], BeforeValidator(_as_axes, json_schema_input_type=str | list[str])]


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
