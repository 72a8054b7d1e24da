"""The words of a grid: what its values, captions and headers say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from schedcmp.axes import AXES, Value
from schedcmp.records import CellResult
from schedcmp.report.axes import COPY, Page
from schedcmp.report.numbers import NONE, seconds

_LEGEND: dict[str, Callable[[CellResult], bool]] = {  # where a result has it
    "Latency: median of solo runs.": lambda result: bool(result.timings),
    "NFE: denoiser evaluations per image.": lambda result: result.nfe is not None,
    "Of a video up to four frames, evenly spaced from its first to its last, in rows.": lambda result: (
        (result.frames or 1) > 1
    ),
}

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


def legend(page: Page) -> str:
    """How to read a page's captions, and pictures that are several."""
    told = (text for text, has in _LEGEND.items() if any(has(stored.result) for stored in page.cells.values()))
    return " ".join(told)


def caption(result: CellResult) -> str:
    """A tile's latency, if it was timed, and cost: "410 ms · 19 NFE"."""
    steps = [LABELS["steps"](result.cell.steps)] if result.cell.nfe_budget and result.nfe else []
    latency = [seconds(median(timing.latency_s for timing in result.timings))] if result.timings else []
    cost = [f"{result.nfe} NFE"] if result.nfe is not None else []
    return " · ".join(latency + steps + cost) or NONE
