"""Each cell as a program, for the page: as `report.paste` writes it, and in few bytes where a run has thousands."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.files import to_json
from schedcmp.records import StoredCell
from schedcmp.report.paste import paste
from schedcmp.report.paste.subject import Told
from schedcmp.store.several import Shown

SEED = 9_223_372_036_854_775_783  # stands for a cell's own: no sweep may have so large a one


class Programs:
    """Cells that differ in their seed share a program, and programs their lines."""

    def __init__(self, store: Shown) -> None:
        self._told = cache(Told.by)
        self._store = store
        self._lines: dict[str, int] = {}
        self._places: dict[str, int | None] = {}
        self._programs: list[list[int]] = []

    def place(self, stored: StoredCell) -> int | None:
        """Of the cell's program; None where it has none."""
        if not stored.counts:
            return None
        cell = replace(stored.cell, id="", index=0, seed=0)
        key = to_json([repr(cell), stored.result.width, stored.result.height, stored.result.scheduler_config])
        if key not in self._places:
            self._places[key] = self._written(stored)
        return self._places[key]

    def _written(self, stored: StoredCell) -> int | None:
        text = ""
        with suppress(RequestError, LookupError, TypeError, ValueError):  # the sweep may be anybody's
            run, own = self._store.own(stored)
            told = self._told(run)
            seeded = replace(own, result=replace(own.result, cell=replace(own.cell, seed=SEED)))
            text = paste(told.subject(seeded), "diffusers") if told.spelling else ""  # else of an older schedcmp
        if not text:
            return None
        lines = text.rstrip("\n").split("\n")
        self._programs.append([self._lines.setdefault(line, len(self._lines)) for line in lines])
        return len(self._programs) - 1

    @property
    def found(self) -> dict[str, Any]:
        return {"seed": str(SEED), "lines": [*self._lines], "programs": self._programs}
