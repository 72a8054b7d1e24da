"""Several checkpoints in one sweep: each is what it is alone, and all of them are read as one run."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
import yaml
from checkpoints import quick_unet, scheduler, text_config, tokenizer, vae
from diffusers import StableDiffusionPipeline
from test_run import run
from transformers import CLIPTextModel

import schedcmp
from schedcmp.engine.solo import SoloEngine
from schedcmp.errors import RequestError
from schedcmp.prepare.loading import Loader
from schedcmp.runs.several import Several, prepare_all
from schedcmp.sweep.document import checked
from schedcmp.sweep.models import members
from schedcmp.sweep.source import read

pytestmark = pytest.mark.usefixtures("coarse_references")
KEYS: dict[str, Any] = {"prompt": "a b", "guidance_scale": 3, "schedulers": ["euler", "heun"], "steps": [2, 3]}
QUICK: dict[str, Any] = {"metrics": "off", "timing": "off"}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `sd1`, with other weights."""
    torch.manual_seed(1)
    parts = (vae(), CLIPTextModel(text_config()), tokenizer(), quick_unet(), scheduler(), None, None)
    folder = tmp_path_factory.mktemp("checkpoints") / "other"
    StableDiffusionPipeline(*parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*models: Any, **keys: Any) -> Path:
        path = tmp_path / "s.yaml"
        path.write_text(json.dumps({"model": models} | KEYS | QUICK | keys, indent=0))
        return path

    return write


