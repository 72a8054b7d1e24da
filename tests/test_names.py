"""Names of other tools: each leads to an entry, or to a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from schedcmp.cli import app
from schedcmp.errors import RegistryError
from schedcmp.registry.naming import normalise
from schedcmp.registry.table import builtin_registry

# A1111 1.10.1, modules/sd_samplers_*.py and sd_schedulers.py
A1111 = (
    "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a",
    "Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS",
    "UniPC", "LCM",
)  # fmt: skip
A1111_SCHEDULES = {
    "Uniform": "normal", "Karras": "karras", "Exponential": "exponential", "Polyexponential": "polyexponential",
    "SGM Uniform": "sgm-uniform", "SGMUniform": "sgm-uniform", "KL Optimal": "kl-optimal", "Align Your Steps": "ays",
    "Simple": "simple", "Normal": "normal", "DDIM": "ddim-uniform", "Beta": "beta",
}  # fmt: skip
# ComfyUI, comfy/samplers.py
COMFYUI = """
    euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 exp_heun_2_x0 exp_heun_2_x0_sde dpm_2
    dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu
    dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
    dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis cfgpp_ud10_ab res_multistep res_multistep_cfg_pp
    res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde
    seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2
"""
COMFYUI_SCHEDULES = {
    "simple": "simple", "sgm_uniform": "sgm-uniform", "karras": "karras", "exponential": "exponential",
    "ddim_uniform": "ddim-uniform", "beta": "beta", "normal": "normal", "linear_quadratic": "linear-quadratic",
    "kl_optimal": "kl-optimal",
}  # fmt: skip
# InvokeAI, invokeai/backend/stable_diffusion/schedulers/schedulers.py; _k stands for Karras
INVOKEAI = (
    "ddim ddpm deis lms pndm heun euler euler_a kdpm_2 kdpm_2_a dpmpp_2s dpmpp_2m dpmpp_2m_sde dpmpp_3m dpmpp_sde"
)
INVOKEAI += " er_sde unipc lcm tcd"
WITH_K = "deis lms heun euler kdpm_2 kdpm_2_a dpmpp_2s dpmpp_2m dpmpp_2m_sde dpmpp_3m dpmpp_sde unipc"
OTHER_SCHEDULES = {
    "turbo": "turbo", "align_your_steps": "ays", "AYS SD1": "ays-sd15", "AYS SDXL": "ays-sdxl", "AYS SVD": "ays-svd",
}  # fmt: skip
WITHOUT_EQUAL = ("ltxv-image", "ideogram4turbo", "Karras Exponential")
NAMES = tuple(dict.fromkeys((*A1111, *COMFYUI.split(), *INVOKEAI.split(), *(f"{n}_k" for n in WITH_K.split()))))
REGISTRY = builtin_registry()


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_of_other_tools_is_an_entry_or_has_a_reason(name: str) -> None:
    try:
        found = REGISTRY.entry(name)
    except RegistryError as error:
        assert any(name in absent.names and absent.reason in str(error) for absent in REGISTRY.absent), error
    else:
        known = REGISTRY.equivalents(found).values()
        assert name in found.note or any(normalise(name) in map(normalise, names.split(", ")) for names in known)


@pytest.mark.parametrize(("place", "names", "schedules"), [
    ("a1111", A1111, A1111_SCHEDULES),
    ("comfyui", tuple(COMFYUI.split()), COMFYUI_SCHEDULES | {"beta": "beta-timesteps"}),
])  # fmt: skip
def test_every_name_may_be_followed_to_the_letter(
    place: str, names: tuple[str, ...], schedules: dict[str, str]
) -> None:
    for name in names:
        found = REGISTRY.entry(f"{place}:{name}")
        assert found.also == {place: (name,)}
        assert found.name not in REGISTRY.entries
        for theirs, ours in schedules.items():
            on = REGISTRY.entry(f"{place} {name} {theirs}")
            assert (on.base, on.sigmas.name, on.cls) == (found.base, ours, found.cls)
            assert REGISTRY.equivalents(on)[place].startswith(f"{name} with ")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("res_9s", "res-multistep or res-2s or res-3s"),
        ("sample_dpmpp_2m", "dpmpp-2m or"),
        ("k_dpmpp_2m_ka", "dpmpp-2m-karras or"),
        ("k_ipndm_karras", "ipndm-karras or"),
        ("DPM++ 2M v2", "dpmpp-2m or"),
        ("deis_7m", "deis or deis-3m or deis-2m"),
        ("eular-karras", "euler-karras"),
        ("dpm_3", "dpmpp-3m-sde or kdpm2 or"),
    ],
)
def test_a_wrong_name_is_answered_by_its_words(name: str, nearest: str) -> None:
    with pytest.raises(RegistryError, match=f"did you mean {nearest}"):
        REGISTRY.entry(name)


def _combined() -> Iterator[tuple[str, str, str, str]]:
    for samplers, schedules, glue in [
        (A1111, A1111_SCHEDULES | OTHER_SCHEDULES, " "),
        (COMFYUI.split(), COMFYUI_SCHEDULES, "_"),
        (WITH_K.split(), {"k": "karras"}, "_"),
    ]:
        for sampler in samplers:
            for theirs, ours in schedules.items():
                yield f"{sampler}{glue}{theirs}", sampler, theirs, ours


def test_every_sampler_with_every_schedule_is_that_sampler_on_that_schedule() -> None:
    checked = 0
    for name, sampler, _, ours in _combined():
        try:
            entry = REGISTRY.entry(sampler)
        except RegistryError as error:  # one without an equal has none with a schedule either
            reason = str(error).partition(": ")[2]
            with pytest.raises(RegistryError, match=f"^{re.escape(f'{name} ')}.*{re.escape(reason)}$"):
                REGISTRY.entry(name)
            continue
        found = REGISTRY.entry(name)
        assert (found.base, found.sigmas.name) == (entry.base, ours), name
        checked += 1
    assert checked > 400


@given(st.sampled_from(list(_combined())), st.sampled_from(["-", "_", " ", "  "]), st.booleans())
def test_case_and_punctuation_do_not_matter(combined: tuple[str, str, str, str], glue: str, upper: bool) -> None:
    name = combined[0]
    other = (name.upper() if upper else name.lower()).replace(" ", glue).replace("_", glue)
    assert normalise(other) == normalise(name)


@pytest.mark.parametrize("name", [n for a in REGISTRY.absent for n in a.names])
def test_a_name_without_an_equal_says_why_and_names_the_nearest(name: str) -> None:
    absent = next(a for a in REGISTRY.absent if name in a.names)
    if absent.kind == "scheduler":
        with pytest.raises(RegistryError, match=f"{absent.reason}; the nearest is {absent.nearest}"):
            REGISTRY.entry(name)
        assert REGISTRY.entry(absent.nearest)
        return
    entries = (lambda given=given: REGISTRY.entry(given) for given in (name, f"euler_{name}"))
    for asked in (lambda: REGISTRY.sigma_schedule(name), *entries):
        with pytest.raises(RegistryError) as caught:
            asked()
        assert f"{absent.reason}; the nearest is {absent.nearest}" in str(caught.value)
    assert REGISTRY.sigma_schedule(absent.nearest)


def test_schedules_of_other_tools_are_known_or_have_a_reason() -> None:
    for name, ours in (A1111_SCHEDULES | COMFYUI_SCHEDULES | OTHER_SCHEDULES | {"Automatic": "automatic"}).items():
        assert REGISTRY.sigma_schedule(name).name == ours
    for name in WITHOUT_EQUAL:
        with pytest.raises(RegistryError, match="the nearest is"):
            REGISTRY.sigma_schedule(name)


def test_no_name_is_called_absent_that_the_registry_has() -> None:
    taken = {normalise(a) for e in REGISTRY.entries.values() for names in e.also.values() for a in (e.name, *names)}
    taken |= {normalise(a) for s in REGISTRY.sigma_schedules.values() for names in s.also.values() for a in names}
    assert {n for a in REGISTRY.absent for n in map(normalise, a.names)} & taken == set()


def test_a_sampler_is_no_schedule_and_a_schedule_no_sampler() -> None:
    with pytest.raises(RegistryError, match="unknown sigma schedule 'euler'; known are"):
        REGISTRY.sigma_schedule("euler")
    with pytest.raises(RegistryError, match="unknown scheduler 'karras'; it is a sigma schedule"):
        REGISTRY.entry("karras")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("DPM++ 2M Karras", ["in a1111: DPM++ 2M with Karras", "in comfyui: dpmpp_2m with karras"]),
        ("dpmpp_2m_k", ["in invokeai: dpmpp_2m_k"]),
        ("euler", ["in a1111: Euler", "in comfyui: euler", "in invokeai: euler"]),
        ("euler-beta", ["in a1111: Euler with Beta", "note: the paper and ComfyUI apply the quantiles to timesteps"]),
        ("kl_optimal", ["kl-optimal: a sigma schedule", "in a1111: KL Optimal", "in comfyui: kl_optimal"]),
        ("automatic", ["with dpmpp-2m: karras"]),
        ("kdpm2", ["note: A1111 and ComfyUI also discard the penultimate sigma"]),
    ],
)  # fmt: skip
def test_show_lists_what_others_call_it(name: str, lines: list[str]) -> None:
    printed = CliRunner().invoke(app, ["show", name]).stdout
    for line in lines:
        assert line in printed
