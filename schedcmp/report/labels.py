"""The words of a grid: what its values, captions and headers say."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from schedcmp.records import CellResult
from schedcmp.report.axes import Page, Value

NONE = "–"
LEGEND = "Latency: median of solo runs. NFE: denoiser evaluations per image."

LABELS: dict[str, Callable[[Value], str]] = {
    "scheduler": str,
    "sigma_schedule": lambda value: f"{value} sigmas",
    "steps": lambda value: f"{value} steps" if value != 1 else "1 step",
    "nfe": lambda value: f"up to {value} NFE",
    "seed": lambda value: f"seed {value}",
    "prompt": str,
    "guidance_scale": lambda value: f"guidance {value:g}",
    "negative_prompt": lambda value: f"negative prompt: {value or 'none'}",
    "size": lambda value: f"{value} px",
    "shift": lambda value: f"shift {value or 'of the checkpoint'}",
    "call": str,
    "copy": lambda value: f"copy {value}",
}
ON_OWN_LINE = ("prompt", "negative_prompt")


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


def negative_line(page: Page) -> str | None:
    """The page's negative prompt, if it has one or if pages differ in it."""
    negative = page.example.negative_prompt
    shared = len({stored.cell.negative_prompt for stored in page.cells.values()}) == 1
    told = shared and (negative or "negative_prompt" in page.facts)
    return LABELS["negative_prompt"](negative) if told else None


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
