"""A pipeline that a function of the user's own makes is used like one that a program has handed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import prepare
from diffusers import StableDiffusionPipeline
from test_run import run

import schedcmp
from schedcmp.errors import RequestError

CALLS: list[float] = []
KEYS: dict[str, Any] = {"prompt": "a b", "schedulers": ["euler", "heun"], "steps": [2, 3], "metrics": "off"}


def scaled(folder: str, scale: float = 1.0) -> Any:
    """One of the tests' checkpoints with its UNet's last layer scaled."""
    CALLS.append(scale)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        pipeline.unet.conv_out.weight *= scale
    pipeline.unet.train()
    return pipeline


def fails() -> None:
    raise OSError("no such weights")


def ends() -> None:
    raise SystemExit(3)


def nothing() -> int:
    return 3


def write(path: Path, **keys: Any) -> Path:
    path.write_text(json.dumps(KEYS | keys, indent=0))
    return path


def test_it_is_called_once_and_makes_what_its_pipeline_makes(sd1: Path, tmp_path: Path) -> None:
    model = {"python": "test_factory.scaled", "options": {"folder": str(sd1), "scale": 0.5}}
    sweep = write(tmp_path / "own.yaml", model=model)
    CALLS.clear()
    assert run("run", sweep, "-o", tmp_path / "own") == 0
    assert CALLS == [0.5]
    made = schedcmp.open(tmp_path / "own")
    given = schedcmp.run(pipeline=scaled(str(sd1), 0.5).to("cpu"), **KEYS, output=tmp_path / "given", progress=False)
    for one, other in zip(made.cells, given.cells, strict=True):
        assert np.array_equal(np.asarray(made.image(one)), np.asarray(given.image(other)))
    # The same weights are the same checkpoint, and the written sweep repeats the run
    before = [(tmp_path / "own" / str(cell.image_path)).stat().st_mtime_ns for cell in made.cells]
    assert run("run", tmp_path / "own/sweep.yaml", "-o", tmp_path / "own") == 0
    assert [(tmp_path / "own" / str(cell.image_path)).stat().st_mtime_ns for cell in made.cells] == before


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model": {"python": "test_factory.missing"}}, r"s\.yaml:\d+: model: python: test_factory.missing cannot be"),
        ({"model": {"python": "test_factory.fails"}}, r"test_factory.fails failed \(OSError: no such weights\)"),
        ({"model": {"python": "test_factory.ends"}}, r"test_factory.ends failed \(RunawayError: SystemExit\(3\)"),
        ({"model": {"python": "test_factory.nothing"}}, "expected one of diffusers' pipelines, got int"),
        ({"model": {"python": "test_factory.scaled", "id": "x"}}, "needs either `id` or `python`"),
        ({"model": {"python": "test_factory.scaled", "vae": "x"}}, "vae goes not with `python`; leave it out"),
        ({"model": {"id": "builtin:tiny", "options": {"a": 1}}}, "options goes only with `python`; leave it out"),
        ({"model": {}}, "needs either `id` or `python`"),
    ],
)
def test_what_is_no_pipeline_is_refused(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        prepare(write(tmp_path / "s.yaml", **keys))


@pytest.mark.parametrize("key", [{"dtype": "fp16"}, {"optimize": {"tf32": True}}, {"safety_checker": False}])
def test_what_the_pipeline_has_decided_is_no_key_of_the_sweep(sd1: Path, tmp_path: Path, key: dict[str, Any]) -> None:
    model = {"python": "test_factory.scaled", "options": {"folder": str(sd1)}}
    with pytest.raises(RequestError, match=rf"{next(iter(key))}: the pipeline of python:test_factory.scaled has its"):
        prepare(write(tmp_path / "s.yaml", model=model, **key))
