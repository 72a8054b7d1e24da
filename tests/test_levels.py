"""Sigma schedules that are lists: against their definitions, and inside every class that takes them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from diffusers.schedulers import AysSchedules
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from schedcmp.drawing import plot_format
from schedcmp.errors import RegistryError, RequestError
from schedcmp.registry.build import resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.plot import sigma_curves, sigma_plot
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.spacing import flow_levels, levels
from schedcmp.spacing.flow import PIPELINE

SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "steps_offset": 1, "skip_prk_steps": True, PIPELINE: "StableDiffusionPipeline",
}  # fmt: skip
SDXL = SD15 | {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
SDXL |= {PIPELINE: "StableDiffusionXLPipeline"}
FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
REGISTRY = builtin_registry()
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # Stable Diffusion's, Rombach et al. 2022
SIGMAS = np.sqrt(1 / np.cumprod(1 - BETAS) - 1)
LOW, HIGH = SIGMAS[0], SIGMAS[-1]
LISTS = [s for s in REGISTRY.sigma_schedules.values() if s.levels]
STEPS = (1, 2, 3, 5, 7, 10)
# One entry of each class, and one sampler function: all functions get their sigmas in one way
ENTRIES = list({e.cls: e for e in reversed(REGISTRY.entries.values()) if "samplers" not in e.cls}.values())
ENTRIES = [e for e in ENTRIES if e.base == e.name] + [REGISTRY.entry("euler-a-any")]


def sigma(t: float) -> float:
    """At a timestep, straight lines in log sigma, as k-diffusion has it."""
    return math.exp(np.interp(t, range(1000), np.log(SIGMAS)))


def test_the_checkpoints_own_noise_levels_are_read_from_the_scheduler() -> None:
    scheduler = resolve(REGISTRY.entry("euler"), SD15).build()
    assert levels.own_sigmas(scheduler) == pytest.approx(SIGMAS, rel=2e-5)  # float32 betas
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.numpy()[::-1]
    assert flow_levels.Trained(3.0, 1000).sigmas == pytest.approx(flow, rel=1e-6)


@pytest.mark.parametrize("n", STEPS)
def test_evenly_spaced_schedules_are_those_of_k_diffusion_and_comfyui(n: int) -> None:
    assert levels.sgm_uniform(n, SIGMAS) == pytest.approx([sigma(999 - 999 * i / n) for i in range(n)])
    assert levels.normal(n, SIGMAS) == pytest.approx([sigma(999 - 999 * i / max(n - 1, 1)) for i in range(n)])
    assert levels.simple(n, SIGMAS).tolist() == [SIGMAS[-(1 + int(i * 1000 / n))] for i in range(n)]
    assert levels.ddim_uniform(n, SIGMAS).tolist() == [SIGMAS[1 + i * (1000 // n)] for i in range(n)][::-1]
    assert levels.turbo(n, SIGMAS).tolist() == [SIGMAS[999 - 100 * i] for i in range(n)]


def test_normal_is_linspace_spacing_and_ddim_uniform_is_leading() -> None:
    """To what diffusers' straight lines in sigma, instead of log sigma, make of timesteps between whole ones."""
    for ours, theirs, n in [("euler-normal", "euler-linspace", 28), ("euler-ddim-uniform", "euler-leading", 25)]:
        levels_, spaced = (preflight(resolve(REGISTRY.entry(name), SD15), n).sigmas for name in (ours, theirs))
        assert levels_ == pytest.approx(spaced, rel=1e-3)


def test_simple_is_trailing_where_the_steps_divide_the_noise_schedule() -> None:
    for n in (4, 10, 20):
        simple, trailing = (
            preflight(resolve(REGISTRY.entry(f"euler-{s}"), SD15), n).sigmas for s in ("simple", "trailing")
        )
        assert simple == pytest.approx(trailing, rel=1e-6)


