"""Step caches: each image has its own, whatever was made before it; references have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from asked import prepare
from diffusers import FluxTransformer2DModel
from diffusers.hooks import FirstBlockCacheConfig
from families import flux
from PIL import Image

import schedcmp
from schedcmp.errors import RequestError

pytestmark = pytest.mark.usefixtures("coarse_references")
KEYS: dict[str, Any] = {"prompt": "a b", "guidance_scale": 3, "schedulers": ["euler", "heun"], "steps": [8], "seeds": 1}
KEYS |= {"width": 16, "height": 16}
QUICK: dict[str, Any] = {"metrics": "off", "timing": "off", "progress": False}
CACHES: dict[str, dict[str, Any]] = {
    "first_block": {"threshold": 0.5},
    "taylorseer": {"cache_interval": 3, "disable_cache_before_step": 2},
    "mag": {"mag_ratios": [1.0] * 8, "threshold": 10.0, "retention_ratio": 0.1},
    "pyramid": {"spatial_attention_timestep_skip_range": [0, 1000]},
    "faster": {"spatial_attention_timestep_skip_range": [-1, 901]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    pipeline = flux()
    pipeline.transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=3, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    with torch.no_grad():  # else what a cache changes is less than a level of 255
        for parameter in pipeline.transformer.parameters():
            parameter *= 2
    path = tmp_path_factory.mktemp("flux") / "flux"
    pipeline.save_pretrained(path)
    return path


def made(run: schedcmp.Run) -> dict[tuple[str, int], Any]:
    return {(c.cell.scheduler, c.cell.seed): np.asarray(run.image(c), float) for c in run.cells}


@pytest.mark.parametrize("name", CACHES)
def test_an_image_is_the_one_that_diffusers_makes_alone(folder: Path, tmp_path: Path, name: str) -> None:
    both = schedcmp.run(
        KEYS | {"seeds": [1, 2]},
        model=[str(folder), {"id": str(folder), "cache": {name: CACHES[name]}}],
        output=tmp_path / "run", **QUICK,
    )  # fmt: skip
    assert {c.result.status for c in both.cells} == {"ok"}, [c.result.error for c in both.cells]
    assert {c.cell.model for c in both.cells} == {"flux", f"flux-{name}"}
    assert not any(c.result.packed for c in both.cells if c.cell.model != "flux")
    images = {(c.cell.model, c.cell.scheduler, c.cell.seed): np.asarray(both.image(c)) for c in both.cells}
    plain, cached = ({k[1:]: v for k, v in images.items() if k[0] == model} for model in ("flux", f"flux-{name}"))
    assert any(not np.array_equal(plain[key], cached[key]) for key in plain)
    # The other way round, alone: no image depends on those before it
    again = schedcmp.run(
        KEYS | {"seeds": [2]}, model={"id": str(folder), "cache": {name: CACHES[name]}}, output=tmp_path / "again",
        **QUICK,
    )  # fmt: skip
    for cell in again.cells:
        assert np.array_equal(np.asarray(again.image(cell)), cached[cell.cell.scheduler, 2])


def test_how_far_a_cached_image_is_from_the_plain_one_is_measured(folder: Path, tmp_path: Path) -> None:
    def made(threshold: float) -> schedcmp.Run:
        cached = {"id": str(folder), "cache": {"first_block": {"threshold": threshold}}}
        return schedcmp.run(
            KEYS | {"metrics": "sharpness", "timing": "off"}, model=[str(folder), cached], output=tmp_path / "run",
            progress=False,
        )  # fmt: skip

    for threshold in (0.5, 2.0):
        run = made(threshold)
        images = {(c.cell.model, c.cell.scheduler): np.asarray(run.image(c), float) for c in run.cells}
        for cell in run.cells:
            name = cell.cell.scheduler
            apart = images["flux", name] - images["flux-first_block", name]
            value = cell.metrics.get("plain_rmse")
            assert (value is None) == (cell.cell.model == "flux")
            assert value is None or np.isclose(value, np.sqrt(np.mean(apart**2)))
        assert any(row["plain_rmse"] for row in run.to_dicts() if row["model"] != "flux")
    assert '"plain_rmse"' in (tmp_path / "run/report.html").read_text()


def test_it_is_what_diffusers_makes(folder: Path, tmp_path: Path) -> None:
    options = CACHES["first_block"]
    run = schedcmp.run(
        KEYS | {"schedulers": ["euler"]}, model={"id": str(folder), "cache": {"first_block": options}},
        output=tmp_path / "run", **QUICK,
    )  # fmt: skip
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(**options))
    generator = torch.Generator().manual_seed(1)
    image = pipe("a b", num_inference_steps=8, guidance_scale=3.0, width=16, height=16, generator=generator).images[0]
    assert np.array_equal(np.asarray(run.image(run.cells[0])), np.asarray(image))


def test_a_model_without_caches_of_its_own_takes_the_one_that_needs_but_attention(tmp_path: Path) -> None:
    config = yaml.safe_load((Path(__file__).parents[1] / "configs/cached.yaml").read_text())
    keys = {"model": config["model"][::2], "schedulers": ["euler"], "steps": [8], "seeds": 0, "metrics": "adherence"}
    run = schedcmp.run({**config, **keys}, output=tmp_path / "run", timing="off", progress=False)
    plain, cached = sorted(run.cells, key=lambda c: c.cell.model == "every 4th step")
    assert (plain.result.status, cached.result.status) == ("ok", "ok")
    assert 1 < cached.metrics["plain_rmse"] < 30
    told = f"every 4th step: images are {cached.metrics['plain_rmse']:.3g} levels of 255 (RMS) from the plain"
    assert told in run.answer
    assert told in (tmp_path / "run/answer.md").read_text()


def test_converged_images_are_made_without_a_cache(folder: Path, tmp_path: Path) -> None:
    pixels = []
    for name, model in (("plain", {}), ("cached", {"cache": {"first_block": {"threshold": 0.5}}})):
        schedcmp.run(
            KEYS | {"steps": [4], "metrics": "reference", "timing": "off"}, model={"id": str(folder), **model},
            output=tmp_path / name, progress=False,
        )  # fmt: skip
        files = sorted((tmp_path / name / "references").rglob("*.png"))
        pixels.append([np.asarray(Image.open(file)) for file in files])
    assert pixels[0]
    assert np.array_equal(*pixels)


def test_a_given_pipeline_with_a_cache_is_not_packed(folder: Path, tmp_path: Path) -> None:
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    run = schedcmp.run(KEYS, pipeline=pipe, output=tmp_path / "given", **QUICK)
    assert {c.result.status for c in run.cells} == {"ok"}
    assert not any(c.result.packed for c in run.cells)


@pytest.mark.parametrize(
    ("model", "keys", "told"),
    [
        ("builtin:tiny", {}, r"s\.yaml:\d: model: cache: diffusers has no step caches for UNet2DConditionModel"),
        ("builtin:tiny-flow", {}, "no first_block cache for SD3Transformer2DModel; take taylorseer, or leave it out"),
        (
            "builtin:tiny-flow",
            {"cache": "taylorseer", "call": {"skip_guidance_layers": [[0]]}},
            "StableDiffusion3Pipeline calls its denoiser 2 times at each step",
        ),
        ("{flux}", {"cache": {"first_block": {"treshold": 1}}}, "first_block takes no 'treshold'; it takes threshold"),
        ("{flux}", {"cache": "mag"}, "mag needs mag_ratios"),
        ("{flux}", {"cache": "second_block"}, "model.cache"),
        ("{flux}", {"cache": {"first_block": {}, "mag": {}}}, "model.cache"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, model: str, keys: dict[str, Any], told: str) -> None:
    path = tmp_path / "s.yaml"
    own = {"id": model.format(flux=folder), "cache": "first_block", **keys}
    call = own.pop("call", {})
    path.write_text(json.dumps({"model": own, "call": call} | KEYS, indent=0))
    with pytest.raises(RequestError, match=told):
        prepare(path)


def test_it_goes_with_no_compiled_model_and_no_workers(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({"model": {"id": str(folder), "cache": "first_block"}} | KEYS))
    with pytest.raises(RequestError, match=r"optimize\.compile: goes with no step cache"):
        prepare(path, ("optimize.compile=default",))
    with pytest.raises(
        RequestError, match=r"executor: ray packs cells on its workers, and a step cache is of one image"
    ):
        prepare(path, ("executor=ray",))
