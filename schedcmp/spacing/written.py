"""A list of noise levels as a sweep writes it."""

from __future__ import annotations

import re
from itertools import pairwise

from schedcmp.errors import shown

_LEVELS = re.compile(r"[\d.]+(?:[eE][-+]?\d+)?(?:[\s,]+[\d.]+(?:[eE][-+]?\d+)?)+")


def read_levels(text: str) -> tuple[float, ...]:
    """The noise levels that a text lists ("14.6, 6.5, 2.7, 1.0"), without a final 0; empty for any other text.

    Raises:
        ValueError: they do not descend.
    """
    if not _LEVELS.fullmatch(text.strip()):
        return ()
    values = [float(part) for part in re.split(r"[\s,]+", text.strip())]
    values = values[:-1] if values[-1] == 0 else values
    if values[-1] <= 0 or any(later >= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"noise levels must descend and be above 0 (a final 0 may be left out), got {shown(text)}")
    return tuple(values)
