from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image
from test_answer import PNG, run_of, stored
from test_run import Write, run

from schedcmp.drawing import MOST, Line, figure, line_figure, panels, rendered, spread
from schedcmp.metrics.clip import ClipScore
from schedcmp.readings import noted, readings
from schedcmp.records import StoredCell
from schedcmp.registry.table import builtin_registry
from schedcmp.report.answer import answer
from schedcmp.report.plots import write_plots
from schedcmp.report.plots.breakdown import breakdown_data, memory_data
from schedcmp.report.plots.convergence import convergence_data, draw_convergence
from schedcmp.report.plots.pareto import pareto_data
from schedcmp.report.plots.sigmas import sigma_data
from schedcmp.report.tables import timing_rows
from schedcmp.store.images import image_path
from schedcmp.store.store import Store

KNOWN = readings(noted([ClipScore().reading]))
RMSE = KNOWN["reference_rmse"]

pytestmark = pytest.mark.plots


def plots(folder: Path, cells: Sequence[StoredCell], trajectories: Sequence[Any] = ()) -> set[str]:
    with Store.create(folder) as store:
        store.begin([c.cell for c in cells], {"trajectories": trajectories})
        for c in cells:
            store.add(c.result, "key", "machine", image_path(c.cell), PNG)
        missing: list[str] = []
        written = write_plots(store, cells, answer(cells, known=KNOWN), timing_rows(cells), "name", missing)
    assert not missing
    return {p.name for p in written}


def test_what_there_is_data_for_is_drawn_and_nothing_else(tmp_path: Path) -> None:
    assert plots(tmp_path / "all", run_of(3)) == {
        f"{name}.{suffix}" for name in ("convergence", "pareto", "breakdown") for suffix in ("svg", "png")
    }
    speed_only = [stored("ddim", 4, 0, metrics={})]
    assert plots(tmp_path / "speed", speed_only) == {"breakdown.svg", "breakdown.png"}
    assert plots(tmp_path / "none", [stored("ddim", 4, 0, metrics={}, latencies=0)]) == set()


def test_plots_of_an_earlier_report_go(tmp_path: Path) -> None:
    plots(tmp_path / "run", run_of(2))
    others = {"notes.txt", "my-drawing.svg", "my.png"}
    for name in others:
        (tmp_path / "run/plots" / name).write_text("mine")
    assert (tmp_path / "run/plots/pareto.svg").exists()
    plots(tmp_path / "run", [stored("ddim", 4, 0, metrics={})])
    left = {p.name for p in (tmp_path / "run/plots").iterdir()}
    assert left == {"breakdown.svg", "breakdown.png", ".written.json", *others}


def test_guidances_have_plots_of_their_own(tmp_path: Path) -> None:
    cells = [stored(s, n, 0, metrics={"clip": n}, guidance=g) for s in "ab" for n in (2, 4) for g in (1.0, 7.5)]
    names = plots(tmp_path / "run", cells)
    assert len(names) == 12
    assert len({n for n in names if n.startswith("pareto-guidance-7.5")}) == 2


def test_the_convergence_data_are_the_points_with_their_intervals() -> None:
    cells = run_of(6)
    (found,) = answer(cells, known=KNOWN)
    line = next(line for line in convergence_data(found) if line.name == "heun")
    points = [p for p in found.measured if p.scheduler == "heun"]
    assert list(line.x) == [8, 16, 32]
    assert list(line.y) == [p.quality.value for p in points if p.quality]
    assert line.band == [(p.quality.low, p.quality.high) for p in points if p.quality]
    (alone,) = answer(run_of(1))
    assert all(line.band is None for line in convergence_data(alone))


def test_a_scheduler_at_one_cost_is_no_line() -> None:
    (found,) = answer([stored("ddim", 4, 0, metrics={"clip": 1.0})])
    assert convergence_data(found) == []


def test_the_pareto_data_mark_the_front() -> None:
    (found,) = answer(run_of(6))
    places = pareto_data(found)
    assert len(places) == len(found.measured)
    assert [p.y for p in places if p.on_front] == [p.quality.value for p in found.front if p.quality]
    assert [p.x for p in places] == sorted(p.x for p in places)


def test_the_bars_of_a_breakdown_add_up_to_the_latency() -> None:
    rows = timing_rows(run_of(1))
    bars = breakdown_data(rows)
    assert [sum(bar.parts) for bar in bars] == pytest.approx(sorted(r.latency_s for r in rows if r.steps == 16))
    assert [bar.name for bar in bars][-1] == "heun"


