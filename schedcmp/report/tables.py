"""results.csv (a row per cell) and timings.* (a row per scheduler and steps), from the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from types import MappingProxyType
from typing import Any

from schedcmp.axes import OPTIONAL, PLAIN, SETTING, Setting
from schedcmp.guard.texts import csv_text
from schedcmp.records import Length, StoredCell, Timing, length_of
from schedcmp.report.numbers import NONE, markdown_table, mebibytes, seconds
from schedcmp.report.steadiness import doubts, interquartile_range, timed_group, timed_groups


@dataclass(frozen=True, slots=True)
class TimingRow:
    """Solo latency of one scheduler at one number of steps. Durations in seconds, unrounded."""

    scheduler: str
    sigma_schedule: str
    steps: int
    nfe: int
    setting: Setting
    n: int  # timed images
    latency_s: float  # median over the n
    latency_iqr_s: float | None  # None below two images
    s_per_nfe: float
    step_s: float  # median time from one denoiser call to the next
    text_s: float
    denoiser_s: float
    scheduler_overhead_s: float
    vae_s: float
    peak_memory_bytes: int | None
    relative: float = 1.0  # to the fastest row of the same setting
    doubt: str = ""  # why no latency of the run may be compared, see `steadiness`

    def columns(self) -> dict[str, Any]:
        """Flat, as in the files; what a setting need not have comes last, where it has it."""
        told = self.setting.fields()
        return {name: told[name] if name in told else getattr(self, name) for name in _COLUMNS} | told


_PLAIN_SETTING = [name for axis in SETTING if not axis.optional for name in axis.fields]
_COLUMNS = [n for f in fields(TimingRow) for n in (_PLAIN_SETTING if f.name == "setting" else [f.name])]


def timing_rows(cells: Sequence[StoredCell]) -> list[TimingRow]:
    """One row per scheduler × steps (and setting, where there are several), in the sweep's order."""
    rows, doubt = [_timing_row(members) for members in timed_groups(cells).values()], "; ".join(doubts(cells))
    fastest: dict[Setting, float] = {}
    for row in rows:
        fastest[row.setting] = min(row.latency_s, fastest.get(row.setting, row.latency_s))
    return [replace(row, relative=row.latency_s / fastest[row.setting], doubt=doubt) for row in rows]


def with_group_timings(cells: Sequence[StoredCell]) -> list[StoredCell]:
    """The cells, each with all timings of its row in `timing_rows`: a packed cell is as fast alone as its like."""
    groups = timed_groups(cells)
    timings = {key: tuple(t for m in members for t in m.result.timings) for key, members in groups.items()}
    return [replace(c, result=replace(c.result, timings=timings.get(timed_group(c), ()))) for c in cells]


