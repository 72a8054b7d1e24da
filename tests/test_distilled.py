"""Models that were distilled for few steps: recognised, told, and warned of where a sweep leaves their range."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import prepare
from loras import layers, save_lora
from safetensors.torch import load_file, save_file
from test_cli import output
from test_tiny_flow import HELD_OUT

from schedcmp.checkpoint.adapters import find_adapter
from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.checkpoint.wardrobe import Wardrobe
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.prepare.few_steps import few_steps
from schedcmp.records import Cell
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.distilled import _rows, distilled
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.adherence import adherence

SD, SDXL, SD3, FLUX = (
    f"{name}Pipeline" for name in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux")
)
KNOWN = [
    ("latent-consistency/lcm-lora-sdv1-5", SD, "LCM-LoRA", (2, 8)),
    ("LCM_LoRA_Weights_SD15.safetensors", SD, "LCM-LoRA", (2, 8)),
    ("SimianLuo/LCM_Dreamshaper_v7", "LatentConsistencyModelPipeline", "LCM", (1, 8)),
    ("PixArt-alpha/PixArt-LCM-XL-2-1024-MS", "PixArtAlphaPipeline", "PixArt-LCM", (2, 4)),
    ("h1t/TCD-SDXL-LoRA", SDXL, "TCD", (2, 50)),
    ("stabilityai/sdxl-turbo", SDXL, "SDXL-Turbo", (1, 4)),
    ("sd_xl_turbo_1.0_fp16", SDXL, "SDXL-Turbo", (1, 4)),
    ("stabilityai/sd-turbo", SD, "SD-Turbo", (1, 4)),
    ("sdxl_lightning_4step_lora.safetensors", SDXL, "SDXL-Lightning", (4, 4)),
    ("juggernautXL_v9Rdphoto2Lightning", SDXL, "SDXL-Lightning", (1, 8)),
    ("Hyper-SDXL-8steps-lora.safetensors", SDXL, "Hyper-SD", (8, 8)),
    ("Hyper-SDXL-8steps-CFG-lora.safetensors", SDXL, "Hyper-SD with CFG", (8, 8)),
    ("Hyper-FLUX.1-dev-8steps-lora.safetensors", FLUX, "Hyper-FLUX", (8, 8)),
    ("dmd2_sdxl_4step_lora_fp16.safetensors", SDXL, "DMD2", (4, 4)),
    ("pcm_sd15_smallcfg_4step_converted.safetensors", SD, "PCM", (4, 4)),
    ("black-forest-labs/FLUX.1-schnell", FLUX, "FLUX.1-schnell", (1, 4)),
    ("alimama-creative/FLUX.1-Turbo-Alpha", FLUX, "FLUX.1-Turbo-Alpha", (8, 8)),
    ("stabilityai/stable-diffusion-3.5-large-turbo", SD3, "SD3.5-Turbo", (4, 8)),
    ("Tongyi-MAI/Z-Image-Turbo", "ZImagePipeline", "Z-Image-Turbo", (8, 9)),
    ("Qwen-Image-Lightning-8steps-V1.0.safetensors", "QwenImagePipeline", "Qwen-Image-Lightning", (8, 8)),
    ("builtin:tiny-lcm", SD, "builtin:tiny-lcm", (1, 8)),
    ("builtin:tiny-flow-turbo", SD3, "builtin:tiny-flow-turbo", (1, 8)),
]
OTHERS = [
    ("builtin:tiny", SD), ("builtin:tiny-flow", SD3), ("stabilityai/stable-diffusion-xl-base-1.0", SDXL),
    ("black-forest-labs/FLUX.1-dev", FLUX), ("black-forest-labs/FLUX.2-klein-base-4B", "Flux2KleinPipeline"),
    ("nerijs/pixel-art-xl", SDXL), ("lcm-free-style", SD), ("enlightning-strikes", SD), ("hypernetwork", SD),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pipeline", "kind", "steps"), KNOWN)
def test_what_is_distilled_is_known_by_its_name(name: str, pipeline: str, kind: str, steps: tuple[int, int]) -> None:
    found = distilled([name], pipeline)
    assert found is not None
    assert (found.name, found.steps) == (kind, steps)


@pytest.mark.parametrize(("name", "pipeline"), OTHERS)
def test_what_is_not_is_not_taken_for_it(name: str, pipeline: str) -> None:
    assert distilled([name], pipeline) is None


@pytest.mark.parametrize(
    ("pipeline", "configs", "kind"),
    [
        (SD, {"unet": {"time_cond_proj_dim": 256}}, "LCM"),
        (SD, {"unet": {"time_cond_proj_dim": None}}, None),
        (SD, {"scheduler": {"_class_name": "LCMScheduler"}}, "LCM"),
        (SDXL, {"scheduler": {"_class_name": "TCDScheduler"}}, "TCD"),
        ("SanaSprintPipeline", {"scheduler": {"_class_name": "SCMScheduler"}}, "SANA-Sprint"),
        (FLUX, {"transformer": {"guidance_embeds": False}, "scheduler": {"shift": 1.0}}, "FLUX.1-schnell"),
        (FLUX, {"transformer": {"guidance_embeds": True}, "scheduler": {"shift": 3.0}}, None),
        (FLUX, {"transformer": {"guidance_embeds": False}, "scheduler": {"shift": 3.0}}, None),
    ],
)
def test_configs_alone_may_tell(pipeline: str, configs: dict[str, dict[str, Any]], kind: str | None) -> None:
    found = distilled(["merged"], pipeline, lambda part: configs.get(part, {}))
    assert (found.name if found else None) == kind


def test_the_table_names_schedulers_that_there_are_and_sources() -> None:
    registry = builtin_registry()
    for row in _rows():
        assert row.source.startswith(("https://", "tools/")), row.name
        assert row.checked.startswith("https://") or row.unverified or row.source.startswith("tools/"), row.name
        assert row.steps[0] <= row.steps[1]
        assert all(name in registry.entries or name.endswith("Scheduler") for name in row.samplers), row.name
        assert {*row.suits} <= {"lcm", "tcd"}


def test_what_nobody_could_confirm_is_said() -> None:
    sure, unsure = (distilled([name], FLUX) for name in ("FLUX.2-klein-4B", "FLUX.1-Turbo-Alpha"))
    assert sure
    assert unsure
    assert sure.told == "made for euler, 4 steps, guidance off"
    assert (
        unsure.told == "made for euler, 8 steps, guidance 3 to 4, not confirmed: its guidance, which others set to 3.5"
    )


@pytest.fixture
def lcm_lora(tmp_path: Path) -> Path:
    return save_lora(
        tmp_path / "lcm-lora-mine", layers(load(inspect(ModelSpec("builtin:tiny")), "cpu").unet, "unet", "to_q")
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def writing(**changes: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        keys = {"model": "builtin:tiny", "prompt": "a red star", "steps": [4], "schedulers": ["lcm"]} | changes
        path.write_text(json.dumps(keys))
        return path

    return writing


@pytest.mark.parametrize(
    ("name", "pipeline", "own", "taken"),
    [
        ("stabilityai/sdxl-turbo", SDXL, 5, 0),
        ("Tongyi-MAI/Z-Image-Turbo", "ZImagePipeline", 5, 0),  # which guides above 0
        ("alimama-creative/FLUX.1-Turbo-Alpha", FLUX, 3.5, 3.5),
        ("black-forest-labs/FLUX.1-schnell", FLUX, 3.5, 3.5),  # which has no place for it
        ("ByteDance/Hyper-SD-CFG", SD, 9, 8),
    ],
)
def test_guidance_that_nobody_gives_is_as_the_authors_have_it(
    name: str, pipeline: str, own: float, taken: float
) -> None:
    found = distilled([name], pipeline)
    assert found is not None
    assert found.nearest(own) == taken


def test_a_sweep_that_leaves_the_range_is_told_so(lcm_lora: Path, write: Callable[..., Path]) -> None:
    inside = prepare(write(lora=str(lcm_lora), guidance_scale=1))
    assert [text for text in inside.warnings if "fused" in text]
    assert not [text for text in inside.warnings if "lcm" in text]
    assert "LCM-LoRA" in inside.origin.environment["distilled"][0]
    (told,) = (
        text
        for text in prepare(
            write(lora=["none", str(lcm_lora)], guidance_scale=7.5, steps=[4, 20], schedulers=["euler"])
        ).warnings
        if "LCM" in text
    )
    assert told.endswith("this sweep has 20 steps, guidance 7.5, no lcm with it")
    assert "made for lcm, 2 to 8 steps, guidance off or up to 2" in told
    assert "lcm-lora-sdxl" in told
    without = prepare(write(lora="none", guidance_scale=7.5, steps=[20]))
    assert "distilled" not in without.origin.environment
    assert any("images are not to be trusted" in text for text in without.warnings)


def test_all_schedulers_are_with_those_for_distilled_models(lcm_lora: Path, write: Callable[..., Path]) -> None:
    assert "lcm" in prepare(write(lora=str(lcm_lora), schedulers="*")).plan.entries
    assert "lcm" not in prepare(write(schedulers="*")).plan.entries


def test_a_title_in_the_header_tells(lcm_lora: Path) -> None:
    path = lcm_lora / "pytorch_lora_weights.safetensors"
    renamed = lcm_lora.parent / "mine.safetensors"
    save_file(load_file(path), renamed, metadata={"modelspec.title": "DMD2 for SD"})
    (found,) = few_steps(inspect(ModelSpec("builtin:tiny")), [find_adapter(str(renamed))])
    assert found.kind.name == "DMD2"


def test_list_compatible_says_what_it_is(
    lcm_lora: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.truth.quick.quick", lambda *_: {})  # whether they are right is not asked here
    said = output(capsys, "list-compatible", "--lora", lcm_lora)
    assert "✓ lcm " in said
    assert "(LCM-LoRA) is made for lcm, 2 to 8 steps" in said
    assert "✗ lcm " in output(capsys, "list-compatible")


def test_the_built_in_lora_jumps_to_where_guided_paths_end() -> None:
    tiny, registry = inspect(ModelSpec("builtin:tiny")), builtin_registry()
    config, lora = mended(tiny.scheduler_config, tiny.pipeline_class), find_adapter("builtin:tiny-lcm")
    pipeline, names = load(tiny, "cpu"), ("lcm", "euler", "dpmpp-2m-karras")
    recipes = {name: resolve(registry.entry(name), config) for name in names}
    bench = Workbench(pipeline, recipes, wear=Wardrobe(pipeline, {lora.digest: lora}).wear)
    worn = json.dumps({"name": "tiny-lcm", "adapters": [["builtin:tiny-lcm", "", 1.0, lora.digest]]})

    def drawn(scheduler: str, steps: int, text: str, guidance: float) -> dict[str, Any]:
        plain = Cell("", 0, scheduler, scheduler, "default", steps, 0, "p", "", "", guidance, None, None, lora=text)
        cells = [replace(plain, id=prompt, prompt=prompt, seed=i) for i, prompt in enumerate(HELD_OUT)]
        return {r.cell.id: r.image for r in PackedEngine(bench, lambda cell: cell.steps, 16).run(cells)}

    ends = drawn("dpmpp-2m-karras", 15, "", 2.0)

    def away(images: dict[str, Any]) -> float:
        """Root mean square, of 255 levels."""
        errors = [np.asarray(image, float) - np.asarray(ends[name], float) for name, image in images.items()]
        return float(np.sqrt(np.mean(np.square(errors))))

    one_step = drawn("lcm", 1, worn, 1.0)
    assert np.mean([adherence(image, prompt) for prompt, image in one_step.items()]) > 0.85
    assert away(one_step) < 0.8 * min(away(drawn("lcm", 1, "", guidance)) for guidance in (1.0, 2.0))
    assert away(one_step) < away(drawn("euler", 4, worn, 1.0))  # made for another sampler
