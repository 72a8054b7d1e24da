"""One name, one method: on betas and on flow matching, on every sigma schedule, whatever implements it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import diffusers
import families
import numpy as np
import pytest
import torch
from asked import load
from PIL import Image
from test_sweep import GOOD, write

from schedcmp.errors import RegistryError
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep.plan import make_plan
from schedcmp.truth.drive import Oracle, drive
from schedcmp.truth.measure import DATA, measure, stratified
from schedcmp.truth.noise import noise_schedule

REGISTRY = builtin_registry()
FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
DYNAMIC = FLOW | {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd3": mended(FLOW, "StableDiffusion3Pipeline"),
    "shift 1": mended(FLOW | {"shift": 1.0}, "StableDiffusion3Pipeline"),
    "flux": mended(DYNAMIC, "FluxPipeline"),
    "schnell": mended(FLOW | {"shift": 1.0}, "FluxPipeline"),
    "qwen": mended(DYNAMIC | {"shift_terminal": 0.02, "max_shift": 0.9}, "QwenImagePipeline"),
    "z-image": mended(FLOW, "ZImagePipeline"),
    "wan": mended(
        {
            "_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "flow_shift": 5.0,
            "prediction_type": "flow_prediction",
        },
        "WanPipeline",
    ),
}  # fmt: skip
METHODS = (
    "euler", "heun", "euler-a", "lms", "ddim", "ddpm", "deis", "unipc", "dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m-sde",
    "dpmpp-sde", "dpmpp-2s", "dpmpp-2s-a", "er-sde", "seeds-2", "seeds-3", "res-multistep", "res-multistep-a",
    "gradient-estimation", "ipndm", "heunpp2", "exp-heun", "exp-heun-sde", "sa-solver", "restart", "kdpm2", "kdpm2-a",
    "dpm-fast", "dpm-adaptive", "euler-cfgpp", "res-2s", "res-3m", "unipc-3", "sa-solver-34", "deis-3m", "rk4",
)  # fmt: skip
SCHEDULES = ("default", "simple", "normal", "beta", "beta-timesteps", "beta57", "karras", "exponential", "sgm-uniform")
OWN_LEVELS = {"dpm-fast", "dpm-adaptive"}  # choose their levels themselves


def is_beyond_the_loop(name: str, reason: str) -> bool:
    """Pipelines without both answers in one batch cannot do CFG++, and some count their steps beforehand."""
    wants = "it needs the denoiser's answers with and without" if "cfgpp" in name else "it chooses its steps as it goes"
    return "Stable" not in reason and f"does not go with this checkpoint: {wants}" in reason


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_method_runs_on_every_kind_of_flow_matching(config: dict[str, Any]) -> None:
    for name in METHODS:
        status, reason = judge(REGISTRY.entry(name), config)
        assert status == "ok" or is_beyond_the_loop(name, reason), (name, reason)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_every_method_takes_every_sigma_schedule(kind: str, schedule: str) -> None:
    for name in METHODS:
        status, reason = judge(REGISTRY.entry(name, schedule), CONFIGS[kind])
        if name in OWN_LEVELS and schedule != "default":
            assert "chooses its noise levels itself" in reason
        else:
            assert status == "ok" or is_beyond_the_loop(name, reason), (name, reason)


def shifted(t: Any, a: float) -> Any:
    return a * t / (1 + (a - 1) * t)


def comfyui(name: str, n: int, a: float, count: int) -> Any:
    """ComfyUI's schedulers on flow matching, of its documentation: n levels over a table of `count`."""
    table = shifted(np.arange(1, count + 1) / count, a)
    low, ramp = table[0], np.linspace(0, 1, n)
    beta = {"beta-timesteps": (0.6, 0.6), "beta57": (0.5, 0.7)}
    if name in beta:
        from scipy import stats

        quantiles = stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), *beta[name])
        return table[np.rint(quantiles * (count - 1)).astype(int)]
    return {
        "simple": lambda: np.array([table[-(1 + int(x * count / n))] for x in range(n)]),
        "normal": lambda: shifted(1 + ramp * (low - 1), a),
        "sgm-uniform": lambda: shifted(np.linspace(1, low, n + 1)[:-1], a),
        "karras": lambda: (1 + ramp * (low ** (1 / 7) - 1)) ** 7,
        "exponential": lambda: np.exp(ramp * math.log(low)),
        "kl-optimal": lambda: np.tan(ramp * math.atan(low) + (1 - ramp) * math.atan(1)),
        "ddim-uniform": lambda: table[1 :: count // n][:n][::-1],
    }[name]()


COMFYUI = (
    "simple", "normal", "sgm-uniform", "karras", "exponential", "beta-timesteps", "beta57", "kl-optimal",
    "ddim-uniform",
)  # fmt: skip


@pytest.mark.parametrize("name", COMFYUI)
@pytest.mark.parametrize(("kind", "a", "count"), [("sd3", 3.0, 1000), ("flux", math.exp(1.15), 10_000)])
def test_levels_on_flow_matching_are_comfyuis(kind: str, a: float, count: int, name: str) -> None:
    for n in (4, 10, 20):
        found = preflight(resolve(REGISTRY.entry("euler", name), CONFIGS[kind]), n).sigmas
        assert found == pytest.approx([*comfyui(name, n, a, count), 0], rel=1e-5)


def test_levels_of_other_tools() -> None:
    def levels(name: str, n: int) -> Any:
        return preflight(resolve(REGISTRY.entry("euler", name), CONFIGS["sd3"]), n).sigmas

    assert levels("bong_tangent", 5) == pytest.approx([1, 0.932, 0.8043, 0.5, 0.1323, 0], abs=1e-4)
    ten = [1.0, 0.978, 0.9479, 0.9043, 0.8364, 0.7198, 0.5, 0.2574, 0.1175, 0.0433, 0.0]
    assert levels("bong_tangent", 10) == pytest.approx(ten, abs=1e-4)
    assert levels("ltxv", 8)[0] == 1
    assert levels("ltxv", 8)[7] == pytest.approx(0.1)
    u = torch.linspace(1, 0, 9, dtype=torch.float64)
    logs = math.log(2) + 1.75 * torch.special.ndtri(u)
    assert levels("ideogram4", 8)[:-1] == pytest.approx(torch.sigmoid(logs.clamp(-7.5, 9))[:-1].tolist())
    published = [0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808]
    assert levels("oss-flux", 10) == pytest.approx([*published, 0])
    late = preflight(resolve(REGISTRY.entry("euler-ddim-uniform"), CONFIGS["sd3"]), 10)
    assert late.remarks == ("starts at sigma 0.97, which takes noise for a partly finished image",)
    assert levels("1.0 0.7 0.2", 3) == pytest.approx([1, 0.7, 0.2, 0])


def test_the_levels_of_diffusers_karras_classes_stay_as_they_were() -> None:
    """`default` is the checkpoint's own, bit for bit."""
    for kind in ("sd3", "schnell"):
        ours = resolve(REGISTRY.entry("euler"), CONFIGS[kind]).build()
        theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=CONFIGS[kind]["shift"])
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(7)
        assert type(ours) is type(theirs)
        assert torch.equal(ours.sigmas, theirs.sigmas)
        assert torch.equal(ours.timesteps, theirs.timesteps)


