"""A1111's notation for how much parts of a prompt count: (more), [less], (so much:1.3), and BREAK for a new chunk."""

from __future__ import annotations

import re
from collections.abc import Iterator

MORE = 1.1  # of a pair of round brackets; of square ones, one part in so many
Piece = tuple[str, float]  # a text, and how much it counts
_TOKEN = re.compile(r"\\[\\()\[\]]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
_BREAK = re.compile(r"\bBREAK\b")


def chunks(text: str) -> list[list[Piece]]:
    """The chunks of a prompt, each of pieces in their order; weights of nested brackets are multiplied. A bracket that
    is not closed holds to the end, and one that was not opened is a letter."""
    found: list[list[Piece]] = [[]]
    for piece, weight in _weighted(text):
        first, *others = _BREAK.split(piece)
        found[-1].append((first, weight))
        found += [[(other, weight)] for other in others]
    return [[*_joined(chunk)] or [("", 1.0)] for chunk in found]


def plain(text: str) -> str:
    """The words without the notation."""
    return " ".join("".join(piece for piece, _ in chunk) for chunk in chunks(text))


def _weighted(text: str) -> list[Piece]:
    pieces: list[Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where pieces within begin

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        pieces[start:] = [(piece, weight * factor) for piece, weight in pieces[start:]]

    for token in _TOKEN.finditer(text):
        match token[0]:
            case "(" | "[" as bracket:
                opened[bracket].append(len(pieces))
            case ")" if opened["("]:
                close("(", MORE)
            case "]" if opened["["]:
                close("[", 1 / MORE)
            case _ if token[1] and opened["("]:
                close("(", float(token[1]))
            case word:
                pieces.append((word[1:] if len(word) == 2 and word[0] == "\\" else word, 1.0))
    for bracket, factor in (("(", MORE), ("[", 1 / MORE)):
        while opened[bracket]:
            close(bracket, factor)
    return pieces


def _joined(chunk: list[Piece]) -> Iterator[Piece]:
    """Neighbours that count alike as one; without pieces of no words."""
    text, weight = "", 1.0
    for piece, own in chunk:
        if own != weight and text.strip():
            yield text.strip(), weight
            text = ""
        text, weight = text + piece, own
    if text.strip():
        yield text.strip(), weight