def test_a_scheduler_that_lacks_the_usual_steps_shows_its_own() -> None:
    rows = timing_rows([*run_of(1), stored("pndm", 50, 0, metrics={})])
    assert "pndm (50 steps)" in {bar.name for bar in breakdown_data(rows)}


@pytest.mark.parametrize(("peaks", "drawn"), [((100, 200), 2), ((1000, 1040), 0), ((None, None), 0)])
def test_memory_is_drawn_where_it_differs(peaks: tuple[int | None, ...], drawn: int) -> None:
    rows = timing_rows([stored(s, 4, 0, metrics={}) for s in "ab"])

    assert len(memory_data([replace(r, peak_memory_bytes=p) for r, p in zip(rows, peaks, strict=True)])) == drawn


def test_equal_noise_levels_share_a_line_and_those_without_any_are_named() -> None:
    def row(name: str, *sigmas: float, steps: int = 3) -> dict[str, Any]:
        return {"scheduler": name, "steps": steps, "sigmas": list(sigmas)}

    rows = [row("euler", 9, 3, 1, 0), row("heun", 9, 3, 3, 1, 1, 0), row("karras", 9, 2, 1, 0), row("ddim")]
    levels = sigma_data([*rows, row("euler", 9, 0, steps=1)], {n: n for n in ("euler", "heun", "karras", "ddim")})
    assert levels is not None
    assert [(line.name, line.y) for line in levels.lines] == [("euler = heun", [9, 3, 1]), ("karras", [9, 2, 1])]
    assert (levels.steps, levels.without) == (3, ("ddim",))
    assert sigma_data([row("ddim")], {"ddim": "ddim"}) is None


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60))
def test_every_line_is_in_one_panel_that_can_tell_its_lines_apart(groups: list[str]) -> None:
    lines = [Line(str(i), group, [1], [1]) for i, group in enumerate(groups)]
    found = panels(lines)
    assert sorted(line.name for panel in found for line in panel) == sorted(line.name for line in lines)
    assert max(map(len, found)) <= MOST


@given(st.lists(st.floats(0, 1), max_size=20).map(sorted), st.floats(0.001, 0.2))
def test_labels_never_touch_and_keep_their_order(wanted: list[float], apart: float) -> None:
    heights = spread(wanted, apart)
    assert all(b - a >= apart - 1e-9 for a, b in pairwise(heights))
    if apart * (len(wanted) - 1) < 1:
        assert all(h <= 1 + 1e-9 for h in heights)


def test_every_scheduler_of_the_registry_is_named_once_and_no_two_names_overlap() -> None:
    names = list(builtin_registry().entries)
    lines = [
        Line(n, e.family, [5, 10, 20], [1 / (i + 2), 1 / (i + 3), 1 / (i + 4)])
        for i, (n, e) in enumerate(builtin_registry().entries.items())
    ]
    figure = line_figure(lines, "title", "x", "y", lambda ax: None)
    figure.draw_without_rendering()
    shown = [text for ax in figure.axes for text in ax.texts]
    assert sorted(text.get_text() for text in shown) == sorted(names)
    for ax in figure.axes:
        boxes = sorted((Text.get_window_extent(t) for t in ax.texts), key=lambda box: box.y0)
        assert all(a.y0 + a.height * 0.8 <= b.y0 for a, b in pairwise(boxes))


def test_a_long_title_takes_another_line() -> None:
    fig = figure(8, 4, "a run of many words " * 12)
    rendered(fig, "png")
    assert fig.get_suptitle().startswith("a run")
    (title,) = fig.findobj(lambda artist: getattr(artist, "get_text", str)() == fig.get_suptitle())
    assert title.get_window_extent().width < fig.bbox.width


def test_equal_figures_give_equal_files() -> None:
    (found,) = answer(run_of(3))
    lines = convergence_data(found)
    assert len({rendered(draw_convergence(lines, RMSE, "t"), "svg") for _ in range(2)}) == 1


def test_a_run_has_its_plots_and_its_answer(write_sweep: Write, tmp_path: Path) -> None:
    assert run("run", write_sweep(steps=[2, 3]), "-o", tmp_path / "out") == 0
    folder = tmp_path / "out"
    assert {"sigmas.svg", "breakdown.png"} <= {p.name for p in (folder / "plots").iterdir()}
    with Image.open(folder / "plots/sigmas.png") as image:
        assert min(image.size) > 400
    assert (folder / "answer.md").read_text(encoding="utf-8").startswith("# Which scheduler?\n\n- ")
    assert r"\toprule" in (folder / "timings.tex").read_text(encoding="utf-8")


def test_matplotlib_is_not_loaded_before_something_is_drawn() -> None:
    code = "import sys, schedcmp.report.write; assert not {'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