def ends(name: str, kind: str, schedule: str, n: int = 8, options: Any = None, seed: int = 0) -> torch.Tensor:
    registry, config = REGISTRY, CONFIGS[kind]
    if options is not None:
        registry = registry.with_rows([{"name": "mine", **options}], "here")
        name = "mine"
    recipe = resolve(registry.entry(name, schedule), config)
    return drive(recipe, Oracle(DATA, noise_schedule(config)), stratified(256), n, seed).latents


TWO_STEPS = "schedcmp.samplers.sde.dpmpp_2m_sde"
SAME: list[tuple[Any, Any, float]] = [  # and by how much they differ, of the data's standard deviation
    ("euler", "flow-euler", 0),
    ("euler", "ddim", 0),
    ("heun", "flow-heun", 0),
    ("lms", "lms-sigma", 0),
    ("euler", {"base": "euler-a", "options": {"eta": 0.0}}, 1e-6),
    ("euler", {"base": "gradient-estimation", "options": {"ge_gamma": 1.0}}, 1e-6),
    ("euler", {"base": "ipndm", "options": {"max_order": 1}}, 1e-6),
    ("heun", {"class": "schedcmp.samplers.runge_kutta.runge_kutta", "options": {"tableau": "heun"}}, 1e-6),
    ("kdpm2", {"base": "kdpm2-a", "options": {"eta": 0.0}}, 1e-6),
    ("dpmpp-2m", {"class": TWO_STEPS, "options": {"eta": 0.0}}, 1e-5),
    ("unipc", {"base": "unipc-3", "options": {"order": 2}}, 1e-5),
    ("exp-heun", {"base": "seeds-2", "options": {"eta": 0.0, "r": 1.0, "solver_type": "phi_2"}}, 0),
    # the one begins at 1, the other at 1 - 1e-4 before the shift
    ({"base": "dpmpp-2s-a", "options": {"eta": 0.0}}, {"base": "seeds-2", "options": {"eta": 0.0}}, 0.02),
]


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@pytest.mark.parametrize(("one", "other", "most"), SAME)
def test_implementations_of_one_method_are_one_method(kind: str, one: Any, other: Any, most: float) -> None:
    def made(what: Any) -> torch.Tensor:
        return ends(what, kind, "simple") if isinstance(what, str) else ends("", kind, "simple", options=what)

    assert float((made(one) - made(other)).abs().max()) <= most


MEASURED = [
    *(("sd3", schedule) for schedule in ("default", "simple", "beta-timesteps", "karras", "sgm-uniform")),
    *(("flux", schedule) for schedule in ("default", "beta-timesteps", "karras", "sgm-uniform")),
    ("shift 1", "default"), ("shift 1", "karras"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "schedule"), MEASURED)
