"""What a checkpoint, a sweep or a folder asks for is compared with a bound before it is made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_run import Write
from test_run import run as exit_code

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.errors import CheckpointError, RegistryError, SweepError
from schedcmp.metrics import wanted
from schedcmp.metrics.clip_model import read_images
from schedcmp.registry.build import MOST_ENTRIES, MOST_TIMESTEPS, mended, resolve
from schedcmp.registry.table import builtin_registry

HUGE = 10**9


def build(**options: Any) -> Any:
    row = {"name": "mine", "base": options.pop("base"), "options": options}
    return resolve(builtin_registry().with_rows([row], "test").entry("mine"), {}).build()


@pytest.mark.parametrize("base", ["euler", "deis", "ddim", "unipc", "lcm"])
@pytest.mark.parametrize("value", [HUGE, 1e9, -HUGE, float("inf"), MOST_TIMESTEPS + 1])
def test_a_scheduler_has_no_more_timesteps_than_it_may(base: str, value: float) -> None:
    with pytest.raises(RegistryError, match="mine: num_train_timesteps may be at most 10,000"):
        build(base=base, num_train_timesteps=value)
    assert build(base=base, num_train_timesteps=MOST_TIMESTEPS).config.num_train_timesteps == MOST_TIMESTEPS


def test_other_numbers_of_a_scheduler_are_bounded_and_seeds_are_not() -> None:
    with pytest.raises(RegistryError, match="solver_order may be at most 100,000"):
        build(base="unipc", solver_order=16**6000)
    with pytest.raises(RegistryError, match="trained_betas may have at most 100,000 values"):
        build(base="euler", trained_betas=[0.1] * (MOST_ENTRIES + 1))
    assert build(base="dpmpp-sde", noise_sampler_seed=2**62)


@pytest.mark.parametrize("command", [("check",), ("list-compatible",), ("show", "ddim"), ("verify", "ddim")])
def test_a_checkpoints_scheduler_config_is_bounded(
    sd1: Path, tmp_path: Path, write_sweep: Write, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(sd1, tmp_path / "copy")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_train_timesteps": HUGE}))
    last = {"check": [write_sweep(model=str(folder))], "verify": ["--model", folder]}
    assert exit_code(*command, *last.get(command[0], [folder])) == 2
    assert "scheduler config: num_train_timesteps may be at most 10,000" in capsys.readouterr().err


def test_a_checkpoint_imports_nothing(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    folder = shutil.copytree(sd1, tmp_path / "copy")
    path = folder / "scheduler/scheduler_config.json"
    for name in ("evil.Thing", "os.system", "", "a b", ["evil"], 5):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": name}))
        with pytest.raises(CheckpointError, match="`_class_name` must name a class of diffusers"):
            inspect(ModelSpec(str(folder)))
    assert mended({}, "StableDiffusionPipeline")


def test_real_images_are_the_regular_files_of_a_folder_that_has_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.jpg", "in/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    found = wanted.real_images(str(tmp_path))
    assert [path.name for path in found] == ["a.png", "b.jpg", "c.webp"]
    assert len([*read_images(found)]) == 3
    monkeypatch.setattr(wanted, "_MOST_FILES", 3)
    with pytest.raises(SweepError, match="has over 3 files; give a folder of images"):
        wanted.real_images(str(tmp_path))


def test_an_unknown_users_home_has_no_images() -> None:
    with pytest.raises(SweepError, match="~nosuchuser/x has 0 images"):
        wanted.real_images("~nosuchuser/x")


def test_real_images_are_read_as_what_they_are_called(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(OSError, match="cannot identify"):
        list(read_images([tmp_path / "a.png"]))
