"""Prompts from a file: one a line, or a table with a name for each."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schedcmp.errors import shown
from schedcmp.files import from_json, user_path
from schedcmp.sweep.text import read_text

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json")
_TEXTS, _NAMES = ("prompt", "text", "caption"), ("id", "name", "key")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_NAME = 64


def prompts_of(name: Any) -> dict[str, str]:
    """The prompts of a file by name: lines of text (empty ones and those that begin with # left out), or a .csv, .tsv,
    .jsonl or .json whose rows have a prompt and may have an id.

    Raises:
        ValueError: no such file, or one that cannot be read so; the message says where and what to do.
    """
    if not isinstance(name, str):
        raise ValueError(f"file must be the name of a file, got {shown(name)}")
    path = user_path(name)
    if not _is_file(name):
        raise ValueError(f"there is no file {name} (seen from {Path.cwd()})")
    named = list(_named(path, read_text(path)))
    if not named:
        raise ValueError(f"{name} holds no prompts; write one a line")
    prompts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, key, text in named:
        if key in prompts:
            raise ValueError(f"{name}:{line}: the id {key!r} is there twice; give each prompt its own")
        if text in lines:
            raise ValueError(f"{name}:{line}: is the same prompt as line {lines[text]}; remove one of the two")
        prompts[key], lines[text] = text, line
    return prompts


def refuse_file_names(texts: Iterable[str]) -> None:
    """Raises ValueError for a prompt that names a file; one that is not there, where it is a single word."""
    for text in texts:
        name = text.strip().removeprefix("@")
        if not name.endswith(SUFFIXES) or "\n" in name:
            continue
        if _is_file(name):
            raise ValueError(f"{text!r} is a file; to take its prompts write prompt: {{file: {name}}}")
        if len(name.split()) == 1:
            raise ValueError(f"{text!r} is named as a file, and none is there; for its prompts write {{file: FILE}}")


def _is_file(name: str) -> bool:
    try:
        return user_path(name).is_file()
    except (OSError, ValueError):  # longer than a name may be, or with NUL in it
        return False


def _named(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and text of each prompt."""
    rows = list(_rows(path, text))
    for i, (line, row) in enumerate(rows):
        where = f"{path}:{line}"
        if isinstance(row, str):
            row = {"prompt": row}
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: must be a text or have the keys prompt and id, got {str(row)[:80]!r}")
        keys = {str(key).strip().lower(): value for key, value in row.items()}
        prompt = next((keys[key] for key in _TEXTS if keys.get(key)), None)
        if not isinstance(prompt, str):
            raise ValueError(f"{where}: has no prompt; name its column or key prompt (it has: {', '.join(keys)})")
        name = next((str(keys[key]) for key in _NAMES if keys.get(key) not in (None, "")), "")
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"{where}: its id has over {_LONGEST_NAME} characters; shorten it")
        yield line, name or (f"p{i}" if len(rows) > 1 else "prompt"), prompt


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        reader = csv.DictReader(text.splitlines(keepends=True), delimiter=_DELIMITERS[suffix])
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if key is not None}
    elif suffix == ".json":
        found = _json(text, str(path))
        items = [{"id": key, "prompt": value} for key, value in found.items()] if isinstance(found, dict) else found
        yield from enumerate(items if isinstance(items, list) else [items], start=1)
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and (suffix == ".jsonl" or not line.lstrip().startswith("#")):
                yield number, _json(line, f"{path}:{number}") if suffix == ".jsonl" else line.strip()


def _json(text: str, where: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{where}: is not JSON ({error}); correct it, or write one prompt a line in a .txt") from error
