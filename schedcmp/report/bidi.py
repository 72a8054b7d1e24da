"""Right-to-left text without a shaping library: levels, visual order, Arabic joining.

A small part of the Unicode bidirectional algorithm (UAX #9) that covers prompts and labels: no embeddings, no
isolates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise

LAM_ALEF_OR_ANY = "\u0644[\u0622\u0623\u0625\u0627]|."
CLOSERS = {")": "(", "]": "[", "}": "{"}
TATWEEL = "\u0640"
ZWNJ = "\N{ZERO WIDTH NON-JOINER}"
FORM_NAMES = {  # (joined to the letter before, to the letter after)
    (False, False): "<isolated>",
    (False, True): "<initial>",
    (True, True): "<medial>",
    (True, False): "<final>",
}
MIRRORED = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")


def levels(text: str, base: int) -> list[int]:
    """Each character's embedding level in a paragraph of level `base` (0, or 1 for right-to-left)."""
    directions = _directions(text, base)
    result: list[int] = []
    openers: list[tuple[str, int]] = []
    for i, direction in enumerate(directions):
        if direction is None:  # rules N1 and N2; numbers count as right-to-left here
            before = next((d > 0 for d in reversed(directions[:i]) if d is not None), base > 0)
            after = next((d > 0 for d in directions[i:] if d is not None), base > 0)
            direction = int(before) if before == after else base
        if text[i] in CLOSERS:  # rule N0, but for the contents of the brackets
            direction = next((level for opener, level in reversed(openers) if opener == CLOSERS[text[i]]), direction)
        if text[i] in CLOSERS.values():
            openers.append((text[i], direction))
        result.append(2 if direction == 0 and base == 1 else direction)
    return result


def base_level(text: str) -> int:
    """1 if the first letter with a direction is right-to-left, else 0 (rules P2 and P3)."""
    strong = (c for c in map(unicodedata.bidirectional, text) if c in ("L", "R", "AL"))
    return int(next(strong, "L") != "L")


def visual_order(run_levels: Sequence[int]) -> list[int]:
    """Indices of runs as they stand on the line from left to right (rule L2)."""
    order = list(range(len(run_levels)))
    for level in range(max(run_levels, default=0), 0, -1):
        reversing = [own >= level for own in run_levels]
        parts = [(turned, [*part]) for turned, part in groupby(order, reversing.__getitem__)]
        order = [i for turned, part in parts for i in (reversed(part) if turned else part)]
    return order


def shape(text: str) -> str:
    """A right-to-left run as presentation forms from left to right, for a layout that knows neither."""
    clusters: list[str] = []
    for character in _join(text).translate(MIRRORED):
        if clusters and is_mark(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return "".join(reversed(clusters))


def is_mark(character: str) -> bool:
    """Whether the character has no place of its own: accents, vowel signs, joiners, variation selectors."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


def _directions(text: str, base: int) -> list[int | None]:
    """0 left-to-right, 1 right-to-left, 2 a number among right-to-left letters, None neutral."""
    result: list[int | None] = []
    strong = base
    kinds = [unicodedata.bidirectional(character) for character in text]
    for i, kind in enumerate(kinds):
        if kind in ("L", "R", "AL"):
            strong = int(kind != "L")
            result.append(strong)
        elif kind in ("EN", "AN") or (kind in ("CS", "ES") and kinds[i - 1 : i + 2 : 2] == ["EN", "EN"]):
            result.append(2 * strong)
        else:
            result.append(result[-1] if kind == "NSM" and result else None)
    return result


@lru_cache(maxsize=1)
def _forms() -> dict[tuple[str, str], str]:
    """(letters, form) → presentation form, from the decompositions of Arabic Presentation Forms A and B."""
    table = {(TATWEEL, form): TATWEEL for form in FORM_NAMES.values()}
    for form in map(chr, (*range(0xFB50, 0xFBB2), *range(0xFBD3, 0xFC00), *range(0xFE80, 0xFEFD))):
        kind, *codes = unicodedata.decomposition(form).split() or [""]
        if codes:
            table["".join(chr(int(code, 16)) for code in codes), kind] = form
    return table


def _join(text: str) -> str:
    forms = _forms()
    units = re.findall(LAM_ALEF_OR_ANY, text, re.DOTALL)
    letters = [i for i, unit in enumerate(units) if unit == ZWNJ or not is_mark(unit[0])]
    links = [(units[a], "<initial>") in forms and (units[b], "<final>") in forms for a, b in pairwise(letters)]
    for i, before, after in zip(letters, [False, *links], [*links, False], strict=True):
        units[i] = forms.get((units[i], FORM_NAMES[before, after]), units[i])
    return "".join(units)
