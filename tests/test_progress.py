"""Progress: what is left goes by evaluations, each part at its own pace, on one line of any terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from schedcmp.cli import progress as module
from schedcmp.cli.progress import Pace, progress


def paced(solo: int, packed: int) -> tuple[Pace, list[float]]:
    now = [0.0]
    return Pace(solo, packed, lambda: now[0]), now


def test_time_left_is_a_bound_until_the_faster_part_runs_and_then_goes_by_its_own_pace() -> None:
    pace, now = paced(solo=40, packed=1000)
    assert pace.left() == ""
    for _ in range(4):
        now[0] += 1
        pace.spend(10, packed=False)
    assert pace.left() == "< 0:01:40 left"
    now[0] += 1
    pace.spend(100, packed=True)
    assert pace.per_s == pytest.approx(100)
    assert pace.left() == "9.0 s left"


def test_the_pace_is_that_of_the_last_while() -> None:
    pace, now = paced(solo=0, packed=10_000)
    for speed in [1] * 60 + [50] * 40:
        now[0] += 1
        pace.spend(speed, packed=True)
    assert pace.per_s == pytest.approx(50, rel=0.05)


def test_what_takes_more_than_was_planned_leaves_nothing_below_zero() -> None:
    pace, now = paced(solo=0, packed=5)
    now[0] += 1
    pace.spend(9, packed=True)
    assert pace.left() == "0.0 s left"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_stays_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    monkeypatch.setattr(module, "err", terminal)
    with progress(1000, 50, 10_000, lambda: 0.973) as advance:
        advance.solo(50)
        advance.packed(4000)
        advance.finish("dpmpp-2m-karras 120 steps seed 1234")
        bar = advance.bar  # type: ignore[attr-defined]
        lines = terminal.render_lines(bar.get_renderable())
        text = "".join(segment.text for segment in lines[0])
        assert len(lines) == 1
        assert all(word in text for word in ("1/1000 cells", "left", "NFE/s", "97% full"))


def test_a_log_has_the_same_facts_without_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Console(file=io.StringIO(), force_terminal=False, width=80)
    monkeypatch.setattr(module, "err", log)
    monkeypatch.setattr(module, "_LOG_EVERY_S", 0.0)
    with progress(1, 0, 10, lambda: 0.5) as advance:
        advance.packed(5)
        advance.packed(5)
        advance.finish("ddim 5 steps seed 0")
    first, _, last = log.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("0/1 cells, ")
    assert first.endswith("NFE/s, 50% full")
    assert last.startswith("1/1 cells, ")
