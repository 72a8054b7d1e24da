"""Progress: what is left goes by evaluations and images, each at its own pace, on one line of any terminal."""

from __future__ import annotations

import io
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from schedcmp.cli import console
from schedcmp.cli import progress as module
from schedcmp.cli.pace import Pace, Work
from schedcmp.cli.progress import progress, stage
from schedcmp.prepare import prepare_sweep
from schedcmp.runs.execution import Execution
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import parse


class Paced(Pace):
    """A pace by a clock that is told how much time passes."""

    def __init__(self, solo: Work, packed: Work) -> None:
        self.now = 0.0
        super().__init__(solo, packed, lambda: self.now)

    def call(self, phase: str, seconds: float, images: int = 0) -> None:
        self.doing(phase, images)
        self.now += seconds
        self.doing("", 0)


def test_time_left_is_a_bound_until_the_faster_part_runs_and_then_goes_by_its_own_pace() -> None:
    pace = Paced(Work(40), Work(1000))
    assert pace.left() == ""
    for _ in range(4):
        pace.now += 1
        pace.spend(10, packed=False)
    assert pace.left() == "< 0:01:40 left"
    pace.now += 1
    pace.spend(100, packed=True)
    assert pace.per_s == pytest.approx(100)
    assert pace.left() == "9.0 s left"


def test_the_pace_is_that_of_the_last_while() -> None:
    pace = Paced(Work(), Work(10_000))
    for speed in [1] * 60 + [50] * 40:
        pace.now += 1
        pace.spend(speed, packed=True)
    assert pace.per_s == pytest.approx(50, rel=0.05)


def test_what_takes_more_than_was_planned_leaves_nothing_to_say() -> None:
    pace = Paced(Work(), Work(5))
    pace.now += 1
    pace.spend(9, packed=True)
    assert pace.left() == ""


def test_a_slow_model_is_followed_call_by_call() -> None:
    pace = Paced(Work(8, 2), Work())
    pace.call("encoding prompts", 30)
    for _ in range(3):
        pace.call("denoising", 7)
    assert pace.speed() == "7.0 s/NFE"
    assert pace.left() == "> 0:00:35 left"  # decoding is not known yet
    pace.call("denoising", 7)
    pace.call("decoding", 30, 1)
    pace.spend(4, packed=False, images=1)
    assert pace.speed() == "7.0 s/NFE"
    assert pace.left() == "0:00:58 left"
    pace.doing("denoising", 0)
    pace.now += 5
    assert pace.left() == "0:00:53 left"


def test_while_the_last_images_are_decoded_time_is_left_and_the_pace_stays() -> None:
    pace = Paced(Work(), Work(40, 4))
    pace.call("denoising", 10)
    pace.spend(20, packed=True)
    pace.call("decoding", 30, 2)
    pace.call("denoising", 10)
    pace.spend(20, packed=True)
    pace.doing("decoding", 2)
    for second in range(1, 30):
        pace.now += 1
        assert pace.left().startswith(("0:00:", f"{30 - second:.1f} s", "< 1 s"))
        assert pace.speed() == "2.0 NFE/s"
        assert pace.done < 1
    pace.now += 10  # longer than it should
    assert pace.left() == ""
    pace.doing("", 0)
    assert pace.done == 1


def test_a_call_that_takes_longer_than_any_before_slows_the_pace() -> None:
    pace = Paced(Work(), Work(100))
    for _ in range(3):
        pace.call("denoising", 1)
        pace.spend(1, packed=True)
    pace.doing("denoising", 0)
    pace.now += 27
    assert pace.speed() == "10.0 s/NFE"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_stays_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    monkeypatch.setattr(module, "err", terminal)
    with progress(1000, Work(50, 5), Work(10_000, 995), lambda: 0.973) as advance:
        advance.doing("denoising", 2)
        advance.solo(50, 5)
        time.sleep(0.01)
        advance.packed(40)
        advance.finish("dpmpp-2m-karras 120 steps seed 1234")
        bar = advance.bar  # type: ignore[attr-defined]
        lines = terminal.render_lines(bar.get_renderable())
        text = "".join(segment.text for segment in lines[0])
        assert len(lines) == 1
        words = ["1/1000 cells", "denoising", "left", "NFE/s", "97% full"]
        assert all(word in text for word in (words if width > 60 else words[:3]))


