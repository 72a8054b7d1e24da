"""Checkpoints of other kinds: flow matching with and without dynamic shifting, v-prediction, zero terminal SNR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import families
import numpy as np
import pytest
import torch

from schedcmp.registry.build import mended, resolve
from schedcmp.registry.compat import compatibility, judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry

FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
SD3 = mended(FLOW, "StableDiffusion3Pipeline")
FLUX_DEV = mended(FLOW | {"use_dynamic_shifting": True}, "FluxPipeline")
FLUX_SCHNELL = mended(FLOW | {"shift": 1.0}, "FluxPipeline")
# as of Stable Diffusion 2.1 that was tuned to zero terminal SNR (Lin et al. 2024)
ZERO_SNR: dict[str, Any] = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True,
}  # fmt: skip
V_PREDICTION = ZERO_SNR | {"rescale_betas_zero_snr": False, "timestep_spacing": "leading", "steps_offset": 1}
REGISTRY = builtin_registry()
HAND_MADE: dict[str, Callable[..., Any]] = {
    "euler": lambda **more: diffusers.FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=more.get("use_dynamic_shifting", False)
    ),
    "lcm": lambda **more: diffusers.FlowMatchLCMScheduler(
        shift=3.0, use_dynamic_shifting=more.get("use_dynamic_shifting", False)
    ),
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
    "dpmpp-2m-sde": lambda **more: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **more),
    "dpmpp-3m": lambda **more: diffusers.DPMSolverMultistepScheduler(solver_order=3, **more),
    "dpmpp-2s": diffusers.DPMSolverSinglestepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
SETTINGS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


@pytest.fixture(scope="module", params=["sd3", "flux"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    return families.ready(getattr(families, request.param))


def image(pipeline: Any, scheduler: Any) -> Any:
    pipeline.scheduler = scheduler
    return pipeline(
        "a b", num_inference_steps=4, width=16, height=16, max_sequence_length=8, output_type="np",
        generator=torch.Generator().manual_seed(1),
    ).images  # fmt: skip


@pytest.mark.parametrize("name", HAND_MADE)
def test_images_are_those_of_a_pipeline_set_up_by_hand(pipeline: Any, name: str) -> None:
    flux = isinstance(pipeline, diffusers.FluxPipeline)
    dynamic = {"use_dynamic_shifting": True} if flux else {}
    recipe = resolve(REGISTRY.entry(name), FLUX_DEV if flux else SD3)
    torch.manual_seed(0)  # these pipelines hand no generator to `step`
    ours = image(pipeline, recipe.build())
    torch.manual_seed(0)
    theirs = image(pipeline, HAND_MADE[name](**SETTINGS, **dynamic))
    assert np.isfinite(ours).all()
    assert np.array_equal(ours, theirs)


def test_whatever_is_said_to_work_gives_an_image(pipeline: Any) -> None:
    config = FLUX_DEV if isinstance(pipeline, diffusers.FluxPipeline) else SD3
    working = [c.entry for c in compatibility(REGISTRY.entries.values(), config) if c.status == "ok"]
    assert {"flow-euler", *HAND_MADE} - {"lcm"} <= {e.name for e in working}
    for entry in working:
        assert np.isfinite(image(pipeline, resolve(entry, config).build())).all(), entry.name


def test_the_shift_is_carried_over_under_the_name_that_the_class_has() -> None:
    option = resolve(REGISTRY.entry("unipc"), SD3).options["flow_shift"]
    assert (option.value, option.source) == (3.0, "flow matching")
    wan = {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "flow_shift": 5.0}
    assert resolve(REGISTRY.entry("flow-euler"), wan).config["shift"] == 5.0
    assert judge(REGISTRY.entry("flow-euler"), wan)[0] == judge(REGISTRY.entry("dpmpp-2m"), wan)[0] == "ok"
    assert resolve(REGISTRY.entry("euler"), wan).config["shift"] == 5.0


def test_the_shifted_levels_are_the_checkpoints() -> None:
    t = np.linspace(0.999, 0, 11)[:-1]  # the class's own alphas run from 1 to 1/1000
    sigmas = preflight(resolve(REGISTRY.entry("dpmpp-2m"), SD3), 10).sigmas
    assert sigmas == pytest.approx([*(3 * t / (1 + 2 * t)), 0])


def test_more_works_than_compatibles_lists() -> None:
    found = {c.entry.name: c for c in compatibility(REGISTRY.entries.values(), SD3)}
    assert found["euler"].listed
    for name in ("dpmpp-2m", "dpmpp-2s", "unipc", "flow-heun"):
        assert (found[name].status, found[name].listed) == ("ok", False)


@pytest.mark.parametrize("name", ["deis", "sa-solver", "unipc-bh1"])
def test_who_would_leave_noise_in_the_image_follows_the_checkpoints_levels_to_the_end(name: str) -> None:
    assert judge(REGISTRY.entry(name), SD3)[0] == "ok"
    own = preflight(resolve(REGISTRY.entry("euler"), SD3), 10).sigmas
    found = preflight(resolve(REGISTRY.entry(name), SD3), 10).sigmas
    assert found[1:] == own[1:]
    assert found[0] == pytest.approx(1 - 1e-4 / (3 - 2e-4))  # its formulas have log(1 - s)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sa-solver", FLUX_SCHNELL), ("sa-solver", FLUX_DEV), ("flow-heun", SD3 | {"use_dynamic_shifting": True}),
        ("dpmpp-2m", FLUX_SCHNELL), ("heun", FLUX_DEV), ("deis", mended(FLOW, "ZImagePipeline")),
    ],
)  # fmt: skip
def test_what_a_class_does_not_take_of_its_pipeline_it_is_spared(name: str, config: dict[str, Any]) -> None:
    assert judge(REGISTRY.entry(name), config)[0] == "ok"
    own = preflight(resolve(REGISTRY.entry("euler"), config), 6).sigmas
    found = dict.fromkeys(preflight(resolve(REGISTRY.entry(name), config), 6).sigmas)
    assert [*found][1:] == pytest.approx(own[1:])


@pytest.mark.parametrize("name", ["pndm", "tcd", "edm-euler"])
def test_what_has_no_implementation_for_flow_matching_says_so(name: str) -> None:
    status, said = judge(REGISTRY.entry(name), FLUX_DEV)
    assert status in ("unsupported", "wrong")
    assert "this checkpoint has flow matching" in said


def test_static_shifting_in_flux_works_where_the_class_lets_mu_be() -> None:
    assert judge(REGISTRY.entry("unipc"), FLUX_SCHNELL)[0] == "ok"
    assert judge(REGISTRY.entry("flow-euler"), FLUX_SCHNELL)[0] == "ok"


def test_v_prediction_reaches_every_scheduler_that_is_said_to_work() -> None:
    working = [c for c in compatibility(REGISTRY.entries.values(), V_PREDICTION) if c.status == "ok"]
    assert {"ddim", "pndm", "lms", "euler", "heun", "kdpm2", "dpmpp-2m", "deis", "unipc"} <= {
        c.entry.name for c in working
    }
    for c in working:
        option = resolve(c.entry, V_PREDICTION).options["prediction_type"]
        assert (option.value, option.source) == ("v_prediction", "checkpoint")


def test_a_class_that_takes_another_prediction_is_wrong() -> None:
    row = {"name": "mine", "base": "ddim", "options": {"prediction_type": "epsilon"}}
    mine = REGISTRY.with_rows([row], "here").entry("mine")
    v_of_others = V_PREDICTION | {"_class_name": "EulerDiscreteScheduler"}
    assert judge(mine, v_of_others) == (
        "wrong",
        "this checkpoint predicts v_prediction, the class takes it for epsilon",
    )


def test_zero_terminal_snr_is_for_classes_that_can_represent_it() -> None:
    status = {c.entry.name: c for c in compatibility(REGISTRY.entries.values(), ZERO_SNR)}
    for name in ("ddim", "ddpm", "euler", "euler-a", "dpmpp-2m", "unipc"):
        assert status[name].status == "ok"
        assert resolve(status[name].entry, ZERO_SNR).config["rescale_betas_zero_snr"] is True
    for name in ("pndm", "heun", "dpmpp-2s"):
        assert status[name].status == "wrong"
        assert "zero terminal SNR, which the class cannot represent" in status[name].reason
    for name in ("lms", "kdpm2", "deis", "sa-solver", "dpmpp-sde"):  # whose classes cannot, and whose functions can
        assert status[name].status == "ok"
        assert resolve(status[name].entry, ZERO_SNR).config["rescale_betas_zero_snr"] is True


def test_zero_terminal_snr_must_start_at_the_last_timestep() -> None:
    assert preflight(resolve(REGISTRY.entry("euler"), ZERO_SNR), 10).remarks == ()
    remarks = preflight(resolve(REGISTRY.entry("euler-leading"), ZERO_SNR), 10).remarks
    assert remarks == ("starts at timestep 900; with zero terminal SNR it must be 999 (trailing spacing)",)
