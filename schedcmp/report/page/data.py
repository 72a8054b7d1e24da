"""What the page is told of a run: plain data that becomes JSON, with everything shared by many cells once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2s
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any

from schedcmp import __version__
from schedcmp.axes import AXES, OPTIONAL, Value
from schedcmp.errors import RequestError
from schedcmp.files import from_json, to_json
from schedcmp.readings import Reading
from schedcmp.records import Cell, Length, StoredCell, Task, length_of
from schedcmp.report.across import recommended_cell
from schedcmp.report.answer import Answer
from schedcmp.report.axes import GridAxes, point, scheduler_values
from schedcmp.report.inputs import address_of
from schedcmp.report.page.points import plotted
from schedcmp.report.page.programs import Programs
from schedcmp.report.paste import FORMS, paste
from schedcmp.report.paste.subject import subject
from schedcmp.report.plots import FOLDER as PLOTS
from schedcmp.report.steadiness import timed_group
from schedcmp.report.tables import row_names, timing_rows
from schedcmp.report.words.parts import short
from schedcmp.store.folder import is_of_a_run, open_file
from schedcmp.store.several import Shown
from schedcmp.store.written import Written

BASE = "base"  # stands for `scheduler` where `sigma_schedule` or `shift` is an axis too
_TITLES = {BASE: AXES["scheduler"].title} | {axis.name: axis.title for axis in AXES.values()}
_TOLD_ELSEWHERE = (BASE, "nfe", "size", "prompt")  # in a cell's details: as it came out, or as a text
_MOST_VARIANTS = 1_000  # that a sweep may have


def page_data(
    store: Shown,
    cells: Sequence[StoredCell],
    thumbs: Mapping[str, str],
    inert: Mapping[str, str],
    answers: Sequence[Answer],
    *,
    running: bool,
) -> dict[str, Any]:
    """Everything the page shows, of finished `cells` in the sweep's order. Times in seconds, unrounded."""
    sweep_text, sweep = store.meta("sweep"), store.sweep()
    rows = timing_rows(cells)
    base = scheduler_values(cells)
    points = [point(stored, stored.cell.scheduler) | {BASE: base(stored.cell)} for stored in cells]
    unset = {axis.name for axis in OPTIONAL if not any(axis.is_set(stored.cell) for stored in cells)}
    axes = {axis: list(dict.fromkeys(p[axis] for p in points)) for axis in _TITLES if axis not in unset}
    axes["nfe"].sort()  # it has no order of its own in a sweep
    places = {axis: {value: i for i, value in enumerate(values)} for axis, values in axes.items()}
    tasks = {task: i for i, task in enumerate(dict.fromkeys(stored.cell.task for stored in cells))}
    recipes: dict[str, int] = {}
    trajectories, programs = store.trajectories(), Programs(store)
    latency = {(r.scheduler, r.steps, *r.setting): r.latency_s for r in rows}
    metrics = _metrics(cells, store.readings())
    cost = "nfe" if sweep.get("nfe") else "steps"
    return {
        "id": blake2s(to_json([sweep_text, store.meta("environment")]).encode(), digest_size=8).hexdigest(),
        "name": sweep["name"],
        "version": __version__,
        "running": running,
        "planned": store.planned(),
        "axes": [_axis(axis, values, cells, points, cost, store.folder) for axis, values in axes.items()],
        "grid": asdict(GridAxes.asked(sweep["grid"], cells)),
        "cost": cost,
        "cells": [
            _cell(stored, [places[axis][p[axis]] for axis in axes], _recipe(stored, trajectories, recipes))
            | {
                "latency_s": latency.get(timed_group(stored)),  # the median of its like
                "task": tasks[stored.cell.task],
                "thumb": thumbs.get(stored.cell.id),
                "inert": inert.get(stored.cell.id),
                "program": programs.place(stored),
            }
            for stored, p in zip(cells, points, strict=True)
        ],
        "recipes": [from_json(text) for text in recipes],
        "programs": programs.found,
        "metrics": metrics,
        "references": _references(store, tasks),
        "timings": [row.columns() | {"name": name} for row, name in zip(rows, row_names(rows), strict=True)],
        "remake": _remake(sweep, cells),
        "answer": _answer(store.folder),
        "pastes": _pastes(store, cells, answers),
        "decides": _decides(answers),
        "points": plotted(
            cells,
            latency,
            {m["name"]: m["higher"] for m in metrics},
            answers,
            [m["name"] for m in metrics if m["whole"]],
        ),
        "plots": [name for name in Written(store.folder, PLOTS).names if name.endswith(".svg")],
        "environment": store.meta("environment") or {},
        "warnings": store.meta("warnings") or [],
        "sweep": sweep_text,
    }


def _axis(
    name: str,
    values: Sequence[Value],
    cells: Sequence[StoredCell],
    points: Sequence[Mapping[str, Value]],
    cost: str,
    folder: Path,
) -> dict[str, Any]:
    """What the page does with an axis, and its values: `text` is what a name stands for, `again` keys of the sweep that
    select a value alone; or `excluded` is what its rules call the axis, where only leaving out the others does that."""
    axis = AXES.get(name)
    chosen = {cost} if name in ("steps", "nfe") else {name for name, axis in AXES.items() if axis.depth is not None}
    first = {p[name]: stored.cell for stored, p in reversed([*zip(cells, points, strict=True)])}
    label = str if axis is None or axis.prose else axis.label
    return {
        "name": name,
        "title": _TITLES[name],
        "selects": name in chosen,
        "setting": axis is not None and axis.role == "setting",
        "detail": name not in _TOLD_ELSEWHERE,
        "excluded": axis.key if axis and axis.pictured else None,
        "values": [
            {
                "value": value,
                "label": label(value) or "none",
                "text": getattr(first[value], axis.fields[0]) if axis and axis.by_name else None,
                "again": axis.again(first[value]) if axis else {},
            }
            | ({"picture": picture} if (picture := address_of(folder, name, first[value], value)) else {})
            for value in values
        ],
    }


