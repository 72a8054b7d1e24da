from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schedcmp.errors import RegistryError
from schedcmp.prepare import scheduler_config_of
from schedcmp.registry import build, table
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.compat import compatibility, judge, listed_classes
from schedcmp.registry.entry import Entry
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import Registry, builtin_registry, normalise
from schedcmp.spacing.flow import PIPELINE
from schedcmp.truth.drive import Oracle, drive
from schedcmp.truth.measure import DATA, stratified
from schedcmp.truth.noise import noise_schedule

# Stable Diffusion 1.5's scheduler_config.json
SD15: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
REQUIRED_CLASSES = """
    DDIM DDPM PNDM LMSDiscrete EulerDiscrete EulerAncestralDiscrete HeunDiscrete DPMSolverMultistep DPMSolverSinglestep
    DPMSolverSDE DEISMultistep UniPCMultistep KDPM2Discrete KDPM2AncestralDiscrete SASolver LCM TCD DDIMParallel IPNDM
    EDMEuler
"""
REGISTRY = builtin_registry()
ENTRIES = list(REGISTRY.entries.values())


def entry(name: str) -> Entry:
    return REGISTRY.entry(name)


# One of each class is tried on every sigma schedule; sampler functions share one way to get theirs
FIRST_OF_CLASS = {"function" if "samplers" in e.cls else e.cls: e for e in reversed(ENTRIES)}


def variants(e: Entry) -> list[Entry]:
    on_others = map(e.with_sigmas, REGISTRY.sigma_schedules.values() if e in FIRST_OF_CLASS.values() else ())
    return list({variant.name: variant for variant in (e, *on_others)}.values())


@cache
def working(name: str) -> list[Entry]:
    """Those of an entry's variants that work with SD15; judged when they are asked for."""
    return [variant for variant in variants(entry(name)) if judge(variant, SD15)[0] == "ok"]


def test_every_class_that_a_comparison_needs_is_there() -> None:
    assert {f"{name}Scheduler" for name in REQUIRED_CLASSES.split()} <= {e.class_name for e in ENTRIES}


