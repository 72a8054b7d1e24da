"""`show`: one scheduler or sigma schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schedcmp.cli.console import say, table, write
from schedcmp.cli.process import starting
from schedcmp.drawing import plot_format
from schedcmp.errors import RequestError
from schedcmp.prepare import scheduler_config_of
from schedcmp.registry.build import resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.entry import Entry, SigmaSchedule
from schedcmp.registry.plot import sigma_curves, sigma_plot
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry


def show_scheduler(name: str, model: str, steps: int, plot: Path | None = None) -> None:
    """One entry, resolved against a checkpoint; or what a sigma schedule is.

    Args:
        plot: where to draw the entry's noise levels.

    Raises:
        RequestError: an unknown name or checkpoint, or a plot that cannot be drawn.
    """
    registry = builtin_registry()
    if registry.names_sigma_schedule(name):
        if plot:
            raise RequestError(f"--plot draws a scheduler's noise levels; name one, as in euler-{name}")
        _show_sigma_schedule(registry.sigma_schedule(name))
        return
    config = scheduler_config(model)
    entry = registry.entry(name)
    recipe = resolve(entry, config)
    trajectory = preflight(recipe, steps)
    status, reason = judge(entry, config)
    say(f"{entry.name}: {recipe.entry.class_name}, {_character(entry)}")
    say(f"with {model}: {status}{f' ({reason})' if reason else ''}")
    for place, names in registry.equivalents(entry).items():
        say(f"in {place}: {names}")
    for note in filter(None, (entry.note, recipe.entry.sigmas.note)):
        say(f"note: {note}")
    if recipe.entry.sigmas.source:
        say(f"{recipe.entry.sigmas.name} sigmas: {recipe.entry.sigmas.source}")
    say()
    head = ["option", "value", "from"]
    table(head, [(name, repr(option.value), option.source) for name, option in recipe.options.items()], left=head)
    say()
    say(f"{steps} steps, {trajectory.nfe} NFE")
    say(f"timesteps  {_numbers(trajectory.timesteps)}")
    if trajectory.sigmas:
        say(f"sigmas     {_numbers(trajectory.sigmas)}")
    for remark in trajectory.remarks:
        say(f"remark: {remark}")
    if plot:
        curves = sigma_curves(entry, registry.sigma_schedules, config, steps)
        write(plot, sigma_plot(curves, f"{entry.name}, {steps} steps, {model}", plot_format(plot)))
        say(f"plot       {plot}")


def _show_sigma_schedule(sigmas: SigmaSchedule) -> None:
    say(f"{sigmas.name}: a sigma schedule, for any scheduler that can take it, as in euler-{sigmas.name}")
    for title, text in (("source", sigmas.source), ("note", sigmas.note)):
        if text:
            say(f"{title}: {text}")
    for place, names in sigmas.also.items():
        say(f"in {place}: {', '.join(names)}")
    for name, chosen in {**sigmas.by_entry, **sigmas.by_pipeline}.items():
        say(f"with {name}: {chosen.name}")


def scheduler_config(model: str) -> dict[str, Any]:
    """As `scheduler_config_of`."""
    with starting():
        return scheduler_config_of(model)


def _character(entry: Entry) -> str:
    noise = {True: "stochastic", False: "deterministic", None: "of unknown kind"}[entry.noise]
    order = f"order {entry.order}" if entry.order else ""
    cost = f"{entry.nfe} evaluations for N steps" if entry.nfe else ""
    return ", ".join(filter(None, (noise, order, cost)))


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.4g}" for v in values)