def result_rows(
    cells: Iterable[StoredCell],
    trajectories: Mapping[Length, Mapping[str, Any]] = MappingProxyType({}),
    inert: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """One row per cell that is in the store, in the sweep's order.

    Args:
        trajectories: the noise levels of a scheduler at a number of steps.
        inert: what a cell's settings have not changed, by its id.
    """
    return [_result_row(stored, trajectories, inert) for stored in cells]


def csv_rows(rows: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> str:
    """A CSV file of all columns that any row has; without rows its `header` alone."""
    return csv_text(list(dict.fromkeys(name for row in rows for name in row)) or header, rows)


def timings_csv(rows: Sequence[TimingRow]) -> str:
    return csv_rows([row.columns() for row in rows], header=_COLUMNS)


def timings_json(rows: Sequence[TimingRow], environment: Mapping[str, Any]) -> str:
    return json.dumps({"environment": environment, "rows": [row.columns() for row in rows]}, indent=2) + "\n"


HEAD = ("scheduler", "steps", "NFE", "latency", "IQR", "per NFE", "relative", "n", "scheduler's", "memory")


def timings_markdown(rows: Sequence[TimingRow]) -> str:
    """The rows as a table for people: rounded, with units."""
    note = f"\n\n{unusable(rows[0].doubt)}." if rows and rows[0].doubt else ""
    return f"{markdown_table(HEAD, readable(rows), range(1, len(HEAD)))}{note}\n"


def unusable(doubt: str) -> str:
    return f"These latencies must not be compared: {doubt}"


def readable(rows: Sequence[TimingRow]) -> list[tuple[str, ...]]:
    """The rows' cells for people, under `HEAD`."""
    return [
        (
            name,
            str(row.steps),
            str(row.nfe),
            seconds(row.latency_s),
            seconds(row.latency_iqr_s),
            seconds(row.s_per_nfe),
            NONE if row.doubt else f"{row.relative:.2f}×",
            str(row.n),
            seconds(row.scheduler_overhead_s),
            mebibytes(row.peak_memory_bytes),
        )
        for row, name in zip(rows, row_names(rows), strict=True)
    ]


def row_names(rows: Sequence[TimingRow]) -> list[str]:
    """The rows' schedulers, with what of their settings tells them apart."""
    settings = {row.setting for row in rows}
    return [", ".join([row.scheduler, *row.setting.words(settings)]) for row in rows]


def _timing_row(members: Sequence[StoredCell]) -> TimingRow:
    first, cell = members[0].result, members[0].cell
    timings = [t for stored in members for t in stored.result.timings]
    latencies = [t.latency_s for t in timings]
    nfe = first.nfe or 0
    peaks = [m.result.peak_memory_bytes for m in members if m.result.peak_memory_bytes is not None]
    return TimingRow(
        scheduler=cell.scheduler,
        sigma_schedule=cell.sigma_schedule,
        steps=cell.steps,
        nfe=nfe,
        setting=members[0].setting,
        n=len(timings),
        latency_s=median(latencies),
        latency_iqr_s=interquartile_range(latencies),
        s_per_nfe=median(t.denoiser_s / nfe for t in timings) if nfe else 0.0,
        step_s=median([s for t in timings for s in t.step_s] or [0.0]),
        text_s=_median_of(timings, "text_s"),
        denoiser_s=_median_of(timings, "denoiser_s"),
        scheduler_overhead_s=_median_of(timings, "scheduler_s"),
        vae_s=_median_of(timings, "vae_s"),
        peak_memory_bytes=max(peaks, default=None),
    )


def _median_of(timings: Sequence[Timing], name: str) -> float:
    return float(median(getattr(t, name) for t in timings))


def _result_row(
    stored: StoredCell, trajectories: Mapping[Length, Mapping[str, Any]], inert: Mapping[str, str]
) -> dict[str, Any]:
    cell, result = stored.cell, stored.result
    sigmas = trajectories.get(length_of(cell), {}).get("sigmas") or (None,)
    latencies = [t.latency_s for t in result.timings]
    row = {
        "cell_id": cell.id,
        "scheduler": cell.scheduler,
        "base": cell.base,
        "class": result.scheduler_config.get("_class_name"),
        "sigma_schedule": cell.sigma_schedule,
        "steps": cell.steps,
        "nfe": result.nfe,
        "seed": cell.seed,
        **{name: value for axis in PLAIN for name, value in axis.columns(cell).items()},
        "width": result.width or cell.width,
        "height": result.height or cell.height,
        "status": result.status,
        "error": result.error,
        "image": stored.image_path,
        "image_sha256": result.image_sha256,
        "latency_s": median(latencies) if latencies else None,
        "peak_memory_bytes": result.peak_memory_bytes,
        "engine": "packed" if result.packed else "solo",
        "machine": result.machine,
        "nfe_budget": cell.nfe_budget,
        "timestep_spacing": result.scheduler_config.get("timestep_spacing"),
        "first_sigma": sigmas[0],
        "final_sigma": sigmas[-1],
        "inert": inert.get(cell.id),
    }
    row |= {"frames": result.frames, "fps": result.fps} if result.frames else {}
    own = {name: value for axis in OPTIONAL if axis.is_set(cell) for name, value in axis.columns(cell).items()}
    return row | {f"input_{name}" if name in row else name: value for name, value in own.items()} | {**stored.metrics}