@pytest.mark.parametrize("n", STEPS)
def test_formulas_are_those_of_their_papers(n: int) -> None:
    i = np.arange(n) / max(n - 1, 1)
    kl = np.tan(i * math.atan(LOW) + (1 - i) * math.atan(HIGH))  # Sabour et al. 2024, equation 11
    assert levels.kl_optimal(n, SIGMAS) == pytest.approx(kl)
    poly = np.exp((1 - i) ** 2 * math.log(HIGH / LOW) + math.log(LOW))
    assert levels.polyexponential(n, SIGMAS, rho=2) == pytest.approx(poly)
    beta = [SIGMAS[round(999 * float(stats.beta.ppf(1 - k / n, 0.6, 0.6)))] for k in range(n)]
    assert levels.beta_timesteps(n, SIGMAS).tolist() == beta


def test_polyexponential_at_rho_1_is_diffusers_exponential() -> None:
    poly, exponential = (
        preflight(resolve(REGISTRY.entry(f"euler-{s}"), SD15), 12).sigmas for s in ("polyexponential", "exponential")
    )
    assert poly == pytest.approx(exponential, rel=1e-5)


@given(st.integers(2, 1000))
def test_linear_quadratic_is_smooth_where_its_halves_meet_and_reaches_zero(n: int) -> None:
    values = np.append(levels.linear_quadratic(n, np.array([0.001, 1.0])), 0)
    half = n // 2
    assert values[: half + 1] == pytest.approx(1 - 0.025 * np.arange(half + 1) / half)
    # A parabola from there to the final 0: one and the same second difference
    bends = np.diff(values[half:], 2)
    assert bends == pytest.approx(bends[:1].repeat(len(bends)), abs=1e-9)


def test_align_your_steps_is_as_published_at_ten_steps() -> None:
    for name, key in [("ays_sd15", "StableDiffusionSigmas"), ("ays_sdxl", "StableDiffusionXLSigmas")]:
        assert levels.SCHEDULES[name](10, SIGMAS).tolist() == pytest.approx(AysSchedules[key][:-1])
    video = np.geomspace(0.002, 700, 1000)
    assert levels.SCHEDULES["ays_svd"](10, video) == pytest.approx(AysSchedules["StableDiffusionVideoSigmas"][:-1])


def test_gits_is_as_published_for_each_number_of_steps() -> None:
    assert levels.gits(4, SIGMAS).tolist() == pytest.approx([14.61464119, 2.36326075, 0.92192322, 0.36617002])
    for n in range(1, 41):
        found = levels.gits(n, SIGMAS)
        assert len(found) == n
        assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("n", [1, 4, 15, 20, 30])
def test_align_your_steps_is_log_linear_at_other_numbers_of_steps(n: int) -> None:
    """ComfyUI's: n + 1 levels between the 11 published ones, the last of which it sets to 0."""
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]
    expected = np.exp(np.interp(np.linspace(0, 10, n + 1), range(11), np.log(published)))[:n]
    assert levels.SCHEDULES["ays_sd15"](n, SIGMAS) == pytest.approx(expected)


@pytest.mark.parametrize("s", LISTS, ids=lambda s: s.name)
@pytest.mark.parametrize("e", ENTRIES, ids=lambda e: e.name)
def test_the_schedulers_sigmas_are_the_levels(e: Any, s: Any) -> None:
    """For every class that takes Karras sigmas, whatever it rounds, doubles or appends."""
    config = FLOW if "Flow" in e.cls else SD15
    variant = e.with_sigmas(s)
    status, reason = judge(variant, config)
    if status == "unsupported":
        assert variant.name in reason or "assumes" in reason or "LCM-distilled" in reason
        return
    scheduler = resolve(variant, config).build()
    trained = flow_levels.Trained(3.0, 1000)
    own = trained.sigmas if config is FLOW else levels.own_sigmas(scheduler)
    expected = (
        flow_levels.schedule_called(s.flow)(10, trained) if config is FLOW else levels.SCHEDULES[s.levels](10, own)
    )
    scheduler.set_timesteps(10)
    visited = list(dict.fromkeys(getattr(scheduler, "schedule", scheduler.sigmas).tolist()))
    assert visited[:10] == pytest.approx(expected, rel=1e-6)
    assert visited[10:] in ([], [0.0])
    start = float(scheduler.timesteps[0])
    at = np.interp(start, range(len(own)), own) if config is SD15 else start / 1000
    assert at == pytest.approx(expected[0], rel=0.01)


