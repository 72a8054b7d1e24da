"""The same tests at a fraction of the cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from schedcmp.registry.entry import Entry
from schedcmp.truth import reference

_ROWS = 2


def fewer_steps(patch: pytest.MonkeyPatch) -> None:
    """References that are good to 0.01, at a third of the cost."""
    patch.setattr(reference, "_SOLVER", ("ipndm-v-karras", 30))
    patch.setattr(reference, "_OTHERS", (("heun-karras", 15), ("flow-heun", 15), ("res-multistep-karras", 30)))


def few_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """Of a function with a table two rows: to an engine all are the same."""
    of_function = Counter[str]()
    kept = []
    for entry in entries:
        of_function[entry.cls] += entry.cls.startswith("schedcmp.")
        if of_function[entry.cls] <= _ROWS:
            kept.append(entry)
    return kept
