"""How the values of an axis may be written: one, a list, or a range such as "4..30 step 2"."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from schedcmp.errors import shown

MAX_VALUES = 1_000_000  # of one key
MAX_IN_ALL = 3_000_000  # of all of a sweep's ranges
_NUMBERS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*\.\.\s*(\d+(?:\.\d+)?)(?:\s+step\s+(\d+(?:\.\d+)?))?\s*")
_BASE_AND_MOST = re.compile(r"([\d.]+)\s*/\s*([\d.]+)")
_INTEGERS = re.compile(r"\s*(-?[\d_]+)\s*\.\.\s*(-?[\d_]+)(?:\s+step\s+(\d+))?\s*")


def integers(value: Any) -> tuple[int, ...]:
    """A whole number, a range ("0..3" includes both ends), or a list of these. Raises ValueError."""
    return _distinct(_unrolled(value, _integer_or_range))


def numbers(value: Any) -> tuple[float, ...]:
    """A finite number, a range ("1..9 step 0.5" includes both ends), or a list of these. Raises ValueError."""
    return _distinct(_unrolled(value, _number_or_range))


def sizes(value: Any) -> tuple[str, ...]:
    """A size in pixels, "512x768" (width first) or one number for a square, or a list of these. Raises ValueError."""
    return _distinct([_size(item) for item in _listed(value)])


def shifts(value: Any) -> tuple[str, ...]:
    """A positive number, a range, "0.5/1.15" (base and maximum by the image's size), or a list of these: as texts.

    Raises ValueError.
    """
    return _distinct([text for item in _listed(value) for text in _shifts(item)])


def _shifts(item: Any) -> list[str]:
    by_size = _BASE_AND_MOST.fullmatch(item.strip()) if isinstance(item, str) else None
    values = [float(part) for part in by_size.groups()] if by_size else [float(v) for v in _number_or_range(item)]
    if any(v <= 0 for v in values):
        raise ValueError(f"a shift is above 0, got {shown(item)}")
    texts = [repr(v).removesuffix(".0") for v in values]
    return ["/".join(texts)] if by_size else texts


def words(value: Any) -> tuple[str, ...]:
    """A text, or a list of texts. Raises ValueError."""
    items = _listed(value)
    for item in items:
        if not isinstance(item, str):
            raise ValueError(_no_text(item))
    return _distinct(items)


def call_arguments(value: Any) -> dict[str, tuple[Any, ...]]:
    """{argument: value or list of values} → {argument: values}. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("has keys of its own, the pipeline's arguments, as in {true_cfg_scale: [1, 4]}")
    return {str(name): _argument_values(str(name), given) for name, given in value.items()}


def _argument_values(name: str, given: Any) -> tuple[Any, ...]:
    items = given if isinstance(given, list | tuple) else [given]
    if not items:
        raise ValueError(f"{name} is an empty list; give at least one value")
    for item in items:
        parts = item if isinstance(item, list | tuple) else [item]
        if not all(part is None or isinstance(part, bool | int | float | str) for part in parts):
            raise ValueError(
                f"{name} takes numbers, texts, true, false, null, or lists of them in brackets of their own"
            )
    if len({json.dumps(item) for item in items}) < len(items):
        raise ValueError(f"{name} has the same value twice; remove one of the two")
    return tuple(tuple(item) if isinstance(item, list) else item for item in items)


def sigma_names(value: Any) -> tuple[str, ...]:
    """Names of sigma schedules; a list of noise levels becomes the text that it is. Raises ValueError."""
    items = value if isinstance(value, list | tuple) else [value]
    if all(_is_number(item) for item in items):
        if len(items) < 2:
            raise ValueError(f"a list of noise levels has two or more, got {shown(value)}")
        items = [items]
    return words([as_levels(item) for item in items])


def as_levels(item: Any) -> Any:
    """A list of numbers as a text; everything else as it is."""
    is_list = isinstance(item, list | tuple) and len(item) > 1 and all(map(_is_number, item))
    return " ".join(str(float(level)) for level in item) if is_list else item


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def count(value: Any) -> int:
    """How many values the ranges somewhere in plain data have together, without making them. Of one key at most
    `MAX_VALUES` are counted: if it has more, it is refused for itself."""
    if isinstance(value, dict):
        return sum(map(count, value.values()))
    if isinstance(value, list):
        total = sum(map(count, value))
        return total if any(isinstance(item, dict) for item in value) else min(total, MAX_VALUES)
    try:
        found = _range(value, _INTEGERS, int) or _range(value, _NUMBERS, Decimal)
        return min(found[2], MAX_VALUES) if found else 0
    except ValueError:  # a wrong one
        return 0


def _unrolled(value: Any, unroll: Callable[[Any], Collection[Any]]) -> list[Any]:
    values: list[Any] = []
    for item in _listed(value):
        values += unroll(item)
        _refuse_more(len(values), f"has over {MAX_VALUES:,} values")
    return values


def _refuse_more(count: int, message: str) -> None:
    if count > MAX_VALUES:
        raise ValueError(message)


def _listed(value: Any) -> list[Any]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError("is an empty list; give at least one value")
    return items


def _integer_or_range(item: Any) -> range | list[int]:
    if isinstance(item, int) and not isinstance(item, bool):
        return [item]
    found = _range(item, _INTEGERS, int)
    if found is None:
        raise ValueError(f'expected a whole number or a range such as "4..30 step 2", got {shown(item)}{_meant(item)}')
    first, step, count = found
    _refuse_more(count, f"the range {shown(item)} has over {MAX_VALUES:,} values")
    return range(first, first + count * step, step)


def _number_or_range(item: Any) -> list[float]:
    found = _range(item, _NUMBERS, Decimal)
    if found is None:
        return [_number(item)]
    first, step, count = found
    _refuse_more(count, f"the range {shown(item)} has over {MAX_VALUES:,} values")
    return [float(first + i * step) for i in range(count)]


def _range(item: Any, written: re.Pattern[str], number: Callable[[str], Any]) -> tuple[Any, Any, int] | None:
    """The first value of a range, its step, and how many it has, or `MAX_VALUES` and one; None for what is no range.
    Raises ValueError for one that is empty."""
    match = written.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        return None
    first, last, step = (number(text or "1") for text in match.groups())
    if step <= 0 or last < first:
        least = "of at least 1" if written is _INTEGERS else "above 0"
        raise ValueError(f"the range {shown(item)} is empty; write it from low to high, with a step {least}")
    many = last - first >= step * MAX_VALUES
    return first, step, MAX_VALUES + 1 if many else int((last - first) // step) + 1


def _size(item: Any) -> str:
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*", str(item)) or re.fullmatch(r"(\d{1,6})", str(item))
    if not match:
        pair = re.fullmatch(r"\s*(\d{1,4})\s*[:*,/ ]\s*(\d{1,4})\s*", str(item))
        hint = f"; write {pair[1]}x{pair[2]}" if pair else ""
        raise ValueError(f"expected a size such as 512x768 (width first) or 512, got {shown(item)}{hint}")
    width, height = int(match[1]), int(match[match.lastindex or 1])
    if any(pixels % 8 or not 8 <= pixels <= 4096 for pixels in (width, height)):
        raise ValueError(f"{shown(item)}: width and height must be multiples of 8 from 8 to 4096")
    return f"{width}x{height}"


def _number(item: Any) -> float:
    try:
        number = float(item) if isinstance(item, int | float) and not isinstance(item, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {shown(item)}{_meant(item)}")
    return number


def _distinct(items: list[Any]) -> tuple[Any, ...]:
    """Values in their order; one that is given twice would make two cells with one name."""
    unique = dict.fromkeys(items)
    if len(unique) != len(items):
        twice = next(item for item, count in Counter(items).items() if count > 1)
        raise ValueError(f"gives {shown(twice)} twice; remove one of the two")
    return tuple(items)


def _no_text(item: Any) -> str:
    if item is None:
        return 'is empty; write a text, and "..." around one that begins with #'
    if isinstance(item, dict) and len(item) == 1 and all(isinstance(part, str) for part in next(iter(item.items()))):
        text = ": ".join(next(iter(item.items()))).replace("'", "''")
        return f"a colon and a space make a key of {shown(next(iter(item)))}; put quotes around the text: '{text}'"
    if isinstance(item, dict | list):
        return f"expected a text, got {shown(item)}; put quotes around a text that begins with a bracket"
    told = {True: "yes, on and true", False: "no, off and false"}.get(item) if isinstance(item, bool) else None
    kind = f"{item} (as it does {told})" if told else f"{item} as a {'date' if hasattr(item, 'year') else 'number'}"
    return f"expected a text, but YAML reads {kind}; put quotes around it"


# Of what other tools write: a list, a German decimal, and A1111's ranges "1-9", "1-9 (+2)", "1-9 [5]"
_LIST = re.compile(r"\s*[\d.]+\s*([,;]\s*[\d.]+\s*)+")
_SPAN = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*(?:\(\s*\+?\s*(\d+)\s*\)|\[\s*(\d+)\s*\])?\s*")


def _meant(item: Any) -> str:
    """How to write what was probably meant."""
    if isinstance(item, float) and item.is_integer():
        return f"; write {item:.0f}"
    if not isinstance(item, str) or len(item) > 200:
        return ""
    if re.fullmatch(r"\s*\d+,\d+\s*", item):
        return f"; write {item.strip().replace(',', '.')}, or a list: [{item.strip().replace(',', ', ')}]"
    if _LIST.fullmatch(item):
        return f"; write a list: [{', '.join(re.split(r'[,;]', item.replace(' ', '')))}]"
    span = _SPAN.fullmatch(item)
    if not span:
        return ""
    first, last, step, count = (int(text) if text else None for text in span.groups())
    assert first is not None
    assert last is not None
    if count and count > 1 and first <= last and count <= 100:
        return f"; write [{', '.join(str(round(first + i * (last - first) / (count - 1))) for i in range(count))}]"
    return f'; write "{first}..{last}{f" step {step}" if step else ""}"'
