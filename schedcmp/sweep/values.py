"""How the values of an axis may be written: one, a list, or a range such as "4..30 step 2"."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from decimal import Decimal
from typing import Any

MAX_VALUES = 1_000_000  # of one key
MAX_IN_ALL = 3_000_000  # of all of a sweep's ranges
_NUMBERS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*\.\.\s*(\d+(?:\.\d+)?)(?:\s+step\s+(\d+(?:\.\d+)?))?\s*")
_RANGE = re.compile(r"\s*(-?[\d_]+)\s*\.\.\s*(-?[\d_]+)(?:\s+step\s+(\d+))?\s*")


def integers(value: Any) -> tuple[int, ...]:
    """A whole number, a range ("0..3" includes both ends), or a list of these. Raises ValueError."""
    return _distinct(_unrolled(value, _integer_or_range))


def numbers(value: Any) -> tuple[float, ...]:
    """A finite number, a range ("1..9 step 0.5" includes both ends), or a list of these. Raises ValueError."""
    return _distinct(_unrolled(value, _number_or_range))


def sizes(value: Any) -> tuple[str, ...]:
    """A size in pixels, "512x768" (width first) or one number for a square, or a list of these. Raises ValueError."""
    return _distinct([_size(item) for item in _listed(value)])


def words(value: Any) -> tuple[str, ...]:
    """A text, or a list of texts. Raises ValueError."""
    items = _listed(value)
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"expected a text, got {item!r}")
    return _distinct(items)


def count(value: Any) -> int:
    """How many values the ranges somewhere in plain data have together, without making them. Of one key at most
    `MAX_VALUES` are counted: if it has more, it is refused for itself."""
    if isinstance(value, dict):
        return sum(map(count, value.values()))
    if isinstance(value, list):
        total = sum(map(count, value))
        return total if any(isinstance(item, dict) for item in value) else min(total, MAX_VALUES)
    return min(_length(value), MAX_VALUES) if isinstance(value, str) else 0


def _length(text: str) -> int:
    """Of a range; 0 for what is none."""
    match = _NUMBERS.fullmatch(text) or _RANGE.fullmatch(text)
    if match:
        with suppress(ArithmeticError):  # a step of 0, "_"
            first, last, step = (Decimal((part or "1").replace("_", "")) for part in match.groups())
            return max(int((last - first) / step) + 1, 0)
    return 0


def _unrolled(value: Any, unroll: Callable[[Any], Collection[Any]]) -> list[Any]:
    values: list[Any] = []
    for item in _listed(value):
        values += unroll(item)
        if len(values) > MAX_VALUES:
            raise ValueError(f"has over {MAX_VALUES:,} values")
    return values


def _listed(value: Any) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError("is an empty list; give at least one value")
    return items


def _integer_or_range(item: Any) -> range | list[int]:
    if isinstance(item, int) and not isinstance(item, bool):
        return [item]
    match = _RANGE.fullmatch(item) if isinstance(item, str) else None
    if not match:
        raise ValueError(f'expected a whole number or a range such as "4..30 step 2", got {item!r}')
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if step == 0 or last < first:
        raise ValueError(f"the range {item!r} is empty; write it from low to high, with a step of at least 1")
    if (last - first) // step >= MAX_VALUES:
        raise ValueError(f"the range {item!r} has over {MAX_VALUES:,} values")
    return range(first, last + 1, step)


def _number_or_range(item: Any) -> list[float]:
    match = _NUMBERS.fullmatch(item) if isinstance(item, str) else None
    if not match:
        return [_number(item)]
    first, last, step = (Decimal(text or "1") for text in match.groups())
    if step <= 0 or last < first:
        raise ValueError(f"the range {item!r} is empty; write it from low to high, with a step above 0")
    count = int((last - first) / step) + 1
    if count > MAX_VALUES:
        raise ValueError(f"the range {item!r} has over {MAX_VALUES:,} values")
    return [float(first + i * step) for i in range(count)]


def _size(item: Any) -> str:
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*", str(item)) or re.fullmatch(r"(\d{1,6})", str(item))
    if not match:
        raise ValueError(f"expected a size such as 512x768 (width first) or 512, got {item!r}")
    width, height = int(match[1]), int(match[match.lastindex or 1])
    if any(pixels % 8 or not 8 <= pixels <= 4096 for pixels in (width, height)):
        raise ValueError(f"{item!r}: width and height must be multiples of 8 from 8 to 4096")
    return f"{width}x{height}"


def _number(item: Any) -> float:
    try:
        number = float(item) if isinstance(item, int | float) and not isinstance(item, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {str(item)[:40]!r}")
    return number


def _distinct(items: list[Any]) -> tuple[Any, ...]:
    """Values in their order; one that is given twice would make two cells with one name."""
    if len(items) > MAX_VALUES:
        raise ValueError(f"has over {MAX_VALUES:,} values")
    unique = dict.fromkeys(items)
    if len(unique) != len(items):
        twice = next(item for item, count in Counter(items).items() if count > 1)
        raise ValueError(f"gives {twice!r} twice")
    return tuple(items)