def _cell(stored: StoredCell, at: Sequence[int], recipe: int | None) -> dict[str, Any]:
    cell, result = stored.cell, stored.result
    return {
        "id": cell.id,
        "at": at,
        "status": result.status,
        "reason": result.error,
        "image": _own(stored.image_path),
        "width": result.width,
        "height": result.height,
        **({"frames": result.frames, "fps": result.fps} if result.frames else {}),
        "nfe": result.nfe,
        "own_latency_s": median(t.latency_s for t in result.timings) if result.timings else None,
        "peak_memory_bytes": result.peak_memory_bytes,
        "packed": result.packed,
        "recipe": recipe,
        "metrics": dict(stored.metrics) if stored.counts else {},
    }


def _recipe(stored: StoredCell, trajectories: Mapping[Length, Mapping[str, Any]], known: dict[str, int]) -> int | None:
    """The place among those `known` of a resolved scheduler config with its timesteps and noise levels: many cells
    share one."""
    config, timesteps = stored.result.scheduler_config, stored.result.timesteps
    if not config and not timesteps:
        return None
    sigmas = trajectories.get(length_of(stored.cell), {}).get("sigmas")
    return known.setdefault(to_json({"config": config, "timesteps": timesteps, "sigmas": sigmas}), len(known))


def _metrics(cells: Iterable[StoredCell], read: Mapping[str, Reading]) -> list[dict[str, Any]]:
    """What was measured, the known ones first; a metric that nothing is known of has no better end."""
    names = {name for stored in cells if stored.counts for name in stored.metrics}
    others = [Reading(name, name.replace("_", " "), "", higher=None) for name in sorted(names - read.keys())]
    shown = [m for m in (*read.values(), *others) if m.name in names]
    return [{"name": m.name, "label": m.title, "higher": m.higher, "whole": m.whole, "near": m.near} for m in shown]


def _references(store: Shown, tasks: Mapping[Task, int]) -> dict[int, dict[str, Any]]:
    """By the task's place: its converged image, or why there is none."""
    found = ((tasks.get(task), reference) for task, reference in store.references().items())
    return {
        place: {"image": _own(reference.image), "uncertainty": reference.uncertainty, "note": reference.note}
        for place, reference in found
        if place is not None
    }


def _remake(sweep: Mapping[str, Any], cells: Iterable[StoredCell]) -> dict[str, dict[str, Any]]:
    """By scheduler: the sweep's keys that select it alone; None removes a key."""
    shared: dict[str, Any] = {key: [] for key in ("zip", "exclude") if sweep.get(key)}
    if sweep.get("nfe"):
        shared["nfe"] = None
    own = {item["name"]: item for item in sweep["schedulers"] if isinstance(item, dict)}
    by_label = {stored.cell.scheduler: stored.cell for stored in cells}
    return {label: _selecting(cell, own) | shared for label, cell in by_label.items()}


def _selecting(cell: Cell, own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shift = {"shift": [cell.shift]} if cell.shift else {}
    for item in own.values():
        for label, options in _variants(item):
            if label == cell.base:
                spec = {key: value for key, value in item.items() if key not in ("steps", "options")}
                return {"schedulers": [spec | {"options": options}], "sigmas": [cell.sigma_schedule], **shift}
    return {"schedulers": [cell.scheduler.removesuffix(f" shift={cell.shift}")], "sigmas": ["default"], **shift}


def _variants(item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What an entry of a sweep makes: a label and options for each combination of those that have several values."""
    options = item.get("options", {})
    several = {name: value for name, value in options.items() if isinstance(value, list)}
    for values in islice(product(*several.values()), _MOST_VARIANTS):
        label = " ".join([item["name"], *(f"{name}={value}" for name, value in zip(several, values, strict=True))])
        yield label, options | {name: [value] for name, value in zip(several, values, strict=True)}


def _pastes(store: Shown, cells: Sequence[StoredCell], answers: Sequence[Answer]) -> dict[str, Any] | None:
    """The recommended cell as other programs take it; each cell's lines of Python have a place of their own."""
    taken = recommended_cell(cells, answers, store.readings())
    if taken is None:
        return None
    found, best = taken
    texts, of = {}, subject(store, found)
    for form in FORMS if of.spelling else FORMS[1:]:  # of an older run diffusers would have to be asked
        with suppress(RequestError, LookupError, TypeError):  # no such sampler there, or the sweep is anybody's
            texts[form] = paste(of, form)
    where = " and ".join(found.setting.words([answer.setting for answer in answers]))
    return {"what": f"{short(best)} ({where})" if where else short(best), "texts": texts}


def _decides(answers: Sequence[Answer]) -> dict[str, str] | None:
    """What the answers weigh: a metric against a cost."""
    metric = answers[0].metric if answers else None
    cost = "latency" if all(a.by_latency for a in answers) else "nfe"
    return {"metric": metric.name, "cost": cost} if metric else None


def _answer(folder: Path) -> str:
    with suppress(OSError), open_file(folder, "answer.md") as file:
        return file.read().decode(errors="replace")
    return ""


def _own(image: str | None) -> str | None:
    """The name of a run's file; of nothing else, which the page would show as an image."""
    return image if isinstance(image, str) and is_of_a_run(image) else None
