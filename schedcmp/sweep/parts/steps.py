"""How many steps: given, or to be found."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag

from schedcmp.sweep.parts.fields import Counts, Part, Range


class Auto(Part):
    """What is looked for by `steps: auto`: the fewest steps that are near enough to converged."""

    tolerance: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="how near, in standard deviations of the latents ([metrics.md](metrics.md))"
    )
    most: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(100, description="more steps are not tried")


class Search(Part):
    """Steps that are looked for."""

    auto: Auto = Auto()

    @property
    def first(self) -> tuple[int, ...]:
        """What is tried at first, which gives a curve."""
        return tuple(n for n in (4, 8, 16) if n < self.auto.most) or (self.auto.most,)


Steps = Annotated[
    Annotated[Counts, Tag("counts")] | Annotated[Search, Tag("search")],
    Discriminator(lambda value: "search" if isinstance(value, dict | Search) else "counts"),
    BeforeValidator(lambda v: {"auto": {}} if v == "auto" else v, json_schema_input_type=Range | Search),
]