def test_a_sampler_function_that_chooses_its_levels_itself_takes_no_schedule() -> None:
    for name in ("dpm-fast-karras", "dpm-adaptive-simple"):
        assert "chooses its noise levels itself" in judge(REGISTRY.entry(name), SD15)[1]


@pytest.mark.parametrize(
    ("name", "same"), [("Euler a Karras", "euler-a-any-karras"), ("ddpm-kl-optimal", "euler-a-any-kl-optimal"),
                       ("ddim-simple", "euler-simple")]
)  # fmt: skip
def test_what_the_class_cannot_take_another_implementation_of_the_method_does(name: str, same: str) -> None:
    assert judge(REGISTRY.entry(name), SD15)[0] == "ok"
    assert resolve(REGISTRY.entry(name), SD15).work == resolve(REGISTRY.entry(same), SD15).work


def test_classes_with_karras_sigmas_take_every_list() -> None:
    classes = (
        "LMS", "Euler", "Heun", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE", "KDPM2Discrete",
        "KDPM2Ancestral", "UniPC",
    )  # fmt: skip
    working = [e for e in ENTRIES if judge(e.with_sigmas(REGISTRY.sigma_schedule("kl-optimal")), SD15)[0] == "ok"]
    found = {e.class_name for e in working}
    assert {c for c in classes if not any(name.startswith(c) for name in found)} == set()


@pytest.mark.parametrize("name", ["deis", "sa-solver"])
def test_on_lists_that_end_high_a_class_that_repeats_its_last_level_gives_way_to_a_function(name: str) -> None:
    entry = REGISTRY.entry(f"{name}-sgm-uniform")
    assert judge(entry, SD15)[0] == "ok"
    assert preflight(resolve(entry, SD15), 10).final_sigma == 0
    assert judge(REGISTRY.entry(f"{name}-kl-optimal"), SD15)[0] == "ok"


@pytest.mark.parametrize("name", ["euler", "lms", "dpmpp-2m", "heun"])
def test_a_copy_of_an_unused_scheduler_has_the_levels_and_no_tie_to_the_original(name: str) -> None:
    original = resolve(REGISTRY.entry(f"{name}-ays-sd15"), SD15).build()
    twin = copy.deepcopy(original)
    assert not any(value is original for value in vars(twin._convert_to_karras).values())
    twin.set_timesteps(7)
    assert original.num_inference_steps != 7
    original.set_timesteps(12)
    assert len(set(twin.sigmas.tolist())) == 8
    assert twin.sigmas[0] == original.sigmas[0] == pytest.approx(14.615)


def test_the_pipelines_own_retrieve_timesteps_gets_the_levels() -> None:
    scheduler = resolve(REGISTRY.entry("dpmpp-2m-ays-sd15"), SD15).build()
    timesteps, n = retrieve_timesteps(scheduler, 10, "cpu")
    published = AysSchedules["StableDiffusionTimesteps"]
    assert n == len(timesteps) == 10
    assert timesteps.tolist() == pytest.approx(published, abs=1)  # of sigmas that are published to three digits


def test_the_same_levels_through_diffusers_custom_sigmas_give_the_same_steps() -> None:
    ours = resolve(REGISTRY.entry("euler-kl-optimal"), SD15).build()
    ours.set_timesteps(9)
    theirs = resolve(REGISTRY.entry("euler"), SD15).build()
    theirs.set_timesteps(sigmas=[*levels.kl_optimal(9, levels.own_sigmas(theirs)), 0.0])
    assert torch.equal(ours.sigmas, theirs.sigmas)
    assert torch.allclose(ours.timesteps, theirs.timesteps, atol=1e-3)


def test_ays_takes_the_list_of_the_checkpoints_kind() -> None:
    entry = REGISTRY.entry("Euler Align Your Steps")
    assert entry.name == "euler-ays"
    for config, second in [(SD15, 6.475), (SDXL, 6.315)]:
        recipe = resolve(entry, config)
        assert preflight(recipe, 10).sigmas[1] == pytest.approx(second)
    assert resolve(entry, SDXL).options["use_karras_sigmas"].source == "ays-sdxl sigmas"
    with pytest.raises(RegistryError, match="does not say which of ays-sdxl, ays-svd, ays-sd15 is for PixArt"):
        resolve(entry, SD15 | {PIPELINE: "PixArtSigmaPipeline"})


