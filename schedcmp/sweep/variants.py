"""Prompts that a mapping stands for: a file's, or those of a template with choices and wildcards; all, or a sample."""

from __future__ import annotations

import logging
import random
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schedcmp.errors import shown
from schedcmp.files import user_path
from schedcmp.sweep.prompt_file import prompts_of

_SOURCES = ("file", "template")
_KEYS = {"file": {"file", "sample", "seed"}, "template": {"template", "wildcards", "sample", "seed"}}
_MOST = 10_000
_TRIES = 50  # drawings for each prompt that is wanted, as some are drawn twice


def stands_for_prompts(value: Any) -> bool:
    """Whether a mapping is one of these, and not texts by their names."""
    return isinstance(value, Mapping) and any(source in value and value.keys() <= _KEYS[source] for source in _SOURCES)


def variants(value: Mapping[str, Any]) -> dict[str, str]:
    """Prompts by name: `{file: NAME}` or `{template: TEXT, wildcards: FOLDER}`, each with `{sample: N, seed: S}`.

    A template has A1111's dynamic prompts: `{red|blue}`, `{2$$a|b|c}`, `__shape__` for a line of FOLDER/shape.txt.

    Raises:
        ValueError: what is wrong, and the remedy.
    """
    sample, seed = _number(value, "sample", 1), _number(value, "seed", 0) or 0
    if "template" in value:
        return _named(_filled(value["template"], value.get("wildcards"), sample, seed))
    prompts = prompts_of(value["file"])
    if sample is None:
        return prompts
    if sample > len(prompts):
        raise ValueError(f"{value['file']} holds {len(prompts)} prompts, fewer than sample: {sample}")
    chosen = set(random.Random(seed).sample(list(prompts), sample))
    return {name: text for name, text in prompts.items() if name in chosen}


def _number(value: Mapping[str, Any], key: str, least: int) -> int | None:
    number = value.get(key)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or not least <= number <= 2**32):
        raise ValueError(f"{key}: expected a whole number of at least {least}, got {shown(number)}")
    return number


def _named(texts: list[str]) -> dict[str, str]:
    return {f"p{i}" if len(texts) > 1 else "prompt": text for i, text in enumerate(texts)}


def _filled(template: Any, folder: Any, sample: int | None, seed: int) -> list[str]:
    if not isinstance(template, str) or not template.strip():
        raise ValueError(f"template: expected a text, got {shown(template)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamicprompts uses names that pyparsing wants to be rid of
        texts = _read(template, _wildcards(folder), sample, seed)
    unknown = next((match[0] for text in texts if (match := re.search(r"__[^\s_][^\s]*?__", text))), None)
    if unknown:
        where = f"under {folder}" if folder else "without a folder; add wildcards: FOLDER"
        raise ValueError(f"template: there is no file for the wildcard {unknown} {where}")
    return texts


def _read(template: str, manager: Any, sample: int | None, seed: int) -> list[str]:
    from pyparsing import ParseException

    try:
        return _all(template, manager) if sample is None else _drawn(template, manager, sample, seed)
    except (ParseException, RecursionError) as error:
        raise ValueError(f"template: {shown(template)} cannot be read; close each {{ and __, and nest less") from error


def _wildcards(folder: Any) -> Any:
    logging.getLogger("dynamicprompts").addHandler(logging.NullHandler())  # what it tells there is raised here
    try:
        from dynamicprompts.wildcards.wildcard_manager import WildcardManager
    except ImportError as error:
        raise ValueError('template needs the package dynamicprompts: pip install "schedcmp[wildcards]"') from error
    if folder is None:
        return WildcardManager()
    if not isinstance(folder, str) or not user_path(folder).is_dir():
        raise ValueError(f"wildcards: there is no folder {shown(folder)} (seen from {Path.cwd()})")
    return WildcardManager(user_path(folder))


def _all(template: str, manager: Any) -> list[str]:
    from dynamicprompts.generators import CombinatorialPromptGenerator

    texts = list(dict.fromkeys(CombinatorialPromptGenerator(wildcard_manager=manager).generate(template, _MOST + 1)))
    if len(texts) > _MOST:
        raise ValueError(f"template: stands for over {_MOST:,} prompts; draw some of them with sample: N")
    return texts


def _drawn(template: str, manager: Any, sample: int, seed: int) -> list[str]:
    from dynamicprompts.generators import RandomPromptGenerator

    if sample > _MOST:
        raise ValueError(f"sample: at most {_MOST:,}, got {sample}")
    generator = RandomPromptGenerator(wildcard_manager=manager, seed=seed)
    found: dict[str, None] = {}
    for _ in range(_TRIES):
        found |= dict.fromkeys(generator.generate(template, sample))
        if len(found) >= sample:
            return list(found)[:sample]
    raise ValueError(f"template: only {len(found)} different prompts were drawn, fewer than sample: {sample}")