def test_names_and_aliases_are_unambiguous() -> None:
    owners: dict[str, set[str]] = {}
    for e in ENTRIES:
        for alias in {normalise(a) for names in e.also.values() for a in names}:
            owners.setdefault(alias, set()).add(e.name)
    assert {alias: names for alias, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize("e", ENTRIES, ids=lambda e: e.name)
def test_an_entry_is_found_by_every_name_it_has(e: Entry) -> None:
    for alias in [e.name, e.name.upper(), *(a for names in e.also.values() for a in names)]:
        assert entry(alias).name == e.name


@pytest.mark.parametrize(
    ("name", "base", "sigmas"),
    [
        ("DPM++ 2M Karras", "dpmpp-2m", "karras"),
        ("Euler a", "euler-a", "default"),
        ("dpmpp_2m_sde_gpu", "dpmpp-2m-sde", "default"),
        ("DPM2 a Karras", "kdpm2-a", "karras"),
        ("heun-exponential", "heun", "exponential"),
        ("Euler SGM_Uniform", "euler", "sgm-uniform"),
        ("DPMSolverMultistepScheduler", "dpmpp-2m", "default"),
        ("UniPCMultistep", "unipc", "default"),
    ],
)
def test_names_of_other_tools_resolve(name: str, base: str, sigmas: str) -> None:
    assert (entry(name).base, entry(name).sigmas.name) == (base, sigmas)


@pytest.mark.parametrize(
    ("typo", "meant"), [("eulr", "euler"), ("dpmpp-2m-karas", "dpmpp-2m-karras"), ("heum", "heun")]
)
def test_a_typo_is_answered_with_the_nearest_name(typo: str, meant: str) -> None:
    with pytest.raises(RegistryError, match=f"did you mean .*{meant}"):
        entry(typo)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_clear_refusal(name: str) -> None:
    try:
        assert entry(name).name
    except RegistryError as error:
        assert "\n" not in str(error).replace(name, "")


@given(st.sampled_from([variant for e in ENTRIES for variant in variants(e)]))
def test_normalising_twice_changes_nothing(e: Entry) -> None:
    assert normalise(normalise(e.name)) == normalise(e.name)
    assert normalise(e.name.replace("-", "_").upper()) == normalise(e.name)


@pytest.mark.parametrize("e", ENTRIES, ids=lambda e: e.name)
def test_evaluations_are_as_documented(e: Entry) -> None:
    config = SD15 if "Flow" not in e.cls else FLOW
    counts = {"N": 10, "N+1": 11, "3N-3": 27} | {f"{k}N-{k - 1}": 9 * k + 1 for k in range(2, 8)}
    nfe = preflight(build.resolve(e, config), 10).nfe
    assert nfe == counts[e.nfe] if e.nfe != "varies" else nfe > 1


@pytest.mark.parametrize("name", REGISTRY.entries)
def test_a_resolved_config_is_what_diffusers_would_build(name: str) -> None:
    """Ours holds the class's own keys only; where both have a key, both have the same value."""
    e = entry(name)
    if e not in working(name):
        pytest.skip("does not go with this checkpoint")
    recipe = build.resolve(e, SD15)
    options = {**e.sigmas.where_taken, **e.options, **e.sigmas.options}
    takes = inspect.signature(recipe.cls).parameters
    theirs = recipe.cls.from_config(SD15, **{k: v for k, v in options.items() if k in takes}).config  # type: ignore[attr-defined]
    assert set(recipe.config) == {k for k in takes if k != "kwargs"}
    assert {k: v for k, v in theirs.items() if k in recipe.config and k not in e.unless} == {
        k: v for k, v in recipe.config.items() if k not in e.unless
    }


def test_a_librarys_warnings_are_not_the_users() -> None:
    config = scheduler_config_of("builtin:tiny")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for steps in (4, 8, 16):
            preflight(build.resolve(builtin_registry().entry("dpmpp-sde"), config), steps)
    assert not caught


@pytest.mark.parametrize("name", REGISTRY.entries)
def test_every_working_variant_visits_falling_noise_levels(name: str) -> None:
    for e in working(name):
        trajectory = preflight(build.resolve(e, SD15), 10)
        function = "samplers" in e.cls  # may look ahead in a step; its sigmas are the ends of its steps
        # kdpm2-a has pairs of equal levels, of which it rounds one to a whole timestep
        visited = trajectory.sigmas if function else trajectory.timesteps
        assert all(later <= earlier + 1 for earlier, later in pairwise(visited)), e.name
        assert trajectory.timesteps[0] > 800, e.name


def test_building_leaves_the_config_alone_and_gives_fresh_schedulers() -> None:
    before = json.dumps(SD15)
    recipe = build.resolve(entry("dpmpp-2s"), SD15)
    first, second = recipe.build(), recipe.build()
    first.set_timesteps(7)
    assert json.dumps(SD15) == before
    assert first is not second
    assert second.num_inference_steps is None


def test_pitfall_01_options_do_not_chain_from_one_scheduler_to_the_next() -> None:
    build.resolve(entry("dpmpp-2m-karras"), SD15).build()
    assert build.resolve(entry("euler"), SD15).config["use_karras_sigmas"] is False
    assert "skip_prk_steps" not in build.resolve(entry("euler"), SD15).config  # not a hidden key either


def test_pitfall_02_an_option_that_the_class_does_not_take_is_refused() -> None:
    with pytest.raises(RegistryError, match="PNDMScheduler cannot use karras sigmas"):
        build.resolve(entry("pndm-karras"), SD15)
    own = REGISTRY.with_rows([{"name": "mine", "base": "ddim", "options": {"use_karras": True}}], "sweep")
    with pytest.raises(RegistryError, match="DDIMScheduler takes no option 'use_karras'"):
        build.resolve(own.entry("mine"), SD15)
    close = REGISTRY.with_rows([{"name": "mine", "base": "dpmpp-2m", "options": {"solver_ordr": 3}}], "sweep")
    with pytest.raises(RegistryError, match="did you mean 'solver_order'"):
        build.resolve(close.entry("mine"), SD15)


def test_pitfall_03_timestep_spacing_says_where_it_comes_from() -> None:
    plain = build.resolve(entry("euler"), SD15).options["timestep_spacing"]
    leading = build.resolve(entry("euler"), SD15 | {"timestep_spacing": "leading"}).options["timestep_spacing"]
    trailing = build.resolve(entry("euler-trailing"), SD15).options["timestep_spacing"]
    assert (plain.value, plain.source) == ("linspace", "class default")
    assert (leading.value, leading.source) == ("leading", "checkpoint")
    assert (trailing.value, trailing.source) == ("trailing", "trailing sigmas")


@pytest.mark.parametrize("name", ["lms-karras", "euler-karras", "heun-karras", "kdpm2-karras", "dpmpp-2m-karras"])
def test_pitfall_04_karras_sigmas_span_the_whole_range_whatever_the_checkpoints_spacing(name: str) -> None:
    trajectory = preflight(build.resolve(entry(name), SD15 | {"timestep_spacing": "leading"}), 10)
    assert trajectory.sigmas[0] == pytest.approx(14.6146, abs=1e-3)


def test_pitfall_13_the_brownian_tree_gets_the_cells_seed() -> None:
    scheduler = build.resolve(entry("dpmpp-sde"), SD15).build(seed=77)
    assert scheduler.config.noise_sampler_seed == 77


@pytest.mark.parametrize("name", ["ddim", "ddim-parallel", "ddpm"])
def test_pitfall_17_clip_sample_is_off_where_the_checkpoint_does_not_say(name: str) -> None:
    silent = {k: v for k, v in SD15.items() if k != "clip_sample"}
    assert build.resolve(entry(name), silent).config["clip_sample"] is False
    assert build.resolve(entry(name), silent | {"clip_sample": True}).config["clip_sample"] is True


def test_pitfall_24_the_registry_knows_more_than_compatibles() -> None:
    found = {c.entry.name: c for c in compatibility(ENTRIES, SD15)}
    assert (found["edm-euler"].status, found["edm-euler"].listed) == ("wrong", True)
    assert (found["sa-solver"].status, found["sa-solver"].listed) == ("ok", False)
    assert (found["ipndm"].status, found["ipndm"].class_name) == ("ok", "ipndm")
    assert (found["lcm"].status, found["tcd"].status) == ("wrong", "wrong")
    assert all(c.reason for c in found.values() if c.status != "ok")
    theirs = {c.__name__ for c in diffusers.PNDMScheduler().compatibles}
    assert listed_classes(SD15) == theirs


def test_pitfall_25_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(build.classes, "find_spec", lambda name: None if name in ("torchsde", "scipy") else real(name))
    assert judge(entry("dpmpp-sde"), SD15) == (
        "needs",
        'dpmpp-sde needs the package torchsde, which is not installed: pip install "schedcmp[sde]"',
    )
    assert "pip install scipy" in judge(entry("lms"), SD15)[1]
    assert judge(entry("lms"), FLOW)[0] == judge(entry("dpmpp-sde"), FLOW)[0] == "ok"  # another implementation
    assert judge(entry("euler-beta"), SD15)[0] == "needs"


def test_a_flow_matching_checkpoint_gets_what_implements_a_method_there() -> None:
    assert judge(entry("flow-euler"), FLOW) == judge(entry("euler"), FLOW) == ("ok", "the checkpoint's own")
    assert judge(entry("flow-heun"), FLOW)[0] == "ok"
    assert judge(entry("pndm"), FLOW)[0] == "wrong"
    assert judge(entry("flow-euler"), SD15)[0] == "wrong"


def test_a_distilled_checkpoint_gets_the_scheduler_it_is_made_for() -> None:
    lcm = SD15 | {"_class_name": "LCMScheduler", "original_inference_steps": 50}
    assert judge(entry("lcm"), lcm)[0] == "ok"
    assert judge(entry("tcd"), lcm)[0] == "wrong"


@pytest.mark.parametrize("steps", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", ["ddim-trailing", "euler", "dpmpp-2m-karras", "heun"])
def test_preflight_takes_any_sound_number_of_steps(name: str, steps: int) -> None:
    assert preflight(build.resolve(entry(name), SD15), steps).nfe >= steps


def test_one_step_that_starts_at_the_end_is_told() -> None:
    leading, trailing = (preflight(build.resolve(entry(f"euler-{s}"), SD15), 1) for s in ("leading", "trailing"))
    assert "starts at timestep 1 (leading spacing)" in " ".join(leading.remarks)
    assert trailing.remarks == ()


@pytest.mark.parametrize(("steps", "late"), [(4, False), (50, False), (300, False), (600, True)])
def test_leading_spacing_that_starts_late_is_told(steps: int, late: bool) -> None:
    leading, trailing = (preflight(build.resolve(entry(f"euler-{s}"), SD15), steps) for s in ("leading", "trailing"))
    assert any("not pure noise" in remark for remark in leading.remarks) == late
    assert not any("pure noise" in remark for remark in trailing.remarks)


def test_preflight_refuses_more_steps_than_the_noise_schedule_has() -> None:
    with pytest.raises(RegistryError, match="1001 steps are more than the noise schedule's 1000"):
        preflight(build.resolve(entry("ddim"), SD15), 1001)


def test_rows_that_make_no_sense_are_refused() -> None:
    for row, message in [
        ({"class": "DDIMScheduler"}, "needs a name"),
        ({"name": "ddim", "base": "euler"}, "already an entry named 'ddim'"),
        ({"name": "x"}, "needs either"),
        ({"name": "x", "base": "euler", "class": "DDIMScheduler"}, "needs either"),
        ({"name": "x", "base": "euler", "colour": "red"}, "unknown keys: colour"),
        ({"name": "x", "base": "eulr"}, "did you mean"),
        ({"name": "x", "base": "euler", "sigmas": "karas"}, "unknown sigma schedule 'karas'; did you mean karras"),
    ]:
        with pytest.raises(RegistryError, match=message):
            REGISTRY.with_rows([row], "here")


def test_an_own_entry_changes_its_base() -> None:
    row = {"name": "mine", "base": "dpmpp-2m-karras", "options": {"solver_order": 3}}
    mine = REGISTRY.with_rows([row], "sweep").entry("mine")
    config = build.resolve(mine, SD15).config
    assert (config["solver_order"], config["use_karras_sigmas"], config["algorithm_type"]) == (3, True, "dpmsolver++")


PLUGIN = """
from diffusers import EulerDiscreteScheduler
class Calm(EulerDiscreteScheduler):
    pass
rows = [{"name": "calm-karras-5", "class": "plugin_schedulers.Calm", "sigmas": "karras"}]
nothing = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "plugin_schedulers.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("plugin_schedulers", None)


def with_entry_points(monkeypatch: pytest.MonkeyPatch, **values: str) -> Registry:
    points = [EntryPoint(name, value, table.ENTRY_POINTS) for name, value in values.items()]
    monkeypatch.setattr(table, "entry_points", lambda group: points if group == table.ENTRY_POINTS else [])
    return builtin_registry.__wrapped__()


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_entry_points(monkeypatch, calm="plugin_schedulers:Calm", more="plugin_schedulers:rows")
    assert build.resolve(registry.entry("calm"), SD15).cls.__name__ == "Calm"
    assert build.resolve(registry.entry("calm-karras-5"), SD15).config["use_karras_sigmas"] is True
    assert "entry point" in registry.entry("calm").origin


def test_the_examples_of_a_sampler_are_the_midpoint_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs/extending.md").read_text(encoding="utf-8").partition("## A scheduler")[2].partition("\n## ")[0]
    paged = "\n".join(["from itertools import pairwise", *re.findall(r"```python\n(.*?)```", page, re.DOTALL)])
    (tmp_path / "paged.py").write_text(paged.replace("midway", "paged"), encoding="utf-8")
    for folder in (root / "examples", tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    registry = with_entry_points(monkeypatch, midway="midway:SCHEDULERS", paged="paged:SCHEDULERS")
    oracle, noise = Oracle(DATA, noise_schedule(SD15)), stratified(64)
    found = {
        name: drive(build.resolve(registry.entry(name), SD15), oracle, noise, 6).latents
        for name in ("midpoint", "midway", "paged", "midway-late", "paged-late")
    }
    assert torch.allclose(found["midway"], found["midpoint"], atol=1e-6)
    assert not torch.allclose(found["midway-late"], found["midway"], atol=1e-3)
    assert torch.equal(found["midway"], found["paged"])
    assert torch.equal(found["midway-late"], found["paged-late"])


@pytest.mark.usefixtures("plugin")
def test_a_broken_plugin_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match=r"entry point 'gone'.*does not load"):
        with_entry_points(monkeypatch, gone="plugin_schedulers:missing")


@pytest.mark.usefixtures("plugin")
def test_a_class_is_reached_by_its_dotted_path() -> None:
    recipe = build.resolve(entry("plugin_schedulers.Calm"), SD15)
    assert preflight(recipe, 5).nfe == 5
    with pytest.raises(RegistryError, match="there is no scheduler class 'Gone'"):
        build.resolve(entry("plugin_schedulers.Gone"), SD15)
    with pytest.raises(RegistryError, match="is not a scheduler class"):
        build.resolve(entry("collections.OrderedDict"), SD15)


def test_the_pipelines_corrections_of_old_configs_are_made() -> None:
    old = {k: v for k, v in SD15.items() if k not in ("steps_offset", "clip_sample")}
    ddim = old | {"_class_name": "DDIMScheduler"}
    assert build.mended(old, "StableDiffusionPipeline")["steps_offset"] == 1
    assert build.mended(ddim, "StableDiffusionImg2ImgPipeline")["clip_sample"] is False
    assert build.mended(ddim, "StableDiffusionXLPipeline") == ddim | {PIPELINE: "StableDiffusionXLPipeline"}
    assert build.mended(SD15, "StableDiffusionPipeline") == SD15 | {PIPELINE: "StableDiffusionPipeline"}


SAVED_WITH_SDE_KARRAS = SD15 | {
    "_class_name": "DPMSolverMultistepScheduler",
    "use_karras_sigmas": True,
    "algorithm_type": "sde-dpmsolver++",
    "final_sigmas_type": "sigma_min",
    "solver_order": 2,
}


@pytest.mark.parametrize("name", ["dpmpp-2m", "euler", "lms", "heun", "unipc", "deis", "res-multistep", "sa-solver"])
def test_a_name_is_plain_whatever_the_checkpoints_scheduler_was_last_set_to(name: str) -> None:
    plain = SD15 | {"_class_name": "DPMSolverMultistepScheduler"}
    saved, new = (build.resolve(entry(name), config) for config in (SAVED_WITH_SDE_KARRAS, plain))
    assert saved.config == new.config
    assert preflight(saved, 8) == preflight(new, 8)


def test_how_to_run_the_scheduler_as_saved_is_told() -> None:
    told = build.told_left_out(SAVED_WITH_SDE_KARRAS)
    own = yaml.safe_load(told[told.index("{") :])
    recipe = build.resolve(REGISTRY.with_rows([own], "sweep").entry("own"), SAVED_WITH_SDE_KARRAS)
    assert recipe.config["use_karras_sigmas"]
    assert recipe.config["algorithm_type"] == "sde-dpmsolver++"
    assert "solver_order" not in told  # the class's default
    assert not build.told_left_out(SD15)


@pytest.mark.parametrize("name", REGISTRY.entries)
def test_a_scheduler_is_as_its_constructor_makes_it(name: str) -> None:
    few = SD15 | {"num_train_timesteps": 100}  # at each of which KDPM2's constructor looks for its level
    for e in working(name):
        recipe = build.resolve(e, few)
        ours, plain = recipe.build(3), recipe.cls(**{**recipe.config, **({e.seed: 3} if e.seed else {})})
        assert type(ours) is recipe.cls
        assert ours.config == plain.config, e.name
        if not e.sigmas.levels:  # which only we know
            states = []
            for scheduler in (ours, plain):
                scheduler.set_timesteps(6)
                states.append({k: repr(v) for k, v in vars(scheduler).items() if " at 0x" not in repr(v)})
            assert states[0] == states[1], e.name


def test_a_scheduler_class_that_no_row_has_goes_by_its_own_name() -> None:
    entry = builtin_registry().entry("CogVideoXDDIMScheduler")
    assert build.resolve(entry, {"_class_name": "CogVideoXDDIMScheduler"}).cls.__name__ == "CogVideoXDDIMScheduler"
    with pytest.raises(RegistryError, match="unknown scheduler"):
        builtin_registry().entry("NoSuchScheduler")


def test_everything_has_the_checkpoint_s_own_scheduler() -> None:
    known = builtin_registry().entries.values()
    assert [e.name for e in Appraisal({"_class_name": "CogVideoXDDIMScheduler"}).unlisted(known)] == [
        "CogVideoXDDIMScheduler"
    ]
    assert not Appraisal({"_class_name": "PNDMScheduler"}).unlisted(known)
