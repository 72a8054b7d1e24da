"""What is wrong with a YAML file, in words for who wrote it, with a remedy that was tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from yaml.reader import ReaderError

_LINE = re.compile(r"^(?P<start>\s*(?:-\s+)*)(?:(?P<key>[\w.-]+|\"[^\"]*\"|'[^']*'):(?P<space>\s*))?(?P<value>.*?)\s*$")
_ENTRY_KEYS = ("name", "base", "class", "options", "sigmas", "steps", "scheduler")
_QUOTES = "\"'"
_OPEN, _CLOSE = "[{", "]}"
_NAMES = {"\x00": "NUL", "\x1b": "ESC", "\x07": "BEL", "\x08": "backspace", "\x7f": "DEL"}
_MOST_SHOWN = 200  # characters of a line that the remedy repeats


def told(error: yaml.YAMLError, text: str, name: str) -> str:
    """The message for text that cannot be parsed: file:line, what is wrong, and what to write instead."""
    if isinstance(error, ReaderError):
        return _character(text, name)
    lines = text.splitlines()
    marks = [getattr(error, f"{which}_mark", None) for which in ("context", "problem")]
    numbers = dict.fromkeys(mark.line for mark in reversed(marks) if mark and mark.line < len(lines))
    for number in numbers:
        remedy = next(_remedies(lines[number]), "")
        if remedy:
            return f"{name}:{number + 1}: {remedy}"
    for number in numbers:
        if opened := _opened(lines, number):
            return f"{name}:{opened}: opens a bracket or quotes that nothing closes; close them"
        if _is_indented(lines, number):
            return f"{name}:{number + 1}: is indented unlike the lines above it; begin it in the column of its like"
    first, last = min(numbers, default=0), max(numbers, default=max(len(lines) - 1, 0))
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    until = "" if first == last else f", found in line {last + 1}"
    return f"{name}:{first + 1}: is not valid YAML ({problem}){until}; put quotes around texts, and close them"


def too_deep(text: str, name: str, most: int) -> str:
    """The message for nesting that no sweep has."""
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        for letter in line:
            depth += (letter in _OPEN) - (letter in _CLOSE)
            if depth > most:
                return f"{name}:{number}: opens over {most} brackets inside each other; close them"
        if len(line) - len(line.lstrip(" -")) > most * 2:
            return f"{name}:{number}: is nested over {most} levels deep; a sweep has a few"
    return f"{name}:1: is nested over {most} levels deep; a sweep has a few"


def swallowed(node: yaml.ScalarNode, text: str) -> str:
    """What of a line YAML leaves out although it stands like a part of the text ("a cat #1", "&heart"); else empty."""
    if node.style is not None:
        return ""
    rest = text[node.end_mark.index :].partition("\n")[0].strip()
    anchor = re.match(r"&\S+", text[node.start_mark.index :])
    return rest if re.match(r"#[^\s#]", rest) else anchor[0] if anchor else ""


def _opened(lines: list[str], last: int) -> int:
    """The line, from 1, whose bracket or quotes are open at the end of this line; 0 if all are closed."""
    open_at: list[int] = []
    for number, line in enumerate(lines[: last + 1], start=1):
        value = line.partition(": ")[2].strip() or line.strip().removeprefix("- ")
        if open_at or value[:1] in ("[", "{"):
            for letter in line:
                open_at += [number] if letter in _OPEN else []
                if letter in _CLOSE and open_at:
                    open_at.pop()
        elif value[:1] in ("'", '"') and value.count(value[0]) == 1:
            return number
    return open_at[0] if open_at else 0


def _is_indented(lines: list[str], number: int) -> bool:
    """Whether a line that is sound by itself stands further in than the last one, which has a value already."""
    line, before = lines[number], next((text for text in reversed(lines[:number]) if text.strip()), "")
    deeper = len(line) - len(line.lstrip()) > len(before) - len(before.lstrip())
    return deeper and not before.rstrip().endswith(":") and _parses(line.strip())


def _character(text: str, name: str) -> str:
    allowed = yaml.reader.Reader.NON_PRINTABLE
    match = allowed.search(text)
    place = match.start() if match else 0
    letter = text[place : place + 1]
    called = _NAMES.get(letter)
    code = f"U+{ord(letter or ' '):04X}{f' ({called})' if called else ''}"
    advice = "save the file as UTF-8" if letter == "\x00" else "delete it"
    return f"{name}:{text[:place].count(chr(10)) + 1}: has the character {code}, which no text shows; {advice}"


def _remedies(line: str) -> Iterator[str]:
    match = _LINE.match(line)
    if "\t" in line:
        yield "has a tab, and YAML wants spaces; put spaces in its place"
    if not match:
        return
    start, key, space, value = match["start"], match["key"], match["space"], match["value"]
    if "-" in start and key and key not in _ENTRY_KEYS:  # an item of a list: the colon is one of its text
        start, key, value = start, None, line.strip().removeprefix("-").strip()
    if key and not space and value and _parses(f"{start}{key}: {value}"):
        yield f"has no space after the colon; write {shown_line(f'{key}: {value}')}"
    if value and _is_one_text(value):
        head = f"{start.lstrip()}{key}: " if key else start.lstrip()
        better = f"{head}{_quoted(value)}"
        if not _parses(f"{head}{value}") and _gives(better, value):
            why = "is a text with a character that means something to YAML"
            yield f"{why}; put quotes around it: {shown_line(better)}"


def shown_line(line: str) -> str:
    return line if len(line) <= _MOST_SHOWN else "…".join((line[: _MOST_SHOWN // 2], line[-_MOST_SHOWN // 2 :]))


def _is_one_text(value: str) -> bool:
    """Not the beginning of something that ends in another line."""
    closed = sum((letter in _OPEN) - (letter in _CLOSE) for letter in value) == 0
    return closed and not (value[0] in _QUOTES and value.count(value[0]) == 1)


def _quoted(value: str) -> str:
    """In quotes; a text that is in quotes as far as a part of it stays what it is."""
    return "'" + value.replace("'", "''") + "'"


def _gives(line: str, value: str) -> bool:
    try:
        found = yaml.safe_load(line)
    except yaml.YAMLError:
        return False
    while isinstance(found, dict | list) and len(found) == 1:
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return bool(found == value)


def _parses(line: str) -> bool:
    try:
        yaml.safe_load(line)
    except (yaml.YAMLError, ValueError):
        return False
    return True