def test_a_list_for_other_noise_levels_is_refused() -> None:
    cosine = SD15 | {"beta_schedule": "squaredcos_cap_v2"}
    for name, config in [("euler-ays-svd", SD15), ("euler-ays-sd15", cosine)]:
        with pytest.raises(RegistryError, match=r"the list starts at sigma .*, and this checkpoint's noise levels at"):
            preflight(resolve(REGISTRY.entry(name), config), 10)


def test_too_many_steps_for_a_list_are_refused_with_the_remedy() -> None:
    with pytest.raises(RegistryError, match="139 steps have equal noise levels among them; ask for fewer steps"):
        preflight(resolve(REGISTRY.entry("euler-beta-timesteps"), SD15), 139)
    with pytest.raises(RegistryError, match="ask for 10 steps or fewer"):
        preflight(resolve(REGISTRY.entry("euler-turbo"), SD15), 11)


def test_automatic_is_a1111s_choice_and_shown_by_its_real_name() -> None:
    chosen = {
        "euler": "euler-normal", "lms": "lms-normal", "heun": "heun-normal", "euler-a": "euler-a-linspace",
        "dpmpp-2m": "dpmpp-2m-karras", "dpmpp-2m-sde": "dpmpp-2m-sde-exponential", "kdpm2-a": "kdpm2-a-karras",
        "ddim": "ddim",
    }  # fmt: skip
    assert {name: REGISTRY.entry(name, "automatic").name for name in chosen} == chosen
    assert REGISTRY.entry("DPM++ 2M Automatic").sigmas.name == "karras"
    row = {"name": "mine", "base": "dpmpp-2m-sde", "sigmas": "automatic"}
    assert REGISTRY.with_rows([row], "here").entry("mine").sigmas.name == "exponential"


@pytest.mark.parametrize("name", ["euler", "lms", "heun", "euler-a", "dpm-fast", "dpm-adaptive"])
def test_automatic_goes_over_all_timesteps_whatever_spacing_the_checkpoint_has(name: str) -> None:
    leading = SD15 | {"timestep_spacing": "leading", "steps_offset": 1}
    found, plain = (preflight(resolve(REGISTRY.entry(name, s), leading), 10) for s in ("automatic", "default"))
    everywhere = [float(t) for t in np.linspace(999, 0, 10)]
    visited = [*dict.fromkeys(found.timesteps)]
    assert visited[:: len(visited) - 1] == pytest.approx([999, 0], abs=0.01)
    assert visited == pytest.approx(everywhere, abs=0.01) or name.startswith("dpm")
    assert plain.timesteps[0] < 910


def test_a_schedule_turns_off_the_one_that_the_checkpoint_has() -> None:
    karras = SD15 | {"use_karras_sigmas": True}
    recipe = resolve(REGISTRY.entry("euler-exponential"), karras)
    assert not recipe.config["use_karras_sigmas"]
    assert preflight(recipe, 10).sigmas == preflight(resolve(REGISTRY.entry("euler-exponential"), SD15), 10).sigmas


@pytest.mark.parametrize("name", [s.name for s in LISTS if s.flow and s.name != "ddim-uniform"])  # which begins lower
def test_on_flow_matching_lists_run_over_the_shifted_levels(name: str) -> None:
    trajectory = preflight(resolve(REGISTRY.entry(f"flow-euler-{name}"), FLOW), 8)
    assert trajectory.sigmas[0] == pytest.approx(1)
    assert trajectory.sigmas[-1] == 0
    assert np.array(trajectory.timesteps) == pytest.approx(1000 * np.array(trajectory.sigmas[:-1]), rel=1e-6)


