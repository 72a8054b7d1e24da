"""How diffusers' pipelines call their schedulers, read from their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import save_sd1
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler, UniPCMultistepScheduler

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.errors import RegistryError
from schedcmp.pipelines.scheduling import misused, timestep_arguments
from schedcmp.pipelines.source import pipeline_source
from schedcmp.registry.build import mended, resolve
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