@pytest.fixture(scope="module")
def made(sd1: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> schedcmp.Run:
    return schedcmp.run(
        KEYS, model=[str(sd1), str(other)], output=tmp_path_factory.mktemp("made") / "run", progress=False,
        metrics="reference",
    )  # fmt: skip


def stamps(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("images/**/*.png")}


def test_each_is_what_it_is_alone(made: schedcmp.Run, sd1: Path, other: Path, tmp_path: Path) -> None:
    assert [c.cell.model for c in made.cells] == ["sd1"] * 4 + ["other"] * 4
    assert len({c.cell.id for c in made.cells}) == 8
    for label, folder in (("sd1", sd1), ("other", other)):
        alone = schedcmp.run(KEYS, model=str(folder), output=tmp_path / label, progress=False, **QUICK)
        those = [c for c in made.cells if c.cell.model == label]
        for one, whole in zip(alone.cells, those, strict=True):
            assert np.array_equal(np.asarray(alone.image(one)), np.asarray(made.image(whole)))
            assert (one.cell.scheduler, one.cell.steps) == (whole.cell.scheduler, whole.cell.steps)


def test_tables_grids_page_and_answers_are_of_all(made: schedcmp.Run) -> None:
    with (made.folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["sd1"] * 4 + ["other"] * 4
    assert all((made.folder / row["image"]).is_file() for row in rows)
    assert {row.setting.model for row in made.timings} == {"sd1", "other"}
    assert [found.setting.model for found in made.recommend()] == ["sd1", "other"]
    assert all(found.metric and found.metric.name == "reference_rmse" for found in made.recommend())
    (grid,) = (made.folder / "grids").glob("*.png")
    assert grid.stat().st_size > 1000
    data = (made.folder / "report.html").read_text()
    assert '"name": "model"' in data or '"name":"model"' in data
    assert all(Path(made.folder / "models" / label / "report.html").is_file() for label in ("sd1", "other"))


def test_every_command_takes_the_folder(made: schedcmp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.folder
    for command in (["check"], ["report"], ["recommend"], ["compare", folder]):
        assert run(*command, folder) == 0, command
    told = capsys.readouterr().out
    assert "all is what was stored" in told
    assert "models/other: " in told
    assert "8 identical" in told
    assert run("recommend", folder, "--as", "diffusers", "--cell", made.cells[-1].cell.id) == 0
    assert "/other'" in capsys.readouterr().out


def test_nothing_is_made_twice_and_the_written_sweep_repeats_it(
    write: Write, sd1: Path, other: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run("run", write(str(sd1), {"id": str(other), "guidance_scale": 1}), "-o", out) == 0
    before = stamps(out)
    assert len(before) == 8
    assert run("run", out / "sweep.yaml", "-o", out) == 0
    assert stamps(out) == before
    # Another one is added: only its images are made
    third = {"id": str(other), "name": "again"}
    assert run("run", write(third, str(sd1), {"id": str(other), "guidance_scale": 1}), "-o", out) == 0
    assert before.items() <= stamps(out).items()
    cells = schedcmp.open(out).cells
    assert [c.cell.model for c in cells[::4]] == ["again", "sd1", "other"]
    assert {c.cell.model: c.cell.guidance_scale for c in cells} == {"again": 3, "sd1": 3, "other": 1}


def test_what_one_cannot_is_unsupported_there_and_the_others_run(
    write: Write, sd1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write("builtin:tiny-flow", str(sd1), schedulers=["euler", "euler-ays"], steps=2, prompt="a")
    assert run("check", sweep) == 0
    told = capsys.readouterr()
    assert "unsupported: euler-ays: ays-sd15 sigmas are not defined for flow matching" in told.err
    assert told.out.count("euler-ays") == 2
    assert run("run", sweep, "-o", tmp_path / "run") == 0
    status = {(c.cell.model, c.cell.scheduler): c.result.status for c in schedcmp.open(tmp_path / "run").cells}
    assert status.pop(("tiny-flow", "euler-ays")) == "unsupported"
    assert list(status.values()) == ["ok"] * 3


def test_a_shift_is_for_those_that_have_one(write: Write, sd1: Path) -> None:
    keys = {"schedulers": ["euler"], "steps": 2}
    with pytest.raises(RequestError, match=r"shift is for flow matching.*\(of the checkpoint sd1\)"):
        prepare_all(write("builtin:tiny-flow", str(sd1), shift=[3], **keys))
    found = prepare_all(write({"id": "builtin:tiny-flow", "shift": [3]}, str(sd1), **keys))
    assert isinstance(found, Several)
    assert [c.shift for one in found.members.values() for c in one.plan.cells] == ["3", ""]


def test_rules_may_name_a_checkpoint(write: Write, sd1: Path, other: Path) -> None:
    found = prepare_all(write(str(sd1), str(other), exclude=[{"model": "other", "scheduler": "heun"}, {"steps": 3}]))
    assert isinstance(found, Several)
    left = {label: [(c.scheduler, c.steps) for c in one.plan.cells] for label, one in found.members.items()}
    assert left == {"sd1": [("euler", 2), ("heun", 2)], "other": [("euler", 2)]}


def test_the_memory_of_one_is_free_before_the_next_is_loaded(
    write: Write, sd1: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = Loader.load, []

    def watched(loader: Loader) -> Any:
        assert all(there() is None for there in loaded)
        pipeline = load(loader)
        loaded.append(ref(pipeline.unet))
        return pipeline

    monkeypatch.setattr(Loader, "load", watched)
    assert run("run", write(str(sd1), str(other), schedulers="euler", steps=2), "-o", tmp_path / "run") == 0
    assert len(loaded) == 2


def test_an_interrupted_run_goes_on(
    write: Write, sd1: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, out = write(str(sd1), str(other), engine="solo"), tmp_path / "run"
    make, count = SoloEngine.run, []

    def stopped(engine: SoloEngine, cells: Any) -> Any:
        for result in make(engine, cells):
            count.append(result)
            if len(count) == 6:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(SoloEngine, "run", stopped)
        assert run("run", sweep, "-o", out) == 130
    before = stamps(out)
    assert 4 < len(before) < 8
    assert run("run", sweep, "-o", out) == 0
    assert before.items() <= stamps(out).items()
    assert len(schedcmp.open(out).cells) == 8


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ([], r"s\.yaml:\d+: model: lists 0 checkpoints; give 1 to 100"),
        (["{sd1}", "{sd1}"], "two are called 'sd1'; give one of them a name"),
        (["{sd1}", {"id": "{sd1}", "name": "a/b"}], r"s\.yaml:\d+: model.1.name: 'a/b' has other than letters"),
        (
            ["{sd1}", {"id": "{sd1}", "name": "b", "grid": {}}],
            "grid: is of the whole sweep; write it outside",
        ),
        (
            ["{sd1}", {"id": "{sd1}", "name": "b", "stepss": 3}],
            r"s\.yaml:\d+: unknown key 'stepss'; did you mean 'steps'",
        ),
        (["{sd1}", "nowhere"], r"s\.yaml:4: model: nowhere: no such folder or file"),
        (["{sd1}", {"name": "b"}], "needs either `id` or `python`"),
        (["{sd1}", 3], r"model"),
        (["{sd1}", {"id": "{sd1}", "name": "b", "steps": 0}], r"s\.yaml:\d+: steps"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, sd1: Path, models: list[Any], told: str) -> None:
    given = json.loads(json.dumps(models).replace("{sd1}", str(sd1)))
    with pytest.raises(RequestError, match=told):
        prepare_all(write(*given))


def test_places_that_cannot_be_are_refused(
    write: Write, sd1: Path, made: schedcmp.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write(str(sd1))
    assert run("run", sweep, "-o", "memory://bucket/run") == 2
    assert "need a folder on this host" in capsys.readouterr().err
    assert run("run", sweep, "-o", made.folder / "models/sd1") == 2
    assert "is the folder of a run of one checkpoint" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    assert run("run", sweep, "-o", tmp_path / "mine") == 2
    assert "holds files that are not a run's" in capsys.readouterr().err
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump({"model": str(sd1)} | KEYS | QUICK))
    assert run("run", plain, "-o", made.folder) == 2
    assert "holds files that are not a run's" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '["../x", 3]', "null"])
def test_a_damaged_list_is_told(made: schedcmp.Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "models.json").write_text(text)
    with pytest.raises(RequestError, match=r"models\.json: .*repeat the run's command"):
        schedcmp.open(tmp_path)


def test_no_link_leads_out_of_the_folder(made: schedcmp.Run, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models.json").write_text('["sd1"]')
    (tmp_path / "models/sd1").symlink_to(made.folder / "models/sd1")
    with pytest.raises(RequestError, match="link"):
        schedcmp.open(tmp_path)


PAGE = Path(__file__).parents[1] / "docs/models.md"
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page_has_sound_examples(example: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(KEYS | example))
    source = read(tmp_path / "s.yaml")
    for document in members(source, "s").values() or [source]:
        checked(document)
    if isinstance(example["model"], list) and "FLUX" not in str(example):
        assert isinstance(prepare_all(tmp_path / "s.yaml"), Several)


def test_the_example_on_the_page_is_the_one_that_is_there() -> None:
    assert EXAMPLES[0] == yaml.safe_load((PAGE.parents[1] / "configs/both.yaml").read_text())
