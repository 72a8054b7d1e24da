"""Notation that other tools read in prompts and diffusers' pipelines take literally."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PLAIN = "say it in plain words"
_WEIGHT = "say it in plain words, or add prompt_syntax: a1111"
_ONE_EACH = "write each variant as a prompt of its own"
_TEMPLATE = "write prompt: {template: ...}, which stands for one prompt each"
_ESCAPE, _CHUNK = "leave the backslash out", "leave it out, or add prompt_syntax: a1111"
_OF_A1111 = (_WEIGHT, _ESCAPE, _CHUNK)  # what that syntax reads
_FUSE = "save the checkpoint with it fused in, and leave this out"
_EMBEDDING = "no embedding is loaded by its name; say it in plain words"
# In the order of reading, so that what is matched is not matched again
_NOTATION: tuple[tuple[str, str, str], ...] = (
    (r"<(?:lora|lyco|locon|hypernet)(?:_\w+)?:[^<>]+>", "a LoRA's or hypernetwork's place", _FUSE),
    (r"<(?:embedding|ti|segment|object|wildcard|random)(?:\[[^\]]*\])?:[^<>]+>", "another tool's command", _PLAIN),
    (r"<[a-z][\w-]*>", "an embedding's name", _EMBEDDING),
    (r"\bembedding:\S+", "an embedding's name", _EMBEDDING),
    (r"__[\w/*.-]+__", "a wildcard", _TEMPLATE),
    (r"\$?\{[^{}]*\|[^{}]*\}", "a choice", _TEMPLATE),
    (r"\[[^\[\]]*:[^\[\]]*\]", "a change on the way", _PLAIN),
    (r"\[[^\[\]|]*\|[^\[\]]*\]", "words in turn", _ONE_EACH),
    (r"\([^()]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)", "a weight", _WEIGHT),
    (r"\([^()]+\)(?:\++|-+|\d+\.\d+)", "a weight", _PLAIN),
    (r"\({2,}[^()]+\){2,}|\[{1,}[^\[\]]+\]{1,}", "a weight", _WEIGHT),
    (r"\\[()\[\]]", "an escaped bracket", _ESCAPE),
    (r"\bBREAK\b", "a new chunk", _CHUNK),
    (r"\bAND\b(?=[^A-Z]*[a-z])", "two prompts in one", _ONE_EACH),
    (
        r"(?i:\b(?:bad[-_]?hands?[-_]?v?\d+|bad[-_]prompt[\w-]*|bad[-_]artist[\w-]*|bad[-_]picture[\w-]*|boring_e621\w*"
        r"|baddream|unrealisticdream|unaesthetic\w+|verybadimage\w*)\b)",
        "an embedding's name",
        _EMBEDDING,
    ),
    (r"\b(?=[\w-]*(?:[_\d]|[a-z][A-Z]))[\w-]*(?i:neg)(?:ative|ativ)?[\w-]*\b", "an embedding's name", _EMBEDDING),
)
_MOST_SHOWN = 60  # characters of a piece of a prompt


def foreign_notation(texts: Mapping[str, str], *, weights: bool = False) -> Iterator[str]:
    """A sentence for each text that has such notation; `texts` are by what they are called ("prompt red").

    Args:
        weights: those of A1111 are read.
    """
    none = "no notation of other tools" if not weights else "of other tools' notation only weights and BREAK"
    for name, text in texts.items():
        found = [item for item in _found(text) if not (weights and item[2] in _OF_A1111)]
        if found:
            told = ", ".join(f"{piece!r} ({meaning}: {remedy})" for piece, meaning, remedy in found)
            yield f"{name}: is drawn as it is written, as here {none} {'are' if weights else 'is'} read: {told}"


def _found(text: str) -> Iterator[tuple[str, str, str]]:
    left = text
    for pattern, meaning, remedy in _NOTATION:
        match = re.search(pattern, left)
        if match:
            piece = match[0] if len(match[0]) <= _MOST_SHOWN else f"{match[0][:_MOST_SHOWN]}…"
            yield piece, meaning, remedy
        left = re.sub(pattern, " ", left)
