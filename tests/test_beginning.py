"""Beginning in the middle of the steps, as image-to-image does: who can, who does it wrong, and who cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from schedcmp.errors import RegistryError
from schedcmp.pipelines.beginning import begun, default_strength
from schedcmp.pipelines.scheduling import timestep_arguments
from schedcmp.registry.build import Recipe, mended, resolve
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.beginning import wrong_in_the_middle

SD = {
    "_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "skip_prk_steps": True, "steps_offset": 1,
}  # fmt: skip
BETAS = mended(SD, "StableDiffusionImg2ImgPipeline")
FLOW = mended({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "StableDiffusion3Img2ImgPipeline")
DYNAMIC = mended(
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "FluxImg2ImgPipeline"
)
# What goes from one noise level to the next by itself, without noise: nothing of its past is lost
MEMORYLESS = {
    "ddim": BETAS, "euler": BETAS, "heun": BETAS, "kdpm2": BETAS, "rk4": BETAS, "res-2s": BETAS,
    "flow-euler": FLOW, "flow-heun": FLOW, "midpoint": FLOW,
}  # fmt: skip


def recipe(name: str, config: Mapping[str, Any]) -> Recipe:
    return resolve(builtin_registry().entry(name), config)


def solved(
    recipe: Recipe, x: torch.Tensor | None, strength: float, *, flow: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The latents before each evaluation of a loop that begins at a strength, and those after the last."""
    scheduler = recipe.build()
    scheduler.set_timesteps(10, device="cpu", **timestep_arguments(recipe.pipeline, scheduler, 10))
    timesteps = begun(recipe.pipeline, scheduler, 10, strength)
    if x is None:
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        x = x if flow else x * scheduler.init_noise_sigma
    seen = []
    for t in timesteps:
        seen.append(x)
        given = x if flow else scheduler.scale_model_input(x, t)
        x = scheduler.step((3 * given).sin() * float(t) / 1000, t, x, return_dict=False)[0]
    return seen, x


@pytest.mark.parametrize("name", MEMORYLESS)
@pytest.mark.parametrize("strength", [0.3, 0.5, 0.8])
def test_from_the_exact_latents_it_is_the_tail_of_its_own_trajectory(name: str, strength: float) -> None:
    config = MEMORYLESS[name]
    own, flow = recipe(name, config), config is FLOW
    seen, end = solved(own, None, 1.0, flow=flow)
    left = len(solved(own, None, strength, flow=flow)[0])
    assert 0 < left < len(seen)
    tail, again = solved(own, seen[-left], strength, flow=flow)
    assert len(tail) == left
    torch.testing.assert_close(again, end, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config"),
    [("dpmpp-2m", BETAS), ("unipc", BETAS), ("ipndm", BETAS), ("euler-a", BETAS), ("lms-sigma", BETAS), ("deis", FLOW)],
)
def test_who_begins_in_the_middle_rightly(name: str, config: Mapping[str, Any]) -> None:
    assert not wrong_in_the_middle(recipe(name, config), config)


@pytest.mark.parametrize("name", ["pndm", "lms"])
def test_who_begins_in_the_middle_wrongly(name: str) -> None:
    assert "times the error of its whole run" in wrong_in_the_middle(recipe(name, BETAS), BETAS)


@pytest.mark.parametrize("name", ["dpm-fast", "dpm-adaptive", "restart"])
@pytest.mark.parametrize("config", [BETAS, FLOW])
def test_who_cannot_says_so(name: str, config: Mapping[str, Any]) -> None:
    with pytest.raises(RegistryError, match="cannot begin in the middle of its steps"):
        wrong_in_the_middle(recipe(name, config), config)


def test_who_cannot_bring_an_image_to_a_noise_level_is_refused() -> None:
    with pytest.raises(RegistryError, match="it has no scale_noise, with which StableDiffusion3Img2ImgPipeline begins"):
        preflight(recipe("dpmpp-2m", FLOW), 10, 0.5)
    preflight(recipe("dpmpp-2m-karras", FLOW), 10, 0.5)


def test_each_pipeline_counts_its_steps_in_its_own_way() -> None:
    def left(pipeline: str, config: Mapping[str, Any], name: str, strength: float) -> int:
        return preflight(recipe(name, {**config, **mended(dict(config), pipeline)}), 10, strength).nfe

    assert left("StableDiffusionImg2ImgPipeline", BETAS, "ddim", 0.55) == 5  # int(5.5)
    assert left("StableDiffusion3Img2ImgPipeline", FLOW, "flow-euler", 0.55) == 6  # 10 - int(4.5)
    # of the evaluations, as many as timesteps, that `retrieve_timesteps` counts for steps
    assert left("FluxImg2ImgPipeline", DYNAMIC, "heun", 0.55) == 19 - 2 * int(19 - 19 * 0.55)


def test_a_strength_by_default_is_the_pipelines() -> None:
    assert default_strength("StableDiffusionImg2ImgPipeline") == 0.8
    assert default_strength("StableDiffusionXLImg2ImgPipeline") == 0.3
    assert default_strength("StableDiffusionPipeline") is None
    assert default_strength("SomebodysPipeline") is None
