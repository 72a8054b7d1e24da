"""Text from anywhere, so that no terminal and no spreadsheet takes it for a command."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # but for tab and newline
_ORDER = re.compile(r"[\u2028-\u202e\u2066-\u2069]")  # what breaks a line, or turns the order of its letters
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠\t\r]")  # OWASP, "CSV Injection"; spreadsheets skip white space


def visible(text: str) -> str:
    """The text with all that would command a terminal written as escapes."""
    return _ORDER.sub(_escaped, _CONTROLS.sub(_escaped, text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def csv_text(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file; texts that a spreadsheet would compute begin with an apostrophe, as OWASP advises. Numbers stay."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(_cell, names))
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _CONTROLS.sub(_escaped, value)
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
