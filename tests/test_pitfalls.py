"""What goes wrong when schedulers of diffusers are compared carelessly, by number; see also test_registry.py.

Where diffusers has mended something since, the test pins what the installed release does.
"""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from scipy import stats

from schedcmp.errors import RegistryError
from schedcmp.registry.build import resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import Trajectory, preflight
from schedcmp.registry.table import builtin_registry

SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "steps_offset": 1, "skip_prk_steps": True, "clip_sample": False,
}  # fmt: skip
COSINE = SD15 | {"beta_schedule": "squaredcos_cap_v2"}
SMALLEST, LARGEST = 0.02917, 14.61465  # noise levels of SD15
REGISTRY = builtin_registry()


def trajectory(name: str, steps: int = 10, **config: object) -> Trajectory:
    return preflight(resolve(REGISTRY.entry(name), SD15 | config), steps)


def solve(scheduler: Any, steps: int) -> torch.Tensor:
    """Run a scheduler with a model that predicts a fixed part of its input as noise."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 4, 4, generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(0.5 * scheduler.scale_model_input(x, t), t, x).prev_sample
    return x


@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-2m-karras", "dpmpp-2s", "unipc", "lms-karras", "euler", "heun"])
def test_pitfall_05_the_last_step_goes_to_zero(name: str) -> None:
    found = trajectory(name)
    assert found.final_sigma == 0
    assert not any("residual" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", ["deis", "deis-karras", "sa-solver", "unipc-bh1"])
def test_pitfall_05_residual_noise_is_said(name: str) -> None:
    found = trajectory(name)
    assert found.final_sigma == pytest.approx(SMALLEST, abs=1e-5)
    assert "ends at sigma 0.029: residual noise" in found.remarks


def test_pitfall_05_a_scheduler_without_sigmas_has_no_final_one() -> None:
    assert trajectory("ddim").final_sigma is None


def test_pitfall_06_a_scheduler_that_rewrites_its_config_does_not_reach_the_next_cell() -> None:
    recipe = resolve(REGISTRY.entry("dpmpp-2s"), SD15)
    used = recipe.build()
    used.set_timesteps(7)
    assert used.config.lower_order_final is True
    assert (recipe.config["lower_order_final"], recipe.build().config.lower_order_final) == (False, False)


def test_pitfall_07_steps_are_not_evaluations() -> None:
    counted = {name: trajectory(name).nfe for name in ("euler", "heun", "kdpm2", "kdpm2-a", "dpmpp-sde", "pndm")}
    assert counted == {"euler": 10, "heun": 19, "kdpm2": 19, "kdpm2-a": 19, "dpmpp-sde": 19, "pndm": 11}
    pndm = trajectory("pndm").timesteps
    assert pndm[1] == pndm[2]


def test_pitfall_08_beta_of_diffusers_is_over_sigmas_and_of_comfyui_over_timesteps() -> None:
    quantiles = stats.beta.ppf(1 - np.linspace(0, 1, 10), 0.6, 0.6)
    expected = SMALLEST + quantiles * (LARGEST - SMALLEST)
    assert trajectory("euler-beta").sigmas[:-1] == pytest.approx(expected, abs=1e-4)
    assert "applied to sigmas" in REGISTRY.sigma_schedule("beta").source
    timesteps = np.rint(999 * stats.beta.ppf(1 - np.arange(10) / 10, 0.6, 0.6))
    assert trajectory("euler-beta-timesteps").timesteps == pytest.approx(timesteps, abs=0.02)


def test_pitfall_09_sgm_uniform_is_only_near_trailing() -> None:
    ours, near = trajectory("euler-sgm-uniform"), trajectory("euler-trailing")
    assert ours.timesteps == pytest.approx(999 - 99.9 * np.arange(10), abs=0.02)
    assert 0.5 < np.abs(np.subtract(ours.timesteps, near.timesteps)).max() <= 1
    assert trajectory("euler-simple").timesteps == pytest.approx(near.timesteps, abs=0.02)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["euler-exponential", "lms-beta", "heun-karras", "euler-kl-optimal", "kdpm2-simple"])
def test_pitfall_09_sigma_schedules_start_at_the_top_whatever_the_checkpoints_spacing(name: str, spacing: str) -> None:
    found = trajectory(name, timestep_spacing=spacing)
    assert found.sigmas[0] == pytest.approx(LARGEST, rel=1e-4)


def test_pitfall_10_a_plain_name_is_plain_and_automatic_names_what_it_chose() -> None:
    assert REGISTRY.entry("DPM++ 2M").sigmas.name == "default"
    automatic = {"DPM++ 2M": "karras", "DPM++ SDE": "karras", "DPM++ 2M SDE": "exponential", "DPM2 a": "karras"}
    automatic |= {"DPM++ 3M SDE": "exponential", "DPM++ 2S a": "karras", "Restart": "karras", "Euler a": "linspace"}
    assert {name: REGISTRY.entry(name, "automatic").sigmas.name for name in automatic} == automatic


def test_pitfall_11_dpmpp_sde_is_the_stochastic_solver_and_says_that_this_is_disputed() -> None:
    entry = REGISTRY.entry("DPM++ SDE")
    assert (entry.class_name, entry.noise) == ("DPMSolverSDEScheduler", True)
    assert "DPMSolverSinglestep" in entry.note
    singlestep = inspect.signature(diffusers.DPMSolverSinglestepScheduler).parameters
    assert singlestep["algorithm_type"].default == "dpmsolver++"  # deterministic


@pytest.mark.parametrize("name", ["kdpm2-karras", "kdpm2-a-karras"])
def test_pitfall_12_no_noise_level_is_discarded_and_the_note_says_who_does(name: str) -> None:
    levels = list(dict.fromkeys(trajectory(name).sigmas))
    assert len(levels) == 11
    assert levels[-2:] == [pytest.approx(SMALLEST, abs=1e-5), 0]
    assert "discard the penultimate sigma" in REGISTRY.entry(name).note


@pytest.mark.parametrize("name", ["ddim-trailing", "ddim-linspace", "pndm-trailing"])
def test_pitfall_16_a_step_by_ratio_is_said_to_be_wrong_off_leading_spacing(name: str) -> None:
    assert any("t - T//N" in remark for remark in trajectory(name).remarks)
    assert trajectory(name.partition("-")[0], 20, timestep_spacing="leading").remarks == ()


def test_pitfall_18_duplicate_timesteps_are_refused_or_fixed() -> None:
    with pytest.raises(RegistryError, match="its first timestep, 999, is there twice"):
        trajectory("dpmpp-2m-linear-quadratic", 20)
    for name, steps in [("dpmpp-2m-linear-quadratic", 10), ("unipc-karras", 300)]:
        assert any("duplicate timesteps" in remark for remark in trajectory(name, steps).remarks)
    for name, steps in [("euler-linear-quadratic", 20), ("lms-karras", 300)]:  # keep fractions of timesteps
        assert trajectory(name, steps).remarks == ()


@pytest.mark.parametrize("steps", [5, 10, 25])
def test_pitfall_18_cosine_betas_with_karras_sigmas_run_to_the_end_or_are_refused(steps: int) -> None:
    recipe = resolve(REGISTRY.entry("dpmpp-2m-karras"), COSINE)
    try:
        found = preflight(recipe, steps)
    except RegistryError as error:
        assert "twice" in str(error)
    else:
        assert found.timesteps[0] not in found.timesteps[1:]
        assert solve(recipe.build(), steps).isfinite().all()


def test_pitfall_18_a_skipped_noise_level_is_what_a_first_duplicate_costs() -> None:
    """What the refusal is for: diffusers starts at the second of two equal timesteps and runs off the end."""
    scheduler = resolve(REGISTRY.entry("dpmpp-2m"), SD15).build()
    scheduler.set_timesteps(timesteps=[999, 999, 500, 100])
    x = torch.zeros(1, 4, 4, 4)
    for t in scheduler.timesteps[:-1]:
        scheduler.step(x, t, x)
    with pytest.raises(IndexError):
        scheduler.step(x, scheduler.timesteps[-1], x)


def test_pitfall_19_lists_reach_classes_that_take_no_sigmas_argument() -> None:
    assert "sigmas" not in inspect.signature(diffusers.DPMSolverMultistepScheduler.set_timesteps).parameters
    assert judge(REGISTRY.entry("dpmpp-2m-ays-sd15"), SD15)[0] == "ok"
    for name in ("pndm-karras", "pndm-simple", "tcd-ays-sd15"):
        assert judge(REGISTRY.entry(name), SD15)[0] == "unsupported"
    with pytest.raises(ValueError, match="Only one of"):
        diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, use_exponential_sigmas=True)
    assert trajectory("euler-exponential", use_karras_sigmas=True).remarks == ()


def test_pitfall_20_align_your_steps_is_a_list_of_ten_and_ends_at_zero() -> None:
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    assert trajectory("euler-ays-sd15").sigmas == pytest.approx([*published, 0])
    assert trajectory("euler-ays-sd15", 20).sigmas[::2] == pytest.approx([*published, 0])
    schedule = REGISTRY.sigma_schedule("ays-sd15")
    assert "published for 10 steps; other counts by log-linear interpolation" in schedule.source
    assert "0.029" in schedule.note


@pytest.mark.parametrize("base", ["dpmpp-2m", "dpmpp-2s", "dpmpp-2m-sde"])
def test_pitfall_22_third_order_runs_at_every_number_of_steps(base: str) -> None:
    row = {"name": "third", "base": base, "options": {"solver_order": 3}}
    recipe = resolve(REGISTRY.with_rows([row], "here").entry("third"), SD15)
    for steps in range(1, 18):
        preflight(recipe, steps)
        assert solve(recipe.build(), steps).isfinite().all(), steps


def test_pitfall_26_timesteps_set_before_the_pipelines_call_do_not_last() -> None:
    scheduler = resolve(REGISTRY.entry("euler-ays-sd15"), SD15).build()
    scheduler.set_timesteps(25)
    timesteps, steps = retrieve_timesteps(scheduler, 10, "cpu")
    assert (len(timesteps), steps) == (10, 10)
    assert tuple(scheduler.sigmas.tolist()) == trajectory("euler-ays-sd15").sigmas


def test_pitfall_28_few_steps_of_pndm_are_told() -> None:
    told = "may leave the solution with guidance"
    assert [any(told in remark for remark in trajectory("pndm", steps).remarks) for steps in (10, 19, 20)] == [1, 1, 0]
    assert not any(told in remark for remark in trajectory("heun", 5).remarks)
