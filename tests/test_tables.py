from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedcmp.records import Cell, CellResult, StoredCell, Timing
from schedcmp.report.numbers import seconds
from schedcmp.report.tables import (
    csv_rows,
    interquartile_range,
    result_rows,
    timing_rows,
    timings_csv,
    timings_json,
    timings_markdown,
    with_group_timings,
)


def stored(scheduler: str, steps: int, seed: int, *latencies: float, status: str = "ok") -> StoredCell:
    cell = Cell(
        f"{scheduler}{steps}{seed}", seed, scheduler, scheduler, "default", steps, seed, "p", 'a "cat",\nb', "", 2.0,
        None, None,
    )  # fmt: skip
    timings = tuple(Timing(s, 0.1 * s, 0.6 * s, 0.2 * s, 0.1 * s, (s / 2, s / 2)) for s in latencies)
    result = CellResult(
        cell,
        status,
        nfe=2 * steps,
        width=64,
        height=64,
        timings=timings,
        peak_memory_bytes=seed * 2**20,  # type: ignore[arg-type]
    )
    return StoredCell(result, f"images/{cell.id}.png")


CELLS = [
    stored("heun", 4, 0, 1.0), stored("heun", 4, 1, 3.0, 2.0), stored("heun", 8, 0, 4.0),
    stored("ddim", 4, 0, 0.5), stored("ddim", 4, 1), stored("ddim", 8, 1, status="failed"),
]  # fmt: skip


def test_a_row_per_scheduler_and_steps_with_the_median_of_all_timings() -> None:
    rows = timing_rows(CELLS)
    assert [(r.scheduler, r.steps, r.n, r.latency_s, r.relative) for r in rows] == [
        ("heun", 4, 3, 2.0, 4.0), ("heun", 8, 1, 4.0, 8.0), ("ddim", 4, 1, 0.5, 1.0),
    ]  # fmt: skip
    first = rows[0]
    assert (first.latency_iqr_s, first.s_per_nfe, first.step_s) == (1.0, pytest.approx(0.15), 1.0)
    assert (first.scheduler_overhead_s, first.peak_memory_bytes) == (pytest.approx(0.4), 2**20)
    assert rows[1].latency_iqr_s is None


def test_csv_files_read_back_unrounded() -> None:
    results = list(csv.DictReader(io.StringIO(csv_rows(result_rows(CELLS)))))
    assert [r["cell_id"] for r in results] == [c.cell.id for c in CELLS]
    assert (results[1]["latency_s"], results[4]["latency_s"], results[5]["status"]) == ("2.5", "", "failed")
    assert results[0]["prompt"] == 'a "cat",\nb'
    timings = list(csv.DictReader(io.StringIO(timings_csv(timing_rows(CELLS)))))
    assert float(timings[0]["latency_s"]) == 2.0
    assert timings[1]["latency_iqr_s"] == ""


def test_an_empty_run_still_has_its_headers() -> None:
    assert timings_csv([]).startswith("scheduler,sigma_schedule,steps,nfe,")
    assert timings_markdown([]).count("\n") == 2


def test_json_holds_the_rows_and_the_environment() -> None:
    read = json.loads(timings_json(timing_rows(CELLS), {"torch": "2"}))
    assert read["environment"] == {"torch": "2"}
    assert read["rows"][2]["relative"] == 1.0


def test_markdown_is_a_table_of_equal_rows() -> None:
    lines = timings_markdown(timing_rows(CELLS)).partition("\n\n")[0].splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| heun | 4 | 8 | 2 s | 1 s | 150 ms | – | 3 |")


def test_rows_of_several_guidances_are_told_apart_and_compared_with_their_like() -> None:
    plain, guided = stored("ddim", 4, 0, 1.0), stored("ddim", 4, 0, 2.0)
    guided = replace(guided, result=replace(guided.result, cell=replace(guided.cell, guidance_scale=7.5)))
    rows = timing_rows([plain, guided])
    assert [row.relative for row in rows] == [1.0, 1.0]
    assert "| ddim, guidance 7.5 | 4 |" in timings_markdown(rows)


def test_packed_cells_show_the_latency_of_their_like() -> None:
    shown = with_group_timings(CELLS)
    assert [len(c.result.timings) for c in shown] == [3, 3, 1, 1, 1, 0]
    assert [c.cell for c in shown] == [c.cell for c in CELLS]


@given(st.floats(1e-7, 1e5))
def test_durations_keep_three_digits(value: float) -> None:
    number, unit = seconds(value).split()
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] == pytest.approx(value, rel=0.006)
    assert "e" not in number


def test_a_duration_has_one_form() -> None:
    found = [seconds(s) for s in (3.2e-6, 0.0032, 0.044, 0.41, 0.9996, 12.3, 999.7, 1540, None)]
    assert found == ["3.2 µs", "3.2 ms", "44 ms", "410 ms", "1 s", "12.3 s", "1000 s", "1540 s", "–"]


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=20), st.floats(0, 10))
def test_the_interquartile_range_ignores_shifts_and_lies_within_the_range(values: list[float], shift: float) -> None:
    found = interquartile_range(values)
    assert found is not None
    assert 0 <= found <= max(values) - min(values) + 1e-9
    assert interquartile_range([v + shift for v in values]) == pytest.approx(found, abs=1e-6)
