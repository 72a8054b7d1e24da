"""Names: one spelling for all, those of sigma schedules, and those of other tools that have no equal here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Any

from schedcmp.registry.entry import DEFAULT_SIGMAS, SigmaSchedule
from schedcmp.spacing.written import read_levels

# How a list of noise levels is brought into a class, see `spacing.levels.listed`
LISTED: Mapping[str, Any] = {
    "options": {"use_karras_sigmas": True},
    "where_taken": {"timestep_spacing": "linspace"},
}


@dataclass(frozen=True, slots=True)
class Absent:
    """Names that another tool has and the registry has not, and why."""

    names: tuple[str, ...]
    kind: str  # "scheduler" or "sigma schedule"
    place: str
    reason: str
    nearest: str


def normalise(name: str) -> str:
    """One spelling for every way a name is written: "DPM++ 2M Karras" and "dpmpp_2m_karras" agree."""
    words = re.findall(r"[a-z0-9.]+", name.lower().replace("+", "p"))
    return "-".join(words)


def equivalents(samplers: Mapping[str, tuple[str, ...]], sigmas: SigmaSchedule) -> dict[str, str]:
    """What a sampler, by its names elsewhere, and a sigma schedule are called together, by place."""
    if sigmas.name == DEFAULT_SIGMAS:
        return {place: ", ".join(names) for place, names in samplers.items()}
    both = {place: names for place, names in samplers.items() if place in sigmas.also}
    return {place: _together(place, names, sigmas.also[place]) for place, names in both.items()}


def _together(place: str, samplers: tuple[str, ...], schedules: tuple[str, ...]) -> str:
    if place == "invokeai":  # has one menu for both
        return ", ".join(f"{sampler}{suffix}" for sampler in samplers for suffix in schedules)
    return f"{', '.join(samplers)} with {', '.join(schedules)}"


_IDLE_WORDS = {"k", "sample", "sampler", "scheduler", "gpu"}  # of names elsewhere, which say nothing of the method
_SHORT = {"ancestral": "a", "singlestep": "s", "multistep": "m"}


def relatives(key: str, names: Iterable[str]) -> list[str]:
    """The names that share a family's word (the first of any name: euler, res, dpmpp) with a wrong one, nearest first:
    those with most of its words, and of these with fewest of their own. Empty if it has no such word."""
    words = {name: _words(name) for name in names}
    asked = _words(key)
    families = {own[0] for own in words.values() if own and len(own[0]) > 1} & set(asked)
    scores = {
        name: sum(_likeness(word, own) for word in asked) - len(own) / 100
        for name, own in words.items()
        if families & set(own)
    }
    best = max(scores.values(), default=0)
    return sorted((name for name, score in scores.items() if score > best - 1), key=lambda name: -scores[name])


def _words(name: str) -> list[str]:
    """Of a normalised name: `dpm-2-a` and `dpm2-ancestral` have the same."""
    found = re.findall(r"[a-z]+|[0-9.]+[a-z]*", name)
    return [_SHORT.get(word, word) for word in found if word not in _IDLE_WORDS]


def _likeness(word: str, words: list[str]) -> float:
    """1 if it is among the words, less if it abbreviates one or is abbreviated."""
    if word in words:
        return 1.0
    return 0.5 if any(word.startswith(other) or other.startswith(word) for other in words) else 0.0


def sigma_names(schedules: Iterable[SigmaSchedule]) -> dict[str, SigmaSchedule]:
    """Every normalised name → sigma schedule. A schedule's own name wins over anybody's alias."""
    schedules = list(schedules)
    index: dict[str, SigmaSchedule] = {}
    for schedule in schedules:
        for alias in (alias for names in schedule.also.values() for alias in names):
            index.setdefault(normalise(alias), schedule)
    return index | {normalise(s.name): s for s in schedules}


def read_schedules(table: Mapping[str, Mapping[str, Any]]) -> dict[str, SigmaSchedule]:
    """The rows of the `sigma_schedules` table; one that depends on entry or pipeline follows those it chooses from."""
    schedules: dict[str, SigmaSchedule] = {}
    for name, row in table.items():
        fields = dict(row)
        for choice in fields.keys() & {"by_entry", "by_pipeline"}:
            fields[choice] = {key: schedules[chosen] for key, chosen in fields[choice].items()}
        if "levels" in fields:
            fields |= LISTED
        if fields.get("flow") is True:
            fields["flow"] = fields["levels"]
        also = {place: tuple(names) for place, names in fields.get("also", {}).items()}
        schedules[name] = SigmaSchedule(name, **{**fields, "also": also})
    return schedules


def read_originals(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of `originals.yaml` by place and normalised name."""
    return {
        place: {
            normalise(name): {
                "note": f"as {place} runs it",
                **({"sigmas": program["sigmas"]} if "sigmas" in program else {}),
                **row,
                "options": {**program["options"], **row.get("options", {})},
                "also": {place: [name]},
            }
            for name, row in program["samplers"].items()
        }
        for place, program in table.items()
    }


_LONGEST_LIST = 40  # characters of a list that a name repeats


def own_schedule(name: str) -> SigmaSchedule | None:
    """The sigma schedule that a text with noise levels is; None for any other text. Raises ValueError."""
    values = read_levels(name)
    if not values:
        return None
    text = " ".join(f"{value:g}" for value in values)
    exact = " ".join(map(repr, values))
    if len(text) > _LONGEST_LIST:
        text = (
            f"{len(values)} from {values[0]:g} to {values[-1]:g} {blake2s(exact.encode(), digest_size=2).hexdigest()}"
        )
    own = SigmaSchedule(f"list-{normalise(text)}", levels=exact, flow=exact, source="a list of the sweep's")
    return replace(own, **LISTED)
