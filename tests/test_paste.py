"""What is pasted elsewhere makes the same image, or says that it cannot."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
from test_families import half_a_mask, picture
from test_run import run

import schedcmp
from schedcmp.errors import RequestError
from schedcmp.pipelines.arguments import tuples
from schedcmp.report.paste import FORMS, paste
from schedcmp.report.paste.spelling import spelling
from schedcmp.report.paste.subject import Subject, subject
from schedcmp.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::schedcmp.SchedcmpWarning")
Write = Callable[..., Path]
SCHEDULERS: list[Any] = [
    "ddim", "euler-a", "dpmpp-2m-karras", "dpmpp-sde", "unipc", "pndm", "er-sde-karras", "euler-simple",
    {"name": "third", "base": "dpmpp-2m", "options": {"solver_order": 3}},
    {"name": "listed", "base": "euler", "sigmas": [10.0, 3.0, 1.0]},
    {"name": "hot", "base": "er-sde", "options": {"s_noise": 1.1}},
]  # fmt: skip


@pytest.fixture(scope="module")
def made(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> schedcmp.Run:
    return schedcmp.run(
        model=sd1, prompt='a "quoted" text', negative_prompt="b", guidance_scale=[3, 1.5], schedulers=SCHEDULERS,
        steps=3, seeds=7, engine="solo", timing="off", metrics="off", progress=False,
        output=tmp_path_factory.mktemp("paste") / "run",
    )  # fmt: skip


def test_pasted_programs_make_the_same_image_bit_for_bit(made: schedcmp.Run) -> None:
    assert len(made.cells) == 2 * len(SCHEDULERS)
    for stored in made.cells:
        if stored.cell.guidance_scale == 3:
            names: dict[str, Any] = {}
            exec(made.code(stored), names)
            assert np.array_equal(np.asarray(names["image"]), np.asarray(made.image(stored))), made.code(stored)


def test_a_program_begins_from_the_same_images(sd1: Path, tmp_path: Path) -> None:
    picture(0).resize((40, 20)).save(tmp_path / "a.png")
    half_a_mask().resize((40, 20)).save(tmp_path / "b.png")
    made = schedcmp.run(
        model=sd1, prompt="a", image=str(tmp_path / "a.png"), mask=str(tmp_path / "b.png"), strength=0.6,
        schedulers=["ddim"], steps=4, engine="solo", timing="off", metrics="off", progress=False,
        output=tmp_path / "run",
    )  # fmt: skip
    (stored,) = made.cells
    names: dict[str, Any] = {}
    exec(made.code(stored), names)
    assert np.array_equal(np.asarray(names["image"]), np.asarray(made.image(stored))), made.code(stored)
    assert "Denoising strength: 0.6" in made.code(stored, "a1111")
    with pytest.raises(RequestError, match="comfyui's text has no place for image a, mask b, strength 0"):
        made.code(stored, "comfyui")


def test_only_what_diffusers_cannot_say_needs_schedcmp(made: schedcmp.Run) -> None:
    needing = {c.cell.scheduler for c in made.cells if "schedcmp" in made.code(c)}
    assert needing == {"er-sde-karras", "euler-simple", "listed", "hot"}


def test_settings_of_other_programs(made: schedcmp.Run) -> None:
    cell = next(c for c in made.cells if c.cell.scheduler == "dpmpp-2m-karras")
    texts = {form: made.code(cell, form) for form in FORMS}
    assert "Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3, Seed: 7" in texts["a1111"]
    assert texts["comfyui"].splitlines()[:5] == [
        "seed: 7",
        "steps: 3",
        "cfg: 3.0",
        "sampler_name: dpmpp_2m",
        "scheduler: karras",
    ]
    nodes = json.loads(texts["comfyui-workflow"])
    assert {node["class_type"] for node in nodes.values()} >= {"KSampler", "VAEDecode", "CheckpointLoaderSimple"}
    links = [value for node in nodes.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert all(source in nodes for source, _ in links)
    assert "scheduler: dpmpp_2m_k\n" in texts["invokeai"]


def test_what_a_program_has_not_is_refused(made: schedcmp.Run) -> None:
    for name in ("hot", "third", "listed", "pndm"):
        cell = next(c for c in made.cells if c.cell.scheduler == name)
        with pytest.raises(RequestError, match="comfyui has no"):
            made.code(cell, "comfyui")


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_text_without_a_place_for_something_is_refused(form: str, made: schedcmp.Run) -> None:
    with Store.open(made.folder) as store:
        found = subject(store, made.cells[0])
    for given, told in (
        ({"call": '{"eta": 1}'}, "eta 1"),
        ({"shift": "6"}, "shift 6"),
        ({"control_image": "cat@0123", "ip_adapter_scale": 0.5}, "control cat, .*0.5"),
    ):
        cell = replace(found.cell, **given)
        changed = replace(found, stored=replace(found.stored, result=replace(found.stored.result, cell=cell)))
        with pytest.raises(RequestError, match=f"{form}'s text has no place for {told}; --as diffusers has it"):
            paste(changed, form)


def test_the_command_prints_what_is_recommended_or_asked_for(
    made: schedcmp.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("recommend", made.folder, "--as", "diffusers", "--cell", "unipc:3") == 0
    assert "pipe.scheduler = UniPCMultistepScheduler(" in capsys.readouterr().out
    assert run("recommend", made.folder, "--as", "a1111") == 0
    assert "Steps: 3, Sampler: " in capsys.readouterr().out
    assert run("recommend", made.folder, "--as", "comfyui", "--cell", "no-such") == 2
    assert "has no finished cell 'no-such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"id": "builtin:tiny"}, 'from_pretrained(files("schedcmp") / "builtin" / "tiny", '),
        ({"id": "o/n", "revision": "v2"}, "from_pretrained('o/n', dtype=torch.float32, revision='v2')"),
        (
            {"id": "/x/m.safetensors", "config": "/c"},
            "from_single_file('/x/m.safetensors', dtype=torch.float32, ",
        ),
        ({"id": "/x", "vae": "/v"}, "vae=AutoencoderKL.from_pretrained('/v', dtype=torch.float32)"),
        ({"id": "/x", "unet": "/u"}, "\npipe.unet = type(pipe.unet).from_pretrained('/u', dtype=torch.float32)\n"),
        ({"id": "/x", "transformer": "/t.gguf"}, "GGUFQuantizationConfig(compute_dtype=torch.float32))"),
        ({"id": "/x", "embeddings": {"w": "/w"}}, "pipe.load_textual_inversion('/w', token='w')"),
        ({"id": "pipeline:Mine"}, "pipe = ...  # the "),
    ],
)
def test_a_program_loads_the_model_as_the_run_did(made: schedcmp.Run, model: dict[str, Any], told: str) -> None:
    with Store.open(made.folder) as store:
        found = subject(store, made.cells[0])
    changed = Subject(found.stored, {**found.sweep, "model": model}, found.environment, found.entry)
    assert told in paste(changed, "diffusers")


@pytest.mark.parametrize(
    ("pipeline", "configs", "guidance"),
    [
        ("QwenImagePipeline", {}, "true_cfg_scale=3.0"),
        ("QwenImagePipeline", {"guidance_embeds": True}, "guidance_scale=3.0"),
        ("Flux2KleinKVPipeline", {}, ""),
    ],
)
def test_a_program_guides_as_its_pipeline_takes_it(
    made: schedcmp.Run, pipeline: str, configs: dict[str, Any], guidance: str
) -> None:
    with Store.open(made.folder) as store:
        found = subject(store, made.cells[0])
    assert found.spelling is not None
    known = {**found.spelling, "guidance": spelling(pipeline, [], lambda part: configs)["guidance"]}
    text = paste(replace(found, spelling=known), "diffusers")
    assert [line.strip(" ,") for line in text.splitlines() if "_scale=" in line] == [guidance] * bool(guidance)


def test_on_flow_matching_noise_is_the_cells_own(tmp_path: Path) -> None:
    pipe = families.ready(families.sd3)
    schedulers = ["euler", "dpmpp-2m", "euler-a", "dpmpp-2m-sde", "er-sde", "lcm-simple"]
    made = schedcmp.run(
        pipeline=pipe, prompt="a b", guidance_scale=3, schedulers=schedulers, steps=3, seeds=7, engine="solo",
        timing="off", metrics="off", progress=False, output=tmp_path / "run",
    )  # fmt: skip
    assert len(made.cells) == len(schedulers)
    for stored in made.cells:
        names: dict[str, Any] = {"given": copy.copy(pipe)}
        exec(made.code(stored).replace("pipe = ...", "pipe = given"), names)
        assert np.array_equal(np.asarray(names["image"]), np.asarray(made.image(stored))), stored.cell.scheduler


def test_a_program_gives_tuples_where_lists_are_not_taken(made: schedcmp.Run) -> None:
    with Store.open(made.folder) as store:
        found = subject(store, made.cells[0])
    assert found.spelling is not None
    cell = replace(found.stored.cell, call='{"original_size": [64, 32], "clip_skip": 1}')
    known = {**found.spelling, "tuples": spelling("StableDiffusionXLPipeline", [])["tuples"]}
    stored = replace(found.stored, result=replace(found.stored.result, cell=cell))
    text = paste(replace(found, stored=stored, spelling=known), "diffusers")
    assert "original_size=(64, 32)," in text
    assert tuples("StableDiffusionPipeline") == []
