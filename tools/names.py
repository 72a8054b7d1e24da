"""The tables of docs/names.md that the registry knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schedcmp.registry.entry import Entry, SigmaSchedule
from schedcmp.registry.table import builtin_registry

REGISTRY = builtin_registry()
_PROGRAMS = {"a1111": "A1111", "comfyui": "ComfyUI", "invokeai": "InvokeAI"}


def samplers() -> str:
    plain = (e for e in REGISTRY.entries.values() if e.base == e.name and e.origin == "schedcmp")
    return table(["schedcmp", *_PROGRAMS.values(), "others", "diffusers", "remark"], map(_sampler, plain))


def schedules() -> str:
    named = (s for s in REGISTRY.sigma_schedules.values() if s.name != "default")
    return table(["schedcmp", *_PROGRAMS.values(), "others", "diffusers option", "what"], map(_schedule, named))


def absent() -> str:
    rows = ([", ".join(a.names), a.kind, a.place, a.reason, a.nearest] for a in REGISTRY.absent)
    return table(["name", "kind", "in", "why", "nearest"], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _sampler(e: Entry) -> list[str]:
    theirs = "" if "." in e.cls else f"{e.class_name.removesuffix('Scheduler')}{_options(e.options)}"
    return [e.name, *_elsewhere(e.also), theirs, e.note]


def _schedule(s: SigmaSchedule) -> list[str]:
    theirs = "" if s.levels else _options(s.options)
    return [s.name, *_elsewhere(s.also), theirs.strip(), ". ".join(filter(None, (s.source, s.note)))]


def _elsewhere(also: Mapping[str, Sequence[str]]) -> list[str]:
    others = (f"{place}: {', '.join(names)}" for place, names in also.items() if place not in _PROGRAMS)
    return [*(", ".join(also.get(place, ())) for place in _PROGRAMS), "; ".join(others)]


def _options(options: Mapping[str, Any]) -> str:
    return f" `{', '.join(f'{k}={v}' for k, v in options.items())}`" if options else ""
