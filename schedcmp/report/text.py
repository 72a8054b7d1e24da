"""Measure, wrap and draw one style of text in any script."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from math import ceil
from typing import Literal

from PIL import ImageDraw

from schedcmp.report import bidi
from schedcmp.report.fonts import UNIFONT, Face, covers, face_for

LONGEST = 1000  # characters; more never fits the few lines that a grid gives to one text
LEADING = 1.4  # line height / size
NO_LINE_START = frozenset(",.;:!?)]}%…、。，．；：！？）］｝」』】》〉")


@dataclass(frozen=True, slots=True)
class Style:
    """How a text looks. `size` in px."""

    size: int
    colour: str
    bold: bool = False

    @property
    def line_height(self) -> int:
        return round(self.size * LEADING)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a paragraph. `base`: the paragraph's direction, 0 left-to-right or 1 right-to-left."""

    text: str
    style: Style
    base: int = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters of one face and one direction, in reading order."""

    text: str
    face: Face
    level: int

    def drawn(self) -> tuple[str, Face, str | None]:
        """Text, face and direction for Pillow (None: laid out from left to right as it stands)."""
        right_to_left = self.level % 2 == 1
        if self.face.shaped:
            return self.text, self.face, "rtl" if right_to_left else "ltr"
        text = bidi.shape(self.text) if right_to_left else self.text
        plain = "".join(character for character in text if not _is_invisible(character))
        has_all = all(covers(self.face, character) or character.isspace() for character in plain)
        return plain, self.face if has_all or not right_to_left else UNIFONT, None


def clean(text: str) -> str:
    """`text` on one line: composed characters, single spaces, nothing that has no picture."""
    printable = "".join(" " if c.isspace() or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return " ".join(unicodedata.normalize("NFC", printable).split())


@lru_cache(maxsize=8192)
def text_width(text: str, style: Style) -> float:
    """Advance of `text` on one line, px."""
    return sum(_advance(run, style) for run in _runs(text, style.bold, 0))


def paragraph(text: str, style: Style, width: float, lines: int, cut: Literal["end", "middle"] = "end") -> list[Line]:
    """`text` in at most `lines` lines of `width` px; what does not fit gives way to an ellipsis at `cut`."""
    text = clean(text)
    base = bidi.base_level(text)
    return [Line(line, style, base) for line in _fit(text, style, width, lines, cut)]


def block_height(block: Sequence[Line]) -> int:
    """Height of lines set below each other, px."""
    return sum(line.style.line_height for line in block)


def block_width(block: Sequence[Line]) -> int:
    """Width of the longest line, px."""
    return max((ceil(text_width(line.text, line.style)) for line in block), default=0)


def draw_block(draw: ImageDraw.ImageDraw, left: float, top: float, block: Sequence[Line]) -> None:
    """Draw lines below each other; the first one's box begins at (`left`, `top`), px."""
    for line in block:
        _draw_line(draw, left, top, line)
        top += line.style.line_height


def _draw_line(draw: ImageDraw.ImageDraw, left: float, top: float, line: Line) -> None:
    style = line.style
    baseline = round(top + style.line_height / 2 + style.size * 0.36)  # capitals are 0.72 of the size
    runs = _runs(line.text, style.bold, line.base)
    for i in bidi.visual_order([run.level for run in runs]):
        shown, face, direction = runs[i].drawn()
        font = face.at(style.size)
        draw.text((round(left), baseline), shown, style.colour, font, anchor="ls", direction=direction)
        left += _advance(runs[i], style)


def _fit(text: str, style: Style, width: float, lines: int, cut: Literal["end", "middle"]) -> list[str]:
    if len(text) <= LONGEST and len(wrapped := _wrap(text, style, width)) <= lines:
        return wrapped
    shorten = _shorten_end if cut == "end" else _shorten_middle

    def kept(count: int) -> list[str]:
        return _wrap(shorten(text, count), style, width)

    counts = range(1, min(len(text) - 1, LONGEST) + 1)
    return kept(bisect_right(counts, lines, key=lambda count: len(kept(count))))


def _shorten_end(text: str, count: int) -> str:
    while 0 < count < len(text) and bidi.is_mark(text[count]):
        count -= 1
    return text[:count].rstrip(" ,;:-–") + "…"


def _shorten_middle(text: str, count: int) -> str:
    tail = count // 2
    return text[: count - tail].rstrip() + "…" + text[len(text) - tail :].lstrip()


def _wrap(text: str, style: Style, width: float) -> list[str]:
    lines: list[str] = []
    line = ""
    for piece in _pieces(text):
        if text_width((line + piece).rstrip(), style) <= width:
            line += piece
            continue
        if line:
            lines.append(line.rstrip())
        *full, line = _break_anywhere(piece, style, width)
        lines += [part.rstrip() for part in full]
    return [*lines, line.rstrip()] if line else lines


def _break_anywhere(piece: str, style: Style, width: float) -> list[str]:
    lines = [""]
    for character in piece:
        longer = lines[-1] + character
        if lines[-1] and not bidi.is_mark(character) and text_width(longer.rstrip(), style) > width:
            lines.append(character)
        else:
            lines[-1] = longer
    return lines


def _pieces(text: str) -> list[str]:
    """Parts between which a line may end: after spaces, hyphens and slashes, and around ideographs."""
    breaks = [i for i, (before, after) in enumerate(pairwise(text), 1) if _may_break(before, after)]
    return [text[start:end] for start, end in pairwise([0, *breaks, len(text)])]


def _may_break(before: str, after: str) -> bool:
    if after.isspace() or after in NO_LINE_START or bidi.is_mark(after):
        return False
    wide = unicodedata.east_asian_width(before) in "WF" or unicodedata.east_asian_width(after) in "WF"
    return before.isspace() or before in "-/_" or wide


def _advance(run: Stretch, style: Style) -> float:
    shown, face, direction = run.drawn()
    return face.at(style.size).getlength(shown, direction=direction)


@lru_cache(maxsize=2048)
def _runs(text: str, bold: bool, base: int) -> tuple[Stretch, ...]:
    faces: list[Face] = []
    for character in text:
        attached = bool(faces) and (character.isspace() or bidi.is_mark(character))
        follows = attached and (_is_invisible(character) or covers(faces[-1], character))
        faces.append(faces[-1] if follows else face_for(character, bold))
    levels = bidi.levels(text, base)
    groups = groupby(range(len(text)), lambda i: (faces[i], levels[i]))
    return tuple(Stretch("".join(text[i] for i in group), *key) for key, group in groups)


def _is_invisible(character: str) -> bool:
    """Joiners and variation selectors, which Unifont draws as boxes."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
