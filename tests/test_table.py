"""The table of axes: rules that know every axis, what a new one takes, and that nothing else lists them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from test_grid import CELL
from test_run import Write, rows, run
from test_sweep import plan_of, refusal

import schedcmp
from schedcmp.axes import AXES, Setting, text

PACKAGE = Path(schedcmp.__file__).parent
DOCS = PACKAGE.parent / "docs" / "extending.md"
# Who may name an axis: the table and the sweep's key of it, what hands it to a pipeline or says whether that reads it,
# and what writes for other programs or reads them
NAMING = {
    "axes/table.py", "records.py", "sweep/keys.py", "sweep/words.py",
    "prepare/costs.py", "prepare/few_steps.py", "prepare/preparing.py", "prepare/remarks.py", "runs/estimate.py",
    "pipelines/arguments.py", "pipelines/guidance.py",
    "engine/job.py", "engine/queue.py", "engine/solo.py", "backend/scan.py",
    "report/paste/infotext.py", "report/paste/comfyui.py",
    "report/paste/diffusers_code.py", "report/paste/invokeai.py",
    "remake/a1111.py", "remake/comfyui.py", "remake/invokeai.py", "remake/made.py", "remake/own.py",
    "remake/sweep.py", "remake/swarmui.py",
}  # fmt: skip


def test_axes_are_named_where_they_differ_and_nowhere_else() -> None:
    sources = [path for kind in ("py", "js", "jinja") for path in PACKAGE.rglob(f"*.{kind}")]
    naming = re.compile(r"\b(guidance_scale|negative_prompt)\b")
    found = {str(p.relative_to(PACKAGE)) for p in sources if naming.search(p.read_text(encoding="utf-8"))}
    assert found == NAMING, "an axis is a row of axes/table.py; what needs to name one is listed here"


def test_rules_and_groups_know_every_axis(tmp_path: Path) -> None:
    schema = schedcmp.sweep.document.Sweep.model_json_schema()
    assert {*schema["$defs"]["Exclude"]["properties"]} == {*AXES}
    asked = refusal(tmp_path, {"model": "x", "prompt": "a", "schedulers": "ddim", "steps": 2, "zip": ["colours", "a"]})
    assert "zip: 'colours' is no key of this sweep with several values (" in asked


def cells(tmp_path: Path, *names: str, **changes: Any) -> list[tuple[Any, ...]]:
    plan = plan_of(tmp_path, **{"schedulers": ["euler"], "steps": [4], "seeds": 0} | changes)
    assert not plan.warnings
    return [tuple(getattr(c, name) for name in names) for c in plan.cells]


def test_a_rule_leaves_out_arguments_of_the_call(tmp_path: Path) -> None:
    call = {"eta": [0, 0.5, 1], "clip_skip": [1, 2], "plain": True}
    everything = cells(tmp_path, "call", call=call)
    rules = [{"call": {"eta": [0.5, 1.0], "clip_skip": 1}}, {"call": {"clip_skip": 2}, "steps": 4}]
    left = cells(tmp_path, "call", call=call, exclude=rules)
    assert [json.loads(found) for (found,) in left] == [{"eta": 0, "clip_skip": 1, "plain": True}]
    assert len(everything) == 6
    plan = plan_of(tmp_path, call=call, exclude=[{"call": {"plain": 1}}, {"call": {"none": 3}}])
    assert plan.warnings == ("exclude.0 matches no cell", "exclude.1 matches no cell")
    with pytest.raises(schedcmp.errors.SweepError, match=r"exclude.0.call: has keys of its own"):
        cells(tmp_path, exclude=[{"call": 3}])


def test_arguments_of_the_call_advance_with_other_keys(tmp_path: Path) -> None:
    base = {"guidance_scale": [1, 2], "call": {"eta": [0, 1], "clip_skip": [1, 2]}}
    found = cells(tmp_path, "guidance_scale", "call", **base, zip=["guidance_scale", "call.eta"])
    assert [(g, json.loads(call)["eta"]) for g, call in found] == [(1, 0), (1, 0), (2, 1), (2, 1)]
    together = cells(tmp_path, "call", **base, zip=["guidance_scale", "call.eta", "call.clip_skip"])
    assert [json.loads(call) for (call,) in together] == [{"eta": 0, "clip_skip": 1}, {"eta": 1, "clip_skip": 2}]
    whole = cells(tmp_path, "prompt", "call", prompt=["a", "b"], call={"eta": [0, 1]}, zip=["prompt", "call"])
    assert [(p, json.loads(call)["eta"]) for p, call in whole] == [("a", 0), ("b", 1)]
    with pytest.raises(schedcmp.errors.SweepError, match="call has 4"):
        cells(tmp_path, "call", **base, zip=["guidance_scale", "call"])


def test_shifts_advance_with_other_keys(tmp_path: Path) -> None:
    base = {"schedulers": ["euler", "heun"], "shift": [1, 3], "guidance_scale": [2, 4]}
    assert cells(tmp_path, "base", "shift", "guidance_scale", **base, zip=["shift", "guidance_scale"]) == [
        ("euler", "1", 2.0), ("heun", "1", 2.0), ("euler", "3", 4.0), ("heun", "3", 4.0),
    ]  # fmt: skip
    assert cells(tmp_path, "base", "shift", **base | {"guidance_scale": 2}, zip=["schedulers", "shift"]) == [
        ("euler", "1"), ("heun", "3"),
    ]  # fmt: skip
    everything = {"sigmas": ["default", "karras"], "zip": ["schedulers", "sigmas", "shift"]} | base
    assert cells(tmp_path, "scheduler", **everything | {"guidance_scale": 2}) == [
        ("euler shift=1",), ("heun-karras shift=3",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "told"), [(1.0, "1"), (0.1234567, "0.1234567"), ("", "none"), (None, "none"), (0, "0")]
)
def test_values_are_said_in_a_word(value: Any, told: str) -> None:
    assert text(value) == told


def test_a_setting_is_told_from_the_others_by_what_it_has_and_has_not_and_by_nothing_else() -> None:
    plain = Setting.of(CELL)
    turned = Setting.of(replace(CELL, call='{"eta": 1}', guidance_scale=7.5)).sized(64, 48)
    assert turned.words([turned]) == []
    assert turned.words([turned, plain]) == ["guidance 7.5", "64×48", "eta 1"]
    assert plain.words([turned, plain])[:2] == ["guidance 4", "default size"]
    worn = Setting.of(replace(CELL, lora='{"name": "fast", "adapters": []}'))
    assert plain.words([plain, worn]) == ["no LoRA"]
    assert worn.words([plain, worn]) == ["fast"]


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """The package with the axis that docs/extending.md adds."""
    section = DOCS.read_text(encoding="utf-8").partition("## An axis")[2].partition("\n## ")[0]
    row, field, key = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "extended" / "schedcmp", ignore=ignored)
    for name, before, added in (
        ("axes/table.py", ")  # fmt: skip\n\nAXES", f"{row.rstrip()},\n"),
        ("records.py", "\n    @property\n    def task", field),
        ("sweep/keys.py", "    steps: Steps", key),
    ):
        path = tmp_path / "extended" / "schedcmp" / name
        source = path.read_text(encoding="utf-8")
        assert source.count(before) == 1
        path.write_text(source.replace(before, indent(added, "    ") + before), encoding="utf-8")
    return tmp_path / "extended"


def with_package(folder: Path, *arguments: object, ends: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "schedcmp", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(folder)}, cwd=folder,
    )  # fmt: skip
    assert done.returncode == ends, done.stderr
    return done.stdout + done.stderr


def test_with_a_new_axis_everything_else_is_as_it_was(extended: Path) -> None:
    golden = Path(__file__).with_name("test_golden.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", golden],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(extended)}, cwd=golden.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_new_axis_is_a_row_and_two_fields(write_sweep: Write, tmp_path: Path, extended: Path) -> None:
    out, base = tmp_path / "out", {"schedulers": ["euler"], "steps": [2], "seeds": 0, "guidance_scale": 4}
    assert run("run", write_sweep(**base), "-o", out) == 0
    before = (out / "results.csv").read_text()
    with_package(extended, "report", out)
    assert (out / "results.csv").read_text() == before
    sweep = write_sweep(
        **base | {"seeds": [0, 1], "guidance_rescale": [0, 0.7], "exclude": [{"guidance_rescale": 0.7, "seed": 1}]}
    )
    with_package(extended, "run", sweep, "-o", out)
    found = {(r["guidance_rescale"], r["seed"]): r for r in rows(out / "results.csv")}
    assert {key: r["image"] for key, r in found.items()} == {
        ("0.0", "0"): "images/rescale-0/euler/steps-002/seed-0000.png",
        ("0.0", "1"): "images/rescale-0/euler/steps-002/seed-0001.png",
        ("0.7", "0"): "images/rescale-0.7/euler/steps-002/seed-0000.png",
    }
    assert len({r["image_sha256"] for r in found.values()}) == 3
    told = (out / "answer.md").read_text()
    assert "## rescale 0\n" in told
    assert "| euler, rescale 0.7 |" in (out / "timings.md").read_text()
    assert {path.name for path in (out / "grids").glob("*.png")} == {
        "grid_rescale-0_seed-0000.png", "grid_rescale-0_seed-0001.png", "grid_rescale-0.7_seed-0000.png",
    }  # fmt: skip
    page = (out / "report.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script id="run" type="application/json">(.*?)</script>', page)
    (axis,) = (axis for axis in json.loads(data)["axes"] if axis["name"] == "guidance_rescale")
    assert axis["title"] == "Rescale"
    assert [value["label"] for value in axis["values"]] == ["rescale 0", "rescale 0.7"]
    said = with_package(extended, "check", sweep, "--set", "model=builtin:tiny-flow", ends=2)
    assert "guidance_rescale: StableDiffusion3Pipeline takes no guidance_rescale" in " ".join(said.split())