def test_simple_is_what_flux_pipelines_do_by_themselves() -> None:
    static = FLOW | {PIPELINE: "FluxPipeline"}
    simple, default = (preflight(resolve(REGISTRY.entry(n), static), 4) for n in ("flow-euler-simple", "flow-euler"))
    assert simple.sigmas == pytest.approx(default.sigmas)


def test_lists_for_the_other_kind_of_model_are_refused_with_the_reason() -> None:
    for name, why in [("turbo", "SD-Turbo's timesteps are of betas"), ("ays-sd15", "optimised for a model with betas")]:
        said = judge(REGISTRY.entry("euler", name), FLOW)[1]
        assert "not defined for flow matching" in said
        assert why in said
    assert "those of a model for flow matching" in judge(REGISTRY.entry("euler-ltxv"), SD15)[1]


def test_the_plot_draws_an_entry_on_the_schedules_that_it_can_take() -> None:
    curves = sigma_curves(REGISTRY.entry("heun"), REGISTRY.sigma_schedules, SD15, 8)
    assert [*curves][:3] == ["heun", "heun-karras", "heun-exponential"]
    assert curves["heun-ays"] == pytest.approx(levels.SCHEDULES["ays_sd15"](8, SIGMAS))
    for file_format, magic in [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]:
        assert sigma_plot(curves, "heun", file_format).startswith(magic)
    with pytest.raises(RequestError, match=r"a plot is written as \.svg"):
        plot_format(Path("levels.gif"))
    with pytest.raises(RegistryError, match="keeps no sigmas"):
        sigma_curves(REGISTRY.entry("tcd"), REGISTRY.sigma_schedules, SD15, 8)


LevelsFunction = Callable[[int, Any], Any]


@given(st.sampled_from([levels.normal, levels.sgm_uniform, levels.simple, levels.kl_optimal]), st.integers(1, 60))
def test_lists_have_n_falling_levels_within_the_checkpoints_range(function: LevelsFunction, n: int) -> None:
    values = function(n, SIGMAS)
    assert len(values) == n
    assert (np.diff(values) < 0).all()
    assert values[0] == pytest.approx(HIGH)
    assert values[-1] >= LOW * (1 - 1e-9)


OWN = (14.6, 6.5, 2.7, 1.0)


@pytest.mark.parametrize("text", ["14.6, 6.5, 2.7, 1.0", "14.6 6.5 2.7 1.0 0.0", "14.6,6.5,2.7,1"])
def test_a_list_of_noise_levels_is_a_sigma_schedule(text: str) -> None:
    for name in ("euler", "dpmpp-2m", "heun", "res-multistep"):
        entry = REGISTRY.entry(name, text)
        assert entry.name == f"{name}-list-14.6-6.5-2.7-1"
        scheduler = resolve(entry, SD15).build()
        scheduler.set_timesteps(4)
        visited = np.unique(np.asarray(getattr(scheduler, "schedule", scheduler.sigmas), dtype=float))[::-1]
        assert visited == pytest.approx([*OWN, 0], rel=1e-5)
        assert judge(entry, SD15)[0] == "ok"


def test_a_list_that_cannot_be_followed_says_why() -> None:
    entry = REGISTRY.entry("euler", "14.6, 6.5, 2.7, 1.0")
    with pytest.raises(RegistryError, match="the list has 4 noise levels, so it goes with steps: 4"):
        preflight(resolve(entry, SD15), 5)
    with pytest.raises(RegistryError, match="starts at 80, above the model's largest noise level"):
        preflight(resolve(REGISTRY.entry("euler", "80 10 1"), SD15), 3)
    with pytest.raises(RegistryError, match="must descend and be above 0"):
        REGISTRY.entry("euler", "1, 2, 3")
    with pytest.raises(RegistryError, match=r"tcd.* has no place for a list"):
        resolve(REGISTRY.entry("tcd", "14.6 1"), SD15)


def test_long_lists_with_the_same_ends_have_names_of_their_own() -> None:
    names = {REGISTRY.sigma_schedule(f"14.6 9 8 7 6.5 6 5 {x} 3 2.5 2 1.5 1 0.5 0.029").name for x in (4, 4.1)}
    assert len(names) == 2
    assert all(name.startswith("list-15-from-14.6-to-0.029-") for name in names)