def test_every_method_ends_with_the_data(kind: str, schedule: str) -> None:
    """Deterministic ones with the exact solution, those that draw noise with the right distribution."""
    config = CONFIGS[kind]
    for name in METHODS:
        entry = REGISTRY.entry(name, schedule)
        if name in OWN_LEVELS and schedule != "default":
            continue
        found = measure(resolve(entry, config), noise_schedule(config), (10, 32), (10, 32), 4096)
        few, many = (point.error for point in found.points)
        assert many < max(0.07, 0.6 * few), (entry.name, few, many)


@pytest.fixture(scope="module", params=["sd3", "flux"])
def img2img(request: pytest.FixtureRequest) -> Any:
    cls = {"sd3": diffusers.StableDiffusion3Img2ImgPipeline, "flux": diffusers.FluxImg2ImgPipeline}[request.param]
    pipeline = cls(**families.ready(getattr(families, request.param)).components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_image_to_image_begins_where_it_should(img2img: Any) -> None:
    """A function in either coordinates, and a class whose levels are handed to it, as diffusers' own class."""
    kind = "flux" if isinstance(img2img, diffusers.FluxImg2ImgPipeline) else "sd3"

    def image(what: Any, schedule: str = "simple") -> Any:
        registry = REGISTRY.with_rows([{"name": "mine", **what}], "here")
        img2img.scheduler = resolve(registry.entry("mine", schedule), CONFIGS[kind]).build()
        start = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
        return img2img(
            "a b", image=start, strength=0.6, num_inference_steps=5, max_sequence_length=8, output_type="np",
            width=16, height=16, generator=torch.Generator().manual_seed(1),
        ).images  # fmt: skip

    one_step = {"base": "dpmpp-2m", "options": {"solver_order": 1}}
    own = image({"base": "euler"})
    for same in ({"base": "euler-a", "options": {"eta": 0.0}}, one_step, {"class": TWO_STEPS, "options": {"eta": 0.0}}):
        close = 0.05 if same.get("class") else 1e-4
        assert np.abs(image(same) - own).max() < close, same
    assert np.isfinite(image({"base": "heun"})).all()
    assert np.isfinite(image({"base": "seeds-2"})).all()


class Halving(diffusers.FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """From elsewhere, as far as the registry knows."""


class Rootless:
    """A scheduler for flow matching without a place for its levels."""

    order = 1

    def __init__(self, shift: float = 1.0) -> None:
        self.shift, self.config = shift, {"shift": shift}  # which the pipeline asks

    def set_timesteps(self, steps: int, device: Any = None) -> None:
        self.timesteps = torch.linspace(1000, 1000 / steps, steps)

    def step(self, output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        return (sample - output / len(self.timesteps),)


def test_a_class_from_elsewhere_takes_levels_where_it_has_a_place_for_them() -> None:
    rows = [{"name": name, "class": f"test_methods.{name}"} for name in ("Halving", "Rootless")]
    registry = REGISTRY.with_rows(rows, "here")
    for kind in ("sd3", "flux"):
        own, theirs = (
            preflight(resolve(registry.entry(n, "karras"), CONFIGS[kind]), 5).sigmas for n in ("euler", "Halving")
        )
        assert own == theirs
    assert judge(registry.entry("Rootless"), CONFIGS["sd3"])[0] == "ok"
    assert "has no place for a list of noise levels" in judge(registry.entry("Rootless-karras"), CONFIGS["sd3"])[1]


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_everything_holds_nothing_twice(kind: str, tmp_path: Path) -> None:
    sweep, source = load(write(tmp_path, GOOD | {"guidance_scale": 2, "schedulers": "*"}))
    appraisal = Appraisal(CONFIGS[kind])
    entries = make_plan(sweep, source, REGISTRY, appraisal).entries
    assert len({appraisal.work(entry) for entry in entries.values()}) == len(entries)
    assert {"euler", "heun", "euler-a", "er-sde"} <= entries.keys()
    assert not {"flow-euler", "flow-heun", "euler-a-any", "ddim"} & entries.keys()


def test_a_shift_is_that_of_the_levels_whatever_implements_the_method() -> None:
    t = 1 - np.arange(4) / 4
    for kind in ("sd3", "flux", "schnell", "wan"):
        for name in ("euler", "heun", "dpmpp-2m", "res-multistep", "seeds-2", "unipc", "deis"):
            entry = REGISTRY.entry(name, "simple").with_shift("5")
            found = [*dict.fromkeys(preflight(resolve(entry, CONFIGS[kind]), 4).sigmas)]
            assert found[1:] == pytest.approx([*shifted(t, 5.0)[1:], 0], rel=1e-5), (kind, name)
    own = {name: preflight(resolve(REGISTRY.entry(name).with_shift("0.5/2"), CONFIGS["flux"]), 4).sigmas
           for name in ("euler", "deis", "er-sde")}  # fmt: skip
    for found in own.values():
        assert found[1:] == pytest.approx([*shifted(t, math.exp(2))[1:], 0], rel=1e-5)
    with pytest.raises(RegistryError, match="this checkpoint's shift is the same for all sizes"):
        resolve(REGISTRY.entry("euler").with_shift("0.5/2"), CONFIGS["sd3"])
