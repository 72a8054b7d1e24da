"""Further arguments of the pipeline's call: given as they are, checked before anything is loaded, an axis."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from asked import prepare
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from test_run import run

from schedcmp.errors import SweepError
from schedcmp.store.store import Store

Write = Callable[..., Path]
SMALL = {"schedulers": ["ddim"], "steps": [2], "seeds": 0, "timing": "off"}


def test_an_argument_reaches_the_call_and_is_an_axis(write_sweep: Write, sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = write_sweep(**SMALL, engine="solo", call={"guidance_rescale": [0.0, 0.7], "eta": 0.5})
    assert run("run", sweep, "-o", out) == 0
    with Store.open(out) as store:
        cells = list(store.cells())
    assert [c.cell.arguments for c in cells] == [{"guidance_rescale": r, "eta": 0.5} for r in (0.0, 0.7)]
    pipe = StableDiffusionPipeline.from_pretrained(sd1)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    for stored in cells:
        made = pipe(
            "a b", num_inference_steps=2, guidance_scale=3, generator=torch.Generator().manual_seed(0),
            **stored.cell.arguments,
        )  # fmt: skip
        assert np.array_equal(np.asarray(made.images[0]), np.asarray(Image.open(out / str(stored.image_path))))
    with (out / "results.csv").open() as file:
        assert [row["call.guidance_rescale"] for row in csv.DictReader(file)] == ["0.0", "0.7"]
    assert len(list((out / "grids").glob("*.png"))) == 2
    page = (out / "report.html").read_text()
    assert "eta 0.5, guidance_rescale 0.7" in page


def test_packed_is_alone(write_sweep: Write, tmp_path: Path) -> None:
    call = {"guidance_rescale": [0.0, 0.7], "eta": [0.0, 1.0]}
    found = []
    for engine in ("packed", "solo"):
        assert run("run", write_sweep(**SMALL, call=call, engine=engine), "-o", tmp_path / engine) == 0
        with Store.open(tmp_path / engine) as store:
            found.append(
                {c.cell.id: np.asarray(Image.open(tmp_path / engine / str(c.image_path))) for c in store.cells()}
            )
    packed, solo = found
    assert packed.keys() == solo.keys()
    assert len(packed) == 4
    assert all(np.abs(packed[i].astype(int) - solo[i]).max() <= 1 for i in packed)


def test_without_arguments_everything_is_named_as_before(write_sweep: Write, tmp_path: Path) -> None:
    plain, empty = (prepare(write_sweep(**SMALL, **more)).plan.cells for more in ({}, {"call": {}}))
    assert plain == empty
    assert run("run", write_sweep(**SMALL), "-o", tmp_path / "out") == 0
    assert "call" not in (tmp_path / "out/results.csv").read_text().splitlines()[0]
    assert run("run", write_sweep(**SMALL, call={"eta": 1.0}), "-o", tmp_path / "out") == 0  # a folder that had none
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == 2


def test_a_run_of_before_has_none(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("run", write_sweep(**SMALL), "-o", out) == 0
    with Store.create(out) as store, store.database.writing() as database:
        database.execute("ALTER TABLE cells DROP COLUMN call")
    with Store.open(out) as store:
        assert [c.cell.call for c in store.cells()] == [""]
    assert run("run", write_sweep(**SMALL, call={"eta": [0, 1]}), "-o", out) == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"guidance_rescal": 1}, r"sweep.yaml:\d+: call: .*takes no 'guidance_rescal'; did you mean guidance_rescale"),
        ({"zzz": 1}, "takes no 'zzz'; it takes: .*clip_skip"),
        ({"num_inference_steps": 4}, "call: num_inference_steps is this sweep's key steps"),
        ({"latents": 4}, "call: latents cannot be given in a sweep"),
        ({"eta": []}, "call: eta is an empty list"),
        ({"eta": [1, 1]}, "call: eta has the same value twice"),
        ({"eta": {"a": 1}}, "call: eta takes numbers"),
        (3, "call: has keys of its own"),
    ],
)
def test_what_the_call_does_not_take_is_refused_where_it_stands(write_sweep: Write, call: object, told: str) -> None:
    with pytest.raises(SweepError, match=told):
        prepare(write_sweep(**SMALL, call=call))


def test_a_damaged_call_is_a_cell_to_make_again(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = write_sweep(**SMALL, call={"eta": 1.0})
    assert run("run", sweep, "-o", out) == 0
    with Store.create(out) as store, store.database.writing() as database:
        database.execute("UPDATE cells SET call = ?", (json.dumps([1]),))
    with Store.open(out) as store:
        assert not list(store.cells())
    assert run("run", sweep, "-o", out) == 0
