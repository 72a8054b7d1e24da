from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from test_answer import stored
from test_run import Write, run

from schedcmp.errors import RunFolderError
from schedcmp.pictures.image import pixels_sha256
from schedcmp.records import CellResult, StoredCell, Timing
from schedcmp.report.compare import Changes, compare
from schedcmp.report.latex import escaped, timings_latex
from schedcmp.report.tables import HEAD, timing_rows
from schedcmp.store.images import image_path
from schedcmp.store.store import Store

ROOT = Path(__file__).parent.parent
Make = Callable[..., Path]


def picture(shift: float = 0.0, size: int = 8) -> Image.Image:
    pixels = np.linspace(20, 200, size * size * 3).reshape(size, size, 3) + shift
    return Image.fromarray(pixels.round().astype(np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run's folder with the given cells; `images` by id, `environment`."""

    def write(
        name: str, cells: Sequence[StoredCell], images: dict[str, Image.Image] | None = None, **known: str
    ) -> Path:
        with Store.create(tmp_path / name) as store:
            store.begin([c.cell for c in cells], {"environment": {"torch": "2"} | known})
            for c in cells:
                image = (images or {}).get(c.cell.id, picture())
                result: CellResult = replace(c.result, image_sha256=pixels_sha256(image))
                data = None if c.result.status == "failed" else png(image)
                store.add(result, "key", "machine", image_path(c.cell), data)
        return tmp_path / name

    return write


def cells(**changes: Any) -> list[StoredCell]:
    return [stored(s, n, 0, metrics={}, **changes) for s in ("ddim", "heun") for n in (4, 8)]


def compared(old: Path, new: Path, **limits: Any) -> Changes:
    with Store.open(old) as before, Store.open(new) as after:
        return compare(before, after, **limits)


def states(found: Changes) -> dict[str, str]:
    return {f"{c.cell.scheduler} {c.cell.steps}": c.state for c in found.changes}


def test_a_run_equals_itself(make: Make) -> None:
    found = compared(make("old", cells()), make("new", cells()))
    assert set(states(found).values()) == {"identical"}
    assert found.problems(max_slowdown=1.0) == []
    assert found.overall is not None
    assert found.overall.value == pytest.approx(1)
    assert found.environment == {}


@pytest.mark.parametrize(("shift", "state"), [(1, "near"), (2, "changed")])
def test_images_are_judged_by_their_rmse_in_levels(shift: int, state: str, make: Make) -> None:
    moved = cells()[1]
    found = compared(make("old", cells()), make("new", cells(), {moved.cell.id: picture(shift)}))
    change = next(c for c in found.changes if c.cell.id == moved.cell.id)
    assert (change.state, change.rmse, change.largest) == (state, pytest.approx(shift), shift)
    assert len(found.problems()) == (state == "changed")
    assert sorted(states(found).values()) == sorted(["identical"] * 3 + [state])


def test_the_limit_can_be_set(make: Make) -> None:
    old, new = make("old", cells()), make("new", cells(), {cells()[0].cell.id: picture(3)})
    assert compared(old, new, max_rmse=3.0).problems() == []
    assert len(compared(old, new, max_rmse=2.9).problems()) == 1


def test_images_of_another_size_or_gone_are_changed(make: Make) -> None:
    resized, gone = cells()[0], cells()[1]
    new = make("new", cells(), {resized.cell.id: picture(size=4), gone.cell.id: picture(1)})
    (new / image_path(gone.cell)).unlink()
    found = compared(make("old", cells()), new)
    assert states(found) == {"ddim 4": "changed", "ddim 8": "changed", "heun 4": "identical", "heun 8": "identical"}
    assert "8×8 became 4×4 px" in found.problems()[0]
    assert "cannot be read" in found.problems()[1]


def test_cells_that_come_go_fail_or_are_mended_are_told(make: Make) -> None:
    a, b, c, d = cells()

    def failed(one: StoredCell) -> StoredCell:
        return replace(one, result=replace(one.result, status="failed", error="out of memory\nat step 3", timings=()))

    found = compared(make("old", [a, b, failed(c)]), make("new", [failed(b), c, d]))
    assert states(found) == {"ddim 4": "vanished", "ddim 8": "failed", "heun 4": "mended", "heun 8": "appeared"}
    assert [p.partition(":")[0] for p in found.problems()] == ["vanished", "failed"]
    assert found.problems()[1].endswith("out of memory")
    gone = compared(make("old3", [a, failed(b)]), make("new3", [a]))
    assert states(gone) == {"ddim 4": "identical", "ddim 8": "missing"}
    both = compared(make("old2", [a, failed(c)]), make("new2", [a, failed(c)]))
    assert states(both)["heun 4"] == "missing"
    assert both.problems() == []


def test_a_slowdown_counts_only_beyond_the_limit_and_the_noise(make: Make) -> None:
    def timed(one: StoredCell, latencies: Sequence[float]) -> StoredCell:
        timings = tuple(Timing(s, 0, s, 0, 0, ()) for s in latencies)
        return replace(one, result=replace(one.result, timings=timings))

    steady, noisy, few, _ = cells()
    spread = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02]
    wild = [0.2, 5.0, 1.3, 0.3, 4.0, 1.3, 1.3]
    old = [timed(steady, spread), timed(noisy, wild), timed(few, [1.0])]
    new = [timed(steady, [2 * s for s in spread]), timed(noisy, [1.3 * s for s in wild[::-1]]), timed(few, [1.5])]
    found = compared(make("old", old), make("new", new))
    ratios = {(s.scheduler, s.steps): s.ratio for s in found.slowdowns}
    low = ratios["ddim", 4].low
    assert low is not None
    assert 1.5 < low < 2
    assert (ratios["heun", 4].low, ratios["heun", 4].value) == (None, 1.5)
    assert [p.split(":")[1] for p in found.problems(1.2)] == [" ddim, 4 steps", " heun, 4 steps"]
    assert found.problems(3.0) == []


def test_what_differs_in_the_environment_is_shown(make: Make) -> None:
    found = compared(make("old", cells(), diffusers="0.38"), make("new", cells(), diffusers="0.42", driver="9"))
    assert found.environment == {"diffusers": ("0.38", "0.42"), "driver": (None, "9")}


def test_runs_without_a_common_cell_are_refused(make: Make) -> None:
    with pytest.raises(RunFolderError, match="have no cell in common"):
        compared(make("old", cells()), make("new", cells(guidance=9.0)))


def test_the_command_is_a_gate(write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, old, new = write_sweep(schedulers=["ddim"], steps=[2]), tmp_path / "old", tmp_path / "new"
    assert run("run", sweep, "-o", old) == 0
    shutil.copytree(old, new)
    capsys.readouterr()
    assert run("compare", old, new) == 0
    assert "2 identical" in capsys.readouterr().out
    assert run("run", sweep, "-o", new, "--set", "seeds=0", "--fresh") == 0
    capsys.readouterr()
    assert run("compare", old, new, "--json") == 1
    read = json.loads(capsys.readouterr().out)
    assert (read["accepted"], [c["state"] for c in read["cells"]]) == (False, ["identical", "vanished"])
    assert run("compare", old, new) == 1
    assert "vanished: ddim, 2 steps, seed 1" in capsys.readouterr().err
    assert run("compare", old, tmp_path / "gone") == 2


def test_the_ci_example_is_a_workflow_whose_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    steps = [step for job in yaml.safe_load(block)["jobs"].values() for step in job["steps"]]
    commands = [line for step in steps for line in step.get("run", "").splitlines() if line.startswith("schedcmp ")]
    assert {line.split()[1] for line in commands} >= {"run", "compare"}
    for line in commands:
        assert run(line.split()[1], "--help") == 0
        shown = capsys.readouterr().out
        assert all(option in shown for option in re.findall(r"--[a-z-]+", line))


def test_latex_is_a_row_per_row_of_equal_cells() -> None:
    rows = timing_rows([stored("a_b&c%$#{}~^\\", 4, 0, metrics={}), stored("ddim", 8, 0, metrics={})])
    lines = timings_latex(rows).splitlines()
    body = [line for line in lines if line.endswith(r" \\")]
    assert len(body) == 3
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(HEAD) - 1}
    assert body[1].startswith(r"a\_b\&c\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & 4 & 4 & 40 ms")
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert escaped("1.5× µs –") == r"1.5$\times$ \textmu{}s --"
