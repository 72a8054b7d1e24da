"""The words of a grid: what its values, captions and headers say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from schedcmp.axes import AXES, Value
from schedcmp.records import CellResult
from schedcmp.report.axes import COPY, Page

NONE = "–"
LEGEND = "Latency: median of solo runs. NFE: denoiser evaluations per image."

LABELS: dict[str, Callable[[Value], str]] = {
    **{axis.name: axis.label for axis in AXES.values()},
    COPY: lambda value: f"copy {value}",
}
ON_OWN_LINE = tuple(axis.name for axis in AXES.values() if axis.prose)


def value_label(axis: str, value: Value) -> str:
    """How a header names a value: "20 steps", "seed 3", "euler"."""
    return LABELS[axis](value)


def facts_line(page: Page) -> str:
    """What all cells of the page share, but for the prompts: "guidance 4 · seed 3"."""
    return " · ".join(LABELS[axis](value) for axis, value in page.facts.items() if axis not in ON_OWN_LINE)


def prompt_line(page: Page) -> str | None:
    """The page's prompt in quotation marks, if it has one."""
    if "prompt" not in page.facts:
        return None
    prompt = page.example.prompt.strip()
    return f"“{prompt}”" if prompt else "(empty prompt)"


def text_lines(page: Page) -> Iterator[str]:
    """The page's other texts, such as a negative prompt, where it has one or where pages differ in it."""
    for name in ON_OWN_LINE:
        value = AXES[name].shown_of(page.example)
        shared = all(AXES[name].shown_of(stored.cell) == value for stored in page.cells.values())
        if not AXES[name].shown and shared and (value or name in page.facts):
            yield LABELS[name](value)


def caption(result: CellResult) -> str:
    """A tile's latency, if it was timed, and cost: "0.41 s · 19 NFE"."""
    steps = [LABELS["steps"](result.cell.steps)] if result.cell.nfe_budget and result.nfe else []
    latency = [latency_text(median(timing.latency_s for timing in result.timings))] if result.timings else []
    cost = [f"{result.nfe} NFE"] if result.nfe is not None else []
    return " · ".join(latency + steps + cost) or NONE


def latency_text(latency_s: float) -> str:
    """Seconds to two or three figures: "3.2 ms", "44 ms", "0.41 s", "12.3 s", "154 s"."""
    if latency_s < 0.0995:
        return f"{latency_s * 1000:.{1 if latency_s < 0.00995 else 0}f} ms"
    return f"{latency_s:.{2 if latency_s < 9.995 else 1 if latency_s < 99.95 else 0}f} s"