def test_a_terminal_of_a_few_columns_shows_no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=20, highlight=False, color_system=None)
    monkeypatch.setattr(module, "err", terminal)
    with progress(1000, Work(50, 5), Work(10_000, 995), lambda: 0.973) as advance:
        advance.doing("denoising", 2)
        assert advance.fitting == ""  # type: ignore[attr-defined]
        assert terminal.render_lines(advance.bar.get_renderable())  # type: ignore[attr-defined]


def test_the_bar_goes_on_while_a_model_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False, color_system=None)
    monkeypatch.setattr(module, "err", terminal)
    with progress(1, Work(), Work(40, 1)) as advance:
        advance.doing("denoising", 2)
        time.sleep(0.01)
        advance.packed(20)
        shown = set()
        for _ in range(3):
            bar = advance.bar  # type: ignore[attr-defined]
            shown.add("".join(s.text for line in terminal.render_lines(bar.get_renderable()) for s in line))
            time.sleep(0.1)
        assert len(shown) == 3


def test_a_log_has_the_same_facts_without_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Console(file=io.StringIO(), force_terminal=False, width=80)
    monkeypatch.setattr(module, "err", log)
    monkeypatch.setattr(console, "err", log)
    monkeypatch.setattr(module, "_LOG_EVERY_S", 0.0)
    with progress(1, Work(), Work(10, 1), lambda: 0.5) as advance:
        advance.packed(5)
        advance.doing("decoding", 1)
        advance.packed(5)
        advance.finish("ddim 5 steps seed 0")
    first, second, _, last = log.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("0/1 cells, ")
    assert first.endswith(", 50% full")
    assert ", decoding, " in second
    assert last.startswith("1/1 cells, ")


def test_a_log_names_what_takes_long_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Console(file=io.StringIO(), force_terminal=False, width=80)
    monkeypatch.setattr(module, "err", log)
    monkeypatch.setattr(console, "err", log)
    with stage("loading"):
        pass
    assert log.file.getvalue() == ""  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_LOG_EVERY_S", 0.0)
    with stage("writing reports"):
        time.sleep(0.2)
    assert log.file.getvalue() == "writing reports\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ["packed", "solo"])
def test_a_run_tells_of_each_call_of_a_model(engine: str, tmp_path: Path) -> None:
    sweep = Sweep.model_validate(
        {
            "model": "builtin:tiny", "prompt": "a red circle", "schedulers": ["euler", "heun"], "steps": 2,
            "seeds": [0, 1], "timing": {"mode": "off"}, "metrics": "off", "engine": engine,
        }
    )  # fmt: skip
    prepared = prepare_sweep(sweep, parse("model: builtin:tiny", "test"))
    calls: list[str] = []
    rows: Counter[str] = Counter()

    def doing(phase: str, images: int) -> None:
        calls.append(phase)
        rows[phase] += images

    with Store.create(tmp_path / "run") as store:
        execution = Execution.begin(prepared, store)
        before = [dict(vars(part)) for part in (execution.pipeline.unet, execution.pipeline.vae)]
        assert [r.status for r in execution.run(doing=doing)] == ["ok"] * 4
        assert [dict(vars(part)) for part in (execution.pipeline.unet, execution.pipeline.vae)] == before
    assert calls[::2].count("") == 0
    assert set(calls[1::2]) == {""}
    assert calls[0] == "encoding prompts"
    assert rows["decoding"] >= 4
    asked_alike = (
        0 if engine == "solo" else 1
    )  # Euler and Heun start from the same noise: in one lane of two seeds each
    assert rows["denoising"] >= 2 * (
        sum(map(prepared.cost, prepared.supported)) - asked_alike * len(prepared.sweep.seeds)
    )
