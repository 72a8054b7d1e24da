"""`check` of a sweep, and the headline of a run: what will be made, and what it would cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from schedcmp.cli import console
from schedcmp.cli.console import say, table
from schedcmp.cli.places import look
from schedcmp.cli.process import starting
from schedcmp.errors import RequestError
from schedcmp.prepare import Prepared
from schedcmp.records import Length, length_of
from schedcmp.report.numbers import counted
from schedcmp.runs.estimate import estimate
from schedcmp.runs.several import Several, prepare_all
from schedcmp.store.several import place_of
from schedcmp.sweep.parts.steps import Search

SHOWN_WARNINGS = 20


def show_plan(path: Path, overrides: tuple[str, ...], output: str | None) -> None:
    """What a sweep would do, and what it would cost."""
    with starting():
        found = prepare_all(path, overrides, progress=console.err.is_terminal)
    if isinstance(found, Several):
        folder = Path(output) if output else found.folder
        for label, prepared in found.members.items():
            _show_plan(prepared, str(place_of(folder, label)))
    else:
        _show_plan(found, output or str(found.folder))


def _show_plan(prepared: Prepared, name: str) -> None:
    headline(prepared)
    counts = Counter(map(length_of, prepared.plan.cells))
    from_images = any(strength is not None for *_, strength in counts)
    costs: dict[Length, set[int]] = defaultdict(set)  # guidance may take a second evaluation
    for cell in prepared.supported:
        costs[length_of(cell)].add(prepared.cost(cell))
    rows = [
        (
            name,
            _class_of(prepared, name),
            _steps(n, strength),
            ", ".join(map(str, sorted(costs[name, n, strength]))) or "unsupported",
            str(count),
        )
        for (name, n, strength), count in counts.items()
    ]
    steps = "steps at strength" if from_images else "steps"
    table(["scheduler", "class", steps, "NFE", "cells"], rows, left=("scheduler", "class"))
    if prepared.own_guidance is not None:
        pipeline = prepared.checkpoint.pipeline_class
        say(f"guidance {prepared.own_guidance:g}, as none is given: {pipeline}'s own default")
    folder, exists = look(name)
    say(f"folder   {name}{' (exists; what is finished there is not made again)' if exists else ''}")
    if prepared.references:
        pairs, nfe = prepared.references.pairs, sum(map(prepared.cost, prepared.references.cells))
        more = f"{counted(len(pairs), 'reference')}, {counted(nfe, 'denoiser evaluation')} more"
        searched = isinstance(prepared.sweep.steps, Search)
        say(f"distance {more}; {'`steps: auto` needs them' if searched else '`metrics: off` leaves them out'}")
    if isinstance(prepared.sweep.steps, Search):
        say(f"steps    those tried at first; more as they are needed, up to {prepared.sweep.steps.auto.most}")
    say(f"time     {estimate(prepared, folder)}")
    _warn_of_device(prepared)


def _warn_of_device(prepared: Prepared) -> None:
    """A plan may be for another machine; workers have devices of their own."""
    try:
        if prepared.sweep.executor.ray is None:
            _ = prepared.loader.device
    except RequestError as error:
        console.warn(f"{error} Here `schedcmp run` ends with this.")


def _class_of(prepared: Prepared, label: str) -> str:
    """Of the implementation that runs; of the entry, where none can."""
    recipe = prepared.recipes.get(label)
    return (recipe.entry if recipe else prepared.plan.entries[label]).class_name


def _steps(steps: int, strength: float | None) -> str:
    return str(steps) if strength is None else f"{steps} at {strength:g}"


def headline(prepared: Prepared, *, device: bool = False) -> None:
    plan = prepared.plan
    where = f" ({prepared.origin.device}, {prepared.origin.dtype})" if device else ""
    say(
        f"{prepared.sweep.name}: {counted(len(plan.entries), 'scheduler')}, {counted(len(plan.cells), 'cell')},"
        f" {counted(prepared.total_nfe, 'denoiser evaluation')} on {prepared.checkpoint.name}{where}"
    )
    for found in prepared.few_steps:
        if not found.leaves(prepared.supported):  # else a warning says all of it
            say(found.told)
    console.warn_of(prepared.warnings, SHOWN_WARNINGS, ", in the run's store")
