"""What of a run is sent: what it was made with, numbers by steps, files that say the rest. From the store alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedcmp.report.across import recommended_cell
from schedcmp.report.answer import Answer
from schedcmp.report.words.parts import short
from schedcmp.store.store import Store

_FILES = ("answer.md", "sweep.yaml", "results.csv", "timings.csv")
Series = Mapping[str, Mapping[int, float]]  # "reference_rmse/ddim" → number of steps → value


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    name: str
    facts: Mapping[str, str]
    series: Series
    files: tuple[Path, ...]


def record(store: Store, answers: Sequence[Answer], written: Sequence[Path]) -> Record:
    """A run as it is sent.

    Args:
        answers: by one metric or several.
        written: the reports.
    """
    sweep, environment = store.sweep(), store.meta("environment") or {}
    cells = list(store.cells())
    taken = recommended_cell(cells, answers, store.readings())
    facts = {name: str(value) for name, value in environment.items() if isinstance(value, str | int | float)}
    facts |= {"recommended": short(taken[1])} if taken else {}
    series: dict[str, dict[int, float]] = {}
    for name, steps, value in _numbers(answers):
        series.setdefault(name, {})[steps] = value
    plots = [path for path in written if path.parent.name == "plots" and path.suffix == ".png"]
    tables = [store.folder / name for name in _FILES]
    return Record(sweep["name"], facts, series, tuple(path for path in (*tables, *plots) if path.is_file()))


def _numbers(answers: Sequence[Answer]) -> Iterator[tuple[str, int, float]]:
    settings = list(dict.fromkeys(found.setting for found in answers))
    for found in answers:
        where = "".join(f"{text}/" for text in found.setting.words(settings))
        for point in found.cheapest:
            values: dict[str, Any] = {"nfe": point.nfe}
            if point.quality and found.metric:
                values[found.metric.name] = point.quality.value
            if point.latency and not found.doubts:
                values["latency_s"] = point.latency.value
            for name, value in values.items():
                yield f"{where}{name}/{point.scheduler}", point.steps, float(value)
