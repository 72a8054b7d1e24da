"""`verify`: the oracle's table, as a table, JSON, CSV and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from schedcmp.cli.console import note, say, table, write
from schedcmp.cli.pace import Work
from schedcmp.cli.progress import progress
from schedcmp.cli.showing import scheduler_config
from schedcmp.drawing import plot_format
from schedcmp.guard.texts import csv_text
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.measure import Point, sampling_floor
from schedcmp.truth.plot import convergence_plot
from schedcmp.truth.verdict import Kind, Verdict
from schedcmp.truth.verify import verify

_BUDGETS = (10, 20, 40)
_SHORT = 20  # characters of a reason that fit the table at 80 columns; the longer ones stand below it
_MARKS: dict[Kind, str] = {
    "converges": "✓",
    "stochastic, right": "✓",
    "stochastic, floor": "~",
    "stochastic, converging": "~",
    "floor": "~",
    "does not converge": "✗",
    "same as": "=",
    "unsupported": "–",
}
_CSV_HEAD = ("name", "verdict", "order", "floor", "steps", "nfe", "rms", "w1")


def verify_schedulers(
    names: Sequence[str],
    model: str,
    sigmas: Sequence[str],
    *,
    every_sigma_schedule: bool,
    as_json: bool,
    csv_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Run entries on data whose exact solution is known, and show how far each is from it.

    Raises:
        RequestError: an unknown name, checkpoint, noise schedule or plot format, or a file that cannot be written.
    """
    file_format = plot_format(plot_file) if plot_file else ""
    config = scheduler_config(model)
    entries = _entries(names, sigmas, every_sigma_schedule)
    with progress(len(entries), Work(len(entries)), things="schedulers") as advance:

        def tell(name: str) -> None:
            advance.solo(1)
            advance.finish(name)

        verdicts = verify(entries, config, tell)
    if as_json:
        say(json.dumps([_as_json(v) for v in verdicts], indent=2))
    else:
        _show(verdicts, f"{model} ({config.get('_class_name')})")
    if csv_file:
        _write(csv_file, _as_csv(verdicts))
    if plot_file:
        _write(plot_file, convergence_plot(verdicts, file_format, model))


def _entries(names: Sequence[str], sigmas: Sequence[str], every: bool) -> list[Entry]:
    registry = builtin_registry()
    chosen = [registry.entry(name) for name in names] or list(registry.entries.values())
    schedules = list(registry.sigma_schedules) if every else list(sigmas) or ["default"]
    found = [e.with_sigmas(registry.sigma_schedule(s)) for e in chosen for s in schedules]
    return list({e.name: e for e in found}.values())


def _show(verdicts: Sequence[Verdict], what: str) -> None:
    say(f"noise schedule of {what}")
    exact = [v for v in verdicts if v.measured.points and not v.measured.stochastic]
    drawn = [v for v in verdicts if v.measured.stochastic]
    if exact:
        _section("RMS error from the exact solution, in standard deviations of the data", exact)
    if drawn:
        mean, std = sampling_floor()
        _section(f"Wasserstein-1 distance from the data; of exact samples, as many, {mean:.4f} ± {std:.4f}", drawn)
    remarks = [(f"{_MARKS[v.kind]} {v.name}", v.why) for v in verdicts if v.why and not _short(v)]
    if remarks:
        say()
        table(["remarks", ""], remarks, names=("remarks",), left=("",))
    say()
    say("columns: at most so many evaluations (NFE); order: of the error's fall, 95 %")
    say("✓ converges or is right   ~ meets a floor, or is not there yet")
    say("✗ does not converge       = same as another       – does not run")


def _section(title: str, verdicts: Iterable[Verdict]) -> None:
    say()
    say(title)
    rows = [
        (
            f"{_MARKS[v.kind]} {v.name}",
            *(error_text(within(v.measured.points, n)) for n in _BUDGETS),
            v.fit.told.replace(" ", "") if v.fit else "–",
            _short(v),
        )
        for v in sorted(verdicts, key=lambda v: (within(v.measured.points, _BUDGETS[1]) or v.measured.points[0]).error)
    ]
    head = ["scheduler", *(str(n) for n in _BUDGETS), "order", ""]
    table(head, rows, names=("scheduler",), left=("",))


def _short(v: Verdict) -> str:
    """What limits it, in so few words that they fit beside the numbers; the rest stands below."""
    if v.kind == "same as":
        return v.text
    why = v.why.partition(";")[0]
    return why if len(why) <= _SHORT else ""


def within(points: Iterable[Point], budget: int) -> Point | None:
    """The most steps that a budget of evaluations allows."""
    return max((p for p in points if budget / 2 < p.nfe <= budget), key=lambda p: p.nfe, default=None)


def error_text(point: Point | None) -> str:
    return f"{point.error:.4f}" if point else "–"


def _as_json(v: Verdict) -> dict[str, Any]:
    m, points = v.measured, v.measured.points
    return {
        "name": v.name,
        "verdict": v.text,
        "reason": v.why,
        "stochastic": m.stochastic,
        "order": v.fit and v.fit.order,
        "order_interval": v.fit and [v.fit.low, v.fit.high],
        "floor": v.floor,
        "final_sigma": m.final_sigma if points else None,
        "errors": {p.nfe: p.rms for p in points if p.rms is not None},
        "w1": points[-1].w1 if points else None,
        "w1_by_nfe": {p.nfe: p.w1 for p in points},
        "w1_floor": sampling_floor()[0] if m.stochastic else None,
        "failure": m.failure,
    }


def _as_csv(verdicts: Iterable[Verdict]) -> bytes:
    rows = []
    for v in verdicts:
        head = {"name": v.name, "verdict": v.text, "order": v.fit and v.fit.order, "floor": v.floor}
        points = [{"steps": p.steps, "nfe": p.nfe, "rms": p.rms, "w1": p.w1} for p in v.measured.points]
        rows += [head | point for point in points or [{}]]
    return csv_text(_CSV_HEAD, rows).encode()


def _write(path: Path, data: bytes) -> None:
    write(path, data)
    note(f"{path} is written")
