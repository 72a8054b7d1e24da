"""How diffusers' pipelines call their schedulers, read from their source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from checkpoints import save_sd1
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SCMScheduler,
    UniPCMultistepScheduler,
)

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.cli.looking import list_schedulers
from schedcmp.errors import CheckpointError, RegistryError, SweepError
from schedcmp.pipelines.arithmetic import size_multiple, size_refusal
from schedcmp.pipelines.guidance import inert_guidance
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.scheduling import misused, timestep_arguments
from schedcmp.pipelines.source import pipeline_source
from schedcmp.prepare import prepare
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry


@pytest.mark.parametrize(
    ("pipeline", "given"),
    [
        ("StableDiffusionPipeline", set()),
        ("StableDiffusion3Pipeline", set()),
        ("FluxPipeline", {"mu", "sigmas"}),
        ("QwenImagePipeline", {"mu", "sigmas"}),
        ("CogView4Pipeline", {"mu", "sigmas", "timesteps"}),
        ("LatentConsistencyModelPipeline", {"original_inference_steps"}),
        ("OmniGenPipeline", {"sigmas"}),
        ("NoSuchPipeline", set()),
    ],
)
def test_what_a_pipeline_hands_to_set_timesteps(pipeline: str, given: set[str]) -> None:
    assert timestep_arguments(pipeline, FlowMatchEulerDiscreteScheduler(), 4).keys() == given


def test_dynamic_shifting_adds_mu() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=0.9)
    assert timestep_arguments("StableDiffusion3Pipeline", scheduler, 4) == {"mu": 0.9}


def test_flow_sigmas_of_a_scheduler_replace_those_of_flux() -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert "sigmas" not in timestep_arguments("FluxPipeline", scheduler, 4)
    assert "sigmas" in timestep_arguments("ChromaPipeline", scheduler, 4)


def test_what_a_loop_wants_of_its_scheduler() -> None:
    assert "generator" in misused("Kandinsky3Pipeline", UniPCMultistepScheduler())
    assert not misused("Kandinsky3Pipeline", DDIMScheduler())
    assert "base_image_seq_len" in misused("BriaFiboPipeline", UniPCMultistepScheduler())
    assert not misused("StableDiffusionXLPipeline", DDIMScheduler())


def test_an_lcm_pipeline_takes_lcm_alone() -> None:
    config = mended({**LCMScheduler().config, "_class_name": "LCMScheduler"}, "LatentConsistencyModelPipeline")
    registry = builtin_registry()
    assert preflight(resolve(registry.entry("lcm"), config), 4).nfe == 4
    with pytest.raises(RegistryError, match="original_inference_steps, which LatentConsistencyModelPipeline"):
        preflight(resolve(registry.entry("ddim"), config), 4)


@pytest.mark.parametrize("name", ["ddim", "ddim-parallel", "ddpm", "pndm"])
def test_a_first_timestep_beyond_the_noise_schedule_is_refused(name: str, tmp_path: Path) -> None:
    checkpoint = inspect(ModelSpec(str(save_sd1(tmp_path / "sd1"))))
    config = mended(checkpoint.scheduler_config, checkpoint.pipeline_class)
    registry = builtin_registry()
    preflight(resolve(registry.entry(name), config), 999)
    preflight(resolve(registry.entry(f"{name}-trailing"), config), 1000)  # as the message advises
    with pytest.raises(RegistryError, match=f"first timestep is 1000.* as in {name}-trailing"):
        preflight(resolve(registry.entry(name), config), 1000)


def test_only_classes_with_a_call_of_their_own_are_read() -> None:
    source = pipeline_source("FluxPipeline")
    assert source
    assert source.defaults["guidance_scale"] == 3.5
    assert pipeline_source("DiffusionPipeline") is None


SD_VAE = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4}
FLUX_VAE = {**SD_VAE, "latent_channels": 16}


def configs(**parts: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    return lambda name: parts.get(name, {})


@pytest.mark.parametrize(
    ("pipeline", "parts", "why"),
    [
        ("StableDiffusionPipeline", {"unet": {"in_channels": 4}, "vae": SD_VAE}, ""),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 9}, "vae": SD_VAE}, "reads 9 channels.* masked image"),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 8}, "vae": SD_VAE}, "reads 8 channels.* image to edit"),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 5}, "vae": SD_VAE}, "reads 5 channels.* depth map"),
        ("StableDiffusionInpaintPipeline", {"unet": {"in_channels": 4}}, "needs `image` and `mask_image`"),
        ("StableDiffusionXLImg2ImgPipeline", {}, "needs `image`"),
        ("StableDiffusionDepth2ImgPipeline", {}, "needs `image`"),
        ("FluxFillPipeline", {}, "needs `image` and `mask_image`"),
        ("FluxKontextPipeline", {}, ""),
        ("HunyuanImageRefinerPipeline", {}, "needs `image`"),  # which may be None by its annotation
        ("OmniGenPipeline", {}, ""),
        ("FluxPipeline", {"transformer": {"in_channels": 64}, "vae": FLUX_VAE}, ""),
        ("FluxPipeline", {"transformer": {"in_channels": 384}, "vae": FLUX_VAE}, "reads 96 channels"),
        ("DiTPipeline", {}, "needs `class_labels`"),
        ("DDPMPipeline", {}, "takes no prompt"),
        ("WanPipeline", {}, "gives `frames` and no images"),
        ("SomebodysPipeline", {}, ""),
    ],
)
def test_what_makes_no_image_from_a_prompt(pipeline: str, parts: dict[str, Any], why: str) -> None:
    told = unfit(pipeline, configs(**parts))
    assert re.search(why, told) if why else not told


@pytest.mark.parametrize(("told", "why"), [(6, ""), (5, "SDXL refiner"), (4, "other embeddings")])
def test_a_refiner_that_was_saved_as_a_base_model(told: int, why: str) -> None:
    unet = {"projection_class_embeddings_input_dim": 1280 + 256 * told, "addition_time_embed_dim": 256}
    assert why in unfit("StableDiffusionXLPipeline", configs(unet=unet, text_encoder_2={"projection_dim": 1280}))


def changed(folder: Path, to: Path, file: str, **keys: Any) -> Path:
    path = copytree(folder, to) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return to


def test_such_a_checkpoint_is_refused_before_it_is_loaded(sd1: Path, tmp_path: Path, write_sweep: Any) -> None:
    folder = changed(sd1, tmp_path / "m", "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(CheckpointError, match=r"sweep.yaml:\d+: model: m: .* needs `image` and `mask_image`"):
        prepare(write_sweep(model=str(folder)))
    list_schedulers(str(folder), every_sigma_schedule=False, as_json=True)  # what a sweep with images could run
    folder = changed(sd1, tmp_path / "d", "model_index.json", _class_name="DiTPipeline")
    with pytest.raises(CheckpointError, match="needs `class_labels`"):
        list_schedulers(str(folder), every_sigma_schedule=False, as_json=False)


@pytest.mark.parametrize(
    ("pipeline", "multiple"),
    [
        ("StableDiffusionPipeline", 8),
        ("FluxPipeline", 16),
        ("StableDiffusion3Pipeline", 16),
        ("QwenImagePipeline", 16),
        ("Lumina2Pipeline", 16),
        ("SanaPipeline", 32),
        ("PixArtSigmaPipeline", 8),
    ],
)
def test_the_sizes_that_a_pipeline_makes(pipeline: str, multiple: int) -> None:
    vae = {**SD_VAE, "temperal_downsample": [0, 1, 1], "encoder_block_out_channels": [1] * 6}
    source = pipeline_source(pipeline)
    assert source
    assert size_multiple(source, configs(vae=vae, transformer={"patch_size": 2})) == multiple


def test_a_size_that_would_be_rounded_is_refused_with_the_nearest() -> None:
    has = configs(vae=FLUX_VAE)
    assert not size_refusal("FluxPipeline", has, [(64, 64), (80, 96)])
    assert size_refusal("FluxPipeline", has, [(64, 64), (1080, 64)]).endswith("16; take 1072x64 or 1088x64")


def test_a_size_is_refused_where_it_stands(sd1: Path, tmp_path: Path, write_sweep: Any) -> None:
    folder = changed(sd1, tmp_path / "m", "vae/config.json", block_out_channels=[8] * 5)
    with pytest.raises(SweepError, match=r"sweep.yaml:\d+: size: 24x24 is not made .* take 16x16 or 32x32"):
        prepare(write_sweep(model=str(folder), size=[16, 24]))


@pytest.mark.parametrize(
    ("pipeline", "parts", "told"),
    [
        ("StableDiffusionPipeline", {}, ["negative_prompt changes nothing at guidance_scale 0, 1", "are one setting"]),
        ("ZImagePipeline", {}, ["negative_prompt changes nothing at guidance_scale 0: ZImagePipeline guides above 0"]),
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, ["negative_prompt changes nothing"]),
        ("FluxPipeline", {}, ["negative_prompt changes nothing", "guidance_scale changes nothing"]),
        ("LatentConsistencyModelPipeline", {"unet": {"time_cond_proj_dim": 256}}, ["takes none; leave it out"]),
        ("StableDiffusionPipeline", {"unet": {"time_cond_proj_dim": 256}}, ["was distilled"]),
        ("SomebodysPipeline", {}, []),
    ],
)
def test_guidance_that_changes_nothing_is_told(pipeline: str, parts: dict[str, Any], told: list[str]) -> None:
    found = list(inert_guidance(pipeline, configs(**parts), [0, 1, 5], ["", "ugly"]))
    assert len(found) == len(told)
    assert all(part in text for part, text in zip(told, found, strict=True))


def test_guidance_that_is_on_is_not_remarked_on() -> None:
    assert not list(inert_guidance("StableDiffusionPipeline", configs(), [1, 5], [""]))
    assert not list(inert_guidance("QwenImagePipeline", configs(transformer={"guidance_embeds": True}), [4], ["ugly"]))


def test_a_scheduler_made_for_two_steps_goes_with_its_own_checkpoint() -> None:
    config = mended({**SCMScheduler().config, "_class_name": "SCMScheduler"}, "SanaSprintPipeline")
    own = builtin_registry().with_rows([{"name": "own", "class": "SCMScheduler"}], "sweep").entry("own")
    assert judge(own, config) == ("ok", "the checkpoint's own")
    assert preflight(resolve(own, config), 2).nfe
    with pytest.raises(RegistryError, match="cannot do 10 steps"):
        preflight(resolve(own, config), 10)
