"""Inpainting that a ControlNet leads: as diffusers' own pipelines do it, alone and packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import families
import numpy as np
import pytest
import torch
from asked import prepare
from PIL import Image
from test_families import half_a_mask, picture
from test_inputs import (
    FAMILIES,
    FLOW,
    SHORT,
    Family,
    Saved,
    _controlnet,
    by_diffusers,
    made,
    pixels,
    qwen,
    saved_checkpoint,
    shape,
)

from schedcmp.errors import RequestError

pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")  # by diffusers' own ControlNet


def sd3_masked(pipeline: Any) -> Any:
    return diffusers.SD3ControlNetModel.from_transformer(pipeline.transformer, num_layers=1)


def qwen_masked(pipeline: Any) -> Any:
    own = shape(pipeline, "out_channels")
    return diffusers.QwenImageControlNetModel(**own, num_layers=1, extra_condition_channels=4)


MASKED = {
    "sd3": Family(lambda: families.sd3(16), "StableDiffusion3", sd3_masked, FLOW, SHORT),
    "qwen": Family(qwen, "QwenImage", qwen_masked, FLOW, SHORT),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    known: dict[str, Saved] = {}

    def saved(name: str) -> Saved:
        if name not in known:
            known[name] = saved_checkpoint(MASKED.get(name) or FAMILIES[name], tmp_path_factory.mktemp(name))
        return known[name]

    return saved


def sweep_of(saved: Saved, folder: Path, **changes: Any) -> Path:
    made_of = {"image": picture(0), "mask": half_a_mask(), "control_image": picture(1)}
    for name, image in made_of.items():
        image.save(folder / f"{name}.png")
    keys = ["image", "mask"] if saved.family.name in {f.name for f in MASKED.values()} else [*made_of]
    given = {key: f"{key}.png" for key in keys} | {"controlnet": str(saved.folder.parent / "controlnet")}
    few = {"schedulers": saved.family.schedulers[:2], "steps": [2], "seeds": 3}
    return saved.sweep(folder / "sweep.yaml", **few | given | changes)


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("sd", "StableDiffusionControlNetInpaintPipeline"),
        ("sdxl", "StableDiffusionXLControlNetInpaintPipeline"),
        ("flux", "FluxControlNetInpaintPipeline"),
        ("sd3", "StableDiffusion3ControlNetInpaintingPipeline"),
        ("qwen", "QwenImageControlNetInpaintPipeline"),
    ],
)
def test_as_diffusers_own_pipeline_alone_and_packed(
    folders: Callable[[str], Saved], name: str, pipeline: str, tmp_path: Path
) -> None:
    saved = folders(name)
    prepared = prepare(sweep_of(saved, tmp_path))
    assert prepared.checkpoint.pipeline_class == pipeline
    torch.manual_seed(5)
    before = torch.get_rng_state()
    alone, packed = made(prepared, "solo"), made(prepared, "packed")
    assert torch.equal(torch.get_rng_state(), before)
    own = getattr(diffusers, pipeline).from_pretrained(saved.folder, controlnet=_controlnet(saved))
    own.set_progress_bar_config(disable=True)
    names = {"image": "image", "mask": "mask_image", "control_image": "control_image"}
    names |= {"image": "control_image", "mask": "control_mask"} if name in MASKED else {}
    given = {names[key]: Image.open(tmp_path / f"{key}.png") for key in prepared.plan.cells[0].images}
    for i, result in alone.items():
        more = {} if name in MASKED else {"strength": result.cell.strength}
        arguments = {**given, **more, "width": 16, "height": 16, "guidance_scale": 3.0, **saved.family.call}
        image = by_diffusers(prepared, own, result.cell, arguments)
        assert np.array_equal(pixels(image), pixels(result.image)), result.cell.scheduler
        assert np.abs(pixels(packed[i].image) - pixels(image)).max() <= 1, result.cell.scheduler
        assert packed[i].nfe == result.nfe == prepared.cost(result.cell)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("sd", {"control_image": None}, "controlnet: is led by an image, and there is none; add `control_image`"),
        ("sd3", {"control_image": "control_image.png"}, "control_image: .* is led by `image` and `mask` themselves"),
        ("sd3", {"image": None, "mask": None, "control_image": "image.png"}, "controlnet: sees an image and its mask"),
        ("sd3", {"controlnet": "PLAIN"}, "controlnet: sees an image alone, and no mask; give that as `control_image`"),
        ("sd3", {"control_mask": "mask.png"}, "unknown key 'control_mask'; here it is mask"),
        ("sd3", {"mask": None}, "image: diffusers has no pipeline for image to image with a ControlNet"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folders: Callable[[str], Saved], name: str, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    saved = folders(name)
    if "controlnet" in changes:
        FAMILIES[name].controlnet(families.ready(saved.family.build)).save_pretrained(tmp_path)
        changes = {"controlnet": str(tmp_path)}
    with pytest.raises(RequestError, match=rf"sweep.yaml:\d+: {told}"):
        prepare(sweep_of(saved, tmp_path, **changes))
