from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps
from latents import Latents
from PIL import Image
from quick import few_of_each

from schedcmp.checkpoint.inspection.inspect import inspect as inspect_checkpoint
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.engine.unconditional import Watched
from schedcmp.errors import RegistryError
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.samplers import (
    adams,
    ancestral,
    dpm,
    er_sde,
    multistep,
    res,
    restart,
    runge_kutta,
    sde,
    seeds,
)
from schedcmp.samplers.adapter import scheduler_class

REGISTRY = builtin_registry()
FUNCTIONS = [e for e in REGISTRY.entries.values() if e.cls.startswith("schedcmp.samplers.")]
SD15 = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


class Gaussian:
    """Data with this mean and standard deviation: the denoiser and the ODE's solution are known in closed form."""

    mean, std = 0.7, 0.6

    def __init__(self) -> None:
        self.evaluations = 0

    def __call__(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
        self.evaluations += 1
        level = float(torch.as_tensor(sigma).reshape(-1)[0])
        self.unconditional = (level**2 * self.mean + self.std**2 * x) / (self.std**2 + level**2)
        return self.unconditional

    def solution(self, x: torch.Tensor, start: float, end: float) -> torch.Tensor:
        """Every ODE path keeps its place in the distribution."""
        return self.mean + (x - self.mean) * math.hypot(self.std, end) / math.hypot(self.std, start)


HIGH, LOW = 14.6, 0.03


def karras(n: int, low: float = LOW) -> torch.Tensor:
    return torch.linspace(HIGH ** (1 / 7), low ** (1 / 7), n + 1, dtype=torch.float64) ** 7


def to_zero(n: int) -> torch.Tensor:
    return torch.cat([karras(n - 1), torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize(
    ("function", "options", "order"),
    [
        (ancestral.euler_ancestral, {"eta": 0.0}, 1),
        (ancestral.euler_cfg_pp, {}, 1),
        (ancestral.dpmpp_2s_ancestral, {"eta": 0.0}, 2),
        (ancestral.dpmpp_2s_ancestral_cfg_pp, {"eta": 0.0}, 2),
        (sde.dpmpp_3m_sde, {"eta": 0.0}, 2),
        (sde.dpmpp_3m_sde, {"eta": 0.0, "corrected": True}, 3),
        (restart.restart, {"restarts": 0}, 2),
        (res.res_multistep, {}, 2),
        (res.res_multistep_cfg_pp, {}, 2),
        (res.res_multistep_cfg_pp, {"comfyui": True}, 2),
        (res.dpmpp_2m_cfg_pp, {}, 2),
        (res.dpmpp_2m, {}, 2),
        (ancestral.dpm_2_ancestral, {"eta": 0.0}, 2),
        (sde.dpmpp_sde, {"eta": 0.0}, 2),
        (sde.dpmpp_2m_sde, {"eta": 0.0}, 2),
        (sde.dpmpp_2m_sde, {"eta": 0.0, "solver_type": "heun"}, 2),
        (multistep.gradient_estimation, {}, 1),
        (multistep.ipndm, {}, 2),
        (multistep.ipndm_v, {"max_order": 3}, 3),
        (multistep.heunpp2, {}, 1),
        (seeds.seeds_2, {"eta": 0.0}, 2),
        (seeds.seeds_3, {"eta": 0.0}, 3),
        (seeds.exp_heun_2_x0, {}, 2),
        (er_sde.er_sde, {"eta": 0.0, "max_stage": 1}, 1),
        (er_sde.er_sde, {"eta": 0.0}, 2),
    ],
)
def test_a_deterministic_solver_has_the_order_of_its_theory(
    function: Callable[..., torch.Tensor], options: dict[str, Any], order: int
) -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * HIGH
    exact = Gaussian().solution(x, HIGH, LOW)
    errors = [float((function(Gaussian(), x, karras(n), **options) - exact).std()) for n in (40, 80, 160)]
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert measured == pytest.approx([order, order], abs=0.25)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_dpm_solver_step_has_its_order(order: int) -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * HIGH
    errors = []
    for n in (28, 56, 112):
        end = x
        for sigma, to in pairwise(np.linspace(-math.log(HIGH), -math.log(LOW), n + 1)):
            end = dpm.Stages(Gaussian(), end, sigma, to).solve(order)
        errors.append(float((end - Gaussian().solution(x, HIGH, LOW)).std()))
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([order, order], abs=0.25)


@pytest.mark.parametrize(("n", "restarts"), [(9, 1), (15, 2), (20, None), (40, None), (100, 5)])
def test_restarts_go_up_as_often_as_asked_within_the_steps_of_heun(n: int, restarts: int | None) -> None:
    noises: list[tuple[float, float]] = []
    model, x = Gaussian(), torch.ones(2, 1, dtype=torch.float64)

    def noise(sigma: float, to: float) -> torch.Tensor:
        noises.append((sigma, to))
        return torch.zeros_like(x)

    restart.restart(model, x, to_zero(n), noise_sampler=noise, restarts=restarts)
    assert len(noises) == (restarts or n // 20)
    assert model.evaluations == 2 * n - 1
    assert all(low < high for low, high in noises)
    with pytest.raises(ValueError, match="4 restarts need 6 steps"):
        restart.restart(model, x, to_zero(5), restarts=4)
    with pytest.raises(ValueError, match=r"2 noise levels are too few for a restart from 0.1 to 2.0"):
        restart.restart(model, x, to_zero(4), restarts=1)


def test_dpm_fast_is_limited_by_its_single_step_of_first_order() -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * HIGH
    model = Gaussian()
    exact = model(model.solution(x, HIGH, LOW), LOW)
    errors = [float((dpm.dpm_fast(Gaussian(), x, LOW, HIGH, n) - exact).std()) for n in (83, 164)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)


def test_dpm_adaptive_pays_for_a_tighter_tolerance_with_evaluations_and_gets_accuracy() -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * HIGH
    errors, costs = [], []
    for tolerance in (1e-2, 1e-3, 1e-4):
        model = Gaussian()
        end = dpm.dpm_adaptive(model, x, LOW, HIGH, rtol=tolerance, atol=tolerance / 10)
        costs.append(model.evaluations)
        errors.append(float((end - model(model.solution(x, HIGH, LOW), LOW)).std()))
    assert costs == sorted(costs)
    assert errors[0] > errors[1] > 10 * errors[2]
    assert errors[2] < 1e-3


def test_dpm_adaptive_of_order_2_has_its_stage_in_the_middle_of_the_step() -> None:
    x, h, levels = torch.ones(1, 1, dtype=torch.float64), 0.5, []

    class Watched(Gaussian):
        def __call__(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
            levels.append(float(sigma[0]))
            return super().__call__(x, sigma)

    dpm.dpm_adaptive(Watched(), x, math.exp(-h), 1.0, order=2, h_init=h, atol=10.0)
    assert levels == pytest.approx([1.0, math.exp(-h / 2), math.exp(-h)])


def test_dpm_adaptive_ends_where_the_model_gives_no_numbers() -> None:
    x = torch.ones(2, 3)
    assert dpm.dpm_adaptive(lambda x, sigma: x * math.nan, x, LOW, HIGH).isnan().all()


def test_dpm_adaptive_rejects_a_step_that_is_too_long() -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * HIGH
    levels: list[float] = []

    class Watched(Gaussian):
        def __call__(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
            levels.append(float(sigma[0]))
            return super().__call__(x, sigma)

    dpm.dpm_adaptive(Watched(), x, LOW, HIGH, rtol=1e-4, atol=1e-5, h_init=3.0)
    assert any(later > earlier for earlier, later in pairwise(levels))


STOCHASTIC = [
    (ancestral.euler_ancestral, {}),
    (ancestral.euler_ancestral_cfg_pp, {}),
    (ancestral.dpmpp_2s_ancestral, {}),
    (sde.dpmpp_3m_sde, {}),
    (sde.dpmpp_3m_sde, {"eta": 0.5, "corrected": True}),
    (sde.dpmpp_2m_sde, {}),
    (sde.dpmpp_2m_sde, {"solver_type": "heun"}),
    (ancestral.dpm_2_ancestral, {}),
    (adams.exponential_adams, {"order": 4, "eta": 1.0}),
    (adams.exponential_adams, {"order": 2, "eta": 0.5}),
    (adams.sa_solver, {}),
    (adams.sa_solver, {"pece": True, "tau": 0.7}),
    (runge_kutta.exponential_rk, {"tableau": "res_3s", "eta": 0.5}),
    (restart.restart, {}),
    (res.res_multistep_ancestral, {}),
    (er_sde.er_sde, {}),
    (er_sde.er_sde, {"eta": 0.3}),
    (seeds.seeds_2, {}),
    (seeds.seeds_3, {"eta": 0.6}),
    (seeds.exp_heun_2_x0_sde, {}),
]


@pytest.mark.parametrize(("function", "options"), STOCHASTIC)
def test_a_stochastic_sampler_draws_from_the_datas_distribution(
    function: Callable[..., torch.Tensor], options: dict[str, Any]
) -> None:
    """Within four standard errors and the error of 100 steps, which for first order is 0.02 or so."""
    generator, n = torch.Generator().manual_seed(1), 20_000
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64) * math.hypot(HIGH, Gaussian.std) + Gaussian.mean

    def noise(sigma: float, to: float) -> torch.Tensor:
        return torch.randn(n, 1, generator=generator, dtype=torch.float64)

    end = function(Gaussian(), x, to_zero(100), noise_sampler=noise, **options)
    assert float(end.mean()) == pytest.approx(Gaussian.mean, abs=4 * Gaussian.std / math.sqrt(n) + 0.01)
    assert float(end.std()) == pytest.approx(Gaussian.std, abs=4 * Gaussian.std / math.sqrt(2 * n) + 0.02)


def dpm_2(model: Any, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Karras et al. 2022, algorithm 2 without churn."""
    for sigma, to in pairwise(sigmas):
        slope = (x - model(x, sigma)) / sigma
        if to:
            middle = (sigma * to).sqrt()
            ahead = x + (middle - sigma) * slope
            slope = (ahead - model(ahead, middle)) / middle
        x = x + (to - sigma) * slope
    return x


def no_noise(sigma: float, to: float) -> torch.Tensor:
    raise AssertionError("noise was drawn")


@pytest.mark.parametrize(
    ("function", "options", "same"),
    [
        (ancestral.euler_ancestral, {}, lambda m, x, s: multistep.gradient_estimation(m, x, s, ge_gamma=1.0)),
        (ancestral.dpmpp_2s_ancestral, {}, lambda m, x, s: seeds.seeds_2(m, x, s, eta=0.0)),
        (res.res_multistep_ancestral, {}, res.res_multistep),
        (seeds.exp_heun_2_x0_sde, {}, seeds.exp_heun_2_x0),
        (er_sde.er_sde, {"max_stage": 1}, lambda m, x, s: ancestral.euler_ancestral(m, x, s, eta=0.0)),
        (ancestral.euler_ancestral_cfg_pp, {}, ancestral.euler_cfg_pp),
        (res.res_multistep_ancestral_cfg_pp, {}, res.res_multistep_cfg_pp),
        (ancestral.dpmpp_2s_ancestral, {}, lambda m, x, s: runge_kutta.exponential_rk(m, x, s, tableau="dpmpp_2s")),
        (seeds.seeds_3, {}, lambda m, x, s: runge_kutta.exponential_rk(m, x, s, tableau="dpmpp_3s")),
        (seeds.exp_heun_2_x0_sde, {}, lambda m, x, s: runge_kutta.exponential_rk(m, x, s, tableau="etdrk_2")),
        (ancestral.dpm_2_ancestral, {}, lambda m, x, s: dpm_2(m, x, s)),
        (ancestral.euler_ancestral, {}, lambda m, x, s: runge_kutta.runge_kutta(m, x, s, tableau="euler")),
        (adams.exponential_adams, {"order": 2}, res.res_multistep),
        (sde.dpmpp_2m_sde, {}, res.dpmpp_2m),
    ],
)
def test_without_noise_a_sampler_is_its_deterministic_self(
    function: Callable[..., torch.Tensor], options: dict[str, Any], same: Callable[..., torch.Tensor]
) -> None:
    x = torch.randn(5, 3, dtype=torch.float64) * HIGH
    got = function(Gaussian(), x, to_zero(12), noise_sampler=no_noise, eta=0.0, **options)
    torch.testing.assert_close(got, same(Gaussian(), x, to_zero(12)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("plain", "cfg_pp"),
    [
        (lambda m, x, s: ancestral.euler_ancestral(m, x, s, eta=0.0), ancestral.euler_cfg_pp),
        (res.res_multistep, res.res_multistep_cfg_pp),
        (res.res_multistep, lambda m, x, s: res.res_multistep_cfg_pp(m, x, s, comfyui=True)),
        (res.dpmpp_2m, res.dpmpp_2m_cfg_pp),
        (
            lambda m, x, s: seeds.seeds_2(m, x, s, eta=0.0),
            lambda m, x, s: ancestral.dpmpp_2s_ancestral_cfg_pp(m, x, s, eta=0.0),
        ),
        (multistep.gradient_estimation, multistep.gradient_estimation_cfg_pp),
    ],
)
def test_cfg_pp_without_guidance_changes_nothing(plain: Any, cfg_pp: Any) -> None:
    x = torch.randn(5, 3, dtype=torch.float64) * HIGH
    torch.testing.assert_close(cfg_pp(Gaussian(), x, to_zero(12)), plain(Gaussian(), x, to_zero(12)))


@pytest.mark.parametrize(
    "e", [e for e in FUNCTIONS if e.noise and e.family not in ("heun", "sa-solver")], ids=lambda e: e.name
)
def test_more_noise_than_a_level_can_hold_goes_down_to_zero_and_up_again(e: Any) -> None:
    sampler = resolve(e, SD15).cls.contract.function  # type: ignore[attr-defined]
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * HIGH
    assert sampler(Gaussian(), x, to_zero(12), eta=3.0, noise_sampler=lambda *_: torch.ones_like(x)).isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3, 20])
@pytest.mark.parametrize("e", FUNCTIONS, ids=lambda e: e.name)
def test_any_number_of_steps_gives_the_evaluations_that_the_table_says(e: Any, n: int) -> None:
    counts = {"N": n, "3N-3": max(3 * n - 3, 1)} | {f"{k}N-{k - 1}": k * n - k + 1 for k in range(2, 8)}
    got = preflight(resolve(e, SD15), n).nfe
    assert got == counts.get(e.nfe, got)
    assert got > 0


# --- in pipelines


def euler(model: Any, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    for i in range(len(sigmas) - 1):
        slope = (x - model(x, sigmas[i] * x.new_ones(len(x)))) / sigmas[i]
        x = x + slope * (sigmas[i + 1] - sigmas[i])
    return x


def global_noise(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any = None) -> torch.Tensor:
    """Draws from torch's global generator, also before its first evaluation, like k-diffusion with churn."""
    x = x + 0.1 * torch.randn_like(x)
    for sigma, to in pairwise(sigmas):
        denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        x = denoised + to * torch.randn_like(x)
    return x


def halving(model: Any, x: torch.Tensor, sigma_min: float, sigma_max: float) -> torch.Tensor:
    """Evaluates as often as the data says: more steps where the estimate is large."""
    sigma = sigma_max
    while sigma > sigma_min:
        denoised = model(x, torch.tensor([sigma]))
        to = sigma * (0.3 if float(denoised.std()) < 0.5 else 0.6)
        x, sigma = denoised + (x - denoised) * (to / sigma), to
    return x


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load(inspect_checkpoint(ModelSpec("builtin:tiny")), "cpu")


@pytest.fixture(scope="module")
def sd1_pipeline(sd1: Path) -> Any:
    return load(inspect_checkpoint(ModelSpec(str(sd1))), "cpu")


def cells_of(names: Iterable[str], steps: Iterable[int], seeds: Iterable[int] = (0,), **changes: Any) -> list[Cell]:
    plain = Cell("", 0, "", "", "default", 0, 0, "p", "a b", "", 3.0, None, None)
    return [
        replace(plain, id=f"{name}/{n}/{seed}", index=i, scheduler=name, steps=n, seed=seed, **changes)
        for i, (name, n, seed) in enumerate(product(names, steps, seeds))
    ]


def config_of(pipeline: Any) -> dict[str, Any]:
    return {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}


def recipes_for(pipeline: Any, paths: Iterable[str]) -> dict[str, Recipe]:
    return {path: resolve(REGISTRY.entry(path), config_of(pipeline)) for path in paths}


def here(*functions: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(f"{__name__}.{f.__name__}" for f in functions)


def alone(bench: Workbench) -> SoloEngine:
    return SoloEngine(bench, Measuring(timed=False))


def packed(bench: Workbench, max_batch: int | None = 8) -> PackedEngine:
    return PackedEngine(bench, lambda c: preflight(bench.recipes[c.scheduler], c.steps).nfe, max_batch)


def ran(engine: Any, cells: list[Cell]) -> dict[str, CellResult]:
    results = {r.cell.id: r for r in engine.run(cells)}
    assert not [(i, r.error) for i, r in results.items() if r.status == "failed"]
    return results


def image(pipeline: Any, scheduler: Any, **arguments: Any) -> np.ndarray[Any, Any]:
    own = copy.copy(pipeline)
    own.scheduler = scheduler
    given = {"prompt": "a red circle", "num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "latent"}
    generator = torch.Generator().manual_seed(0)
    return np.asarray(own(**given | {"generator": generator} | arguments).images)


def test_euler_as_a_function_is_diffusers_euler_bit_for_bit(tiny: Any) -> None:
    config = resolve(REGISTRY.entry("euler"), config_of(tiny)).config
    for options in ({}, {"use_karras_sigmas": True}, {"timestep_spacing": "leading"}):
        ours = scheduler_class(euler)(**config | options)  # type: ignore[arg-type]
        assert np.array_equal(image(tiny, ours), image(tiny, EulerDiscreteScheduler(**config | options)))


def test_ancestral_euler_as_a_function_draws_the_noise_that_diffusers_does(tiny: Any) -> None:
    ours = resolve(REGISTRY.entry("euler-a-any"), config_of(tiny)).build()
    theirs = EulerAncestralDiscreteScheduler(**resolve(REGISTRY.entry("euler-a"), config_of(tiny)).config)
    np.testing.assert_allclose(image(tiny, ours), image(tiny, theirs), atol=1e-4)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_every_prediction_type_is_understood(prediction: str, sd1_pipeline: Any) -> None:
    config = resolve(REGISTRY.entry("euler"), config_of(sd1_pipeline)).config | {"prediction_type": prediction}
    ours = image(sd1_pipeline, scheduler_class(euler)(**config), prompt="a b")
    np.testing.assert_allclose(ours, image(sd1_pipeline, EulerDiscreteScheduler(**config), prompt="a b"), rtol=1e-5)


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))


MASK = Image.fromarray(np.repeat([[0, 255]], 8, axis=1).repeat(16, axis=0).astype(np.uint8))


@pytest.mark.parametrize(
    ("build", "more"),
    [
        (families.sd_img2img, {"image": picture(), "strength": 0.7}),
        (families.sd_inpaint, {"image": picture(), "mask_image": MASK, "width": 16, "height": 16}),
        (families.sd_inpaint_by_blending, {"image": picture(), "mask_image": MASK, "width": 16, "height": 16}),
        (families.sdxl, {"width": 16, "height": 16}),
        (families.sd_pag, {"width": 16, "height": 16}),
    ],
)
def test_pipelines_with_an_image_or_more_conditions_run_functions_as_they_run_diffusers_schedulers(
    build: Any, more: dict[str, Any]
) -> None:
    pipeline = families.ready(build)
    config = resolve(REGISTRY.entry("euler"), config_of(pipeline)).config
    arguments = {"prompt": "a b", "num_inference_steps": 6, **more}
    theirs = image(pipeline, EulerDiscreteScheduler(**config), **arguments)
    np.testing.assert_allclose(image(pipeline, scheduler_class(euler)(**config), **arguments), theirs, atol=1e-4)


def test_image_to_image_begins_a_multistage_function_at_the_right_step() -> None:
    pipeline = families.ready(families.sd_img2img)
    arguments = {"prompt": "a b", "num_inference_steps": 6, "image": picture(), "strength": 0.5}
    heun = resolve(REGISTRY.entry("heun"), config_of(pipeline)).build()
    ours = resolve(REGISTRY.entry("restart"), config_of(pipeline)).build()
    np.testing.assert_allclose(image(pipeline, ours, **arguments), image(pipeline, heun, **arguments), atol=1e-3)
    adaptive = resolve(REGISTRY.entry("dpm-adaptive"), config_of(pipeline)).build()
    with pytest.raises(RuntimeError, match="dpm_adaptive cannot begin in the middle"):
        image(pipeline, adaptive, **arguments)


def test_packed_equals_alone_for_every_function(sd1_pipeline: Any, latents: Latents) -> None:
    names = [e.name for e in few_of_each(FUNCTIONS)]
    recipes = recipes_for(sd1_pipeline, [*names, *here(global_noise, halving)])
    bench = Workbench(sd1_pipeline, recipes)
    cells = cells_of(recipes, (5,), seeds=(3,)) + cells_of(["restart", "dpm-fast"], (21,), guidance_scale=1.0)
    expected = ran(alone(bench), cells)
    theirs = dict(latents.of)
    latents.of.clear()
    got = ran(packed(bench), cells)
    worst = max(float((latents.of[i] - e).abs().max() / e.std()) for i, e in theirs.items())
    assert worst < 1e-4
    assert {i: (r.nfe, r.timesteps) for i, r in got.items()} == {i: (r.nfe, r.timesteps) for i, r in expected.items()}
    assert all(r.nfe == len(r.timesteps) for r in got.values())


@pytest.mark.parametrize(
    ("build", "names", "more"),
    [
        (families.sdxl, ("dpmpp-2s-a", "er-sde", "euler-cfgpp", "dpm-adaptive"), {}),
        (families.sd3, ("res-multistep", "dpm-fast", "dpm-adaptive", "ipndm-v"), {"max_sequence_length": 8}),
        (families.flux, ("res-multistep", "gradient-estimation", "heunpp2"), {"max_sequence_length": 8}),
    ],
)
def test_other_families_pack_functions_too(build: Any, names: Any, more: dict[str, Any], latents: Latents) -> None:
    class Bench(Workbench):
        def job(self, *cells: Cell) -> tuple[Any, dict[str, Any]]:
            pipeline, arguments = Workbench.job(self, *cells)
            return pipeline, arguments | more

    pipeline = families.ready(build)
    bench = Bench(pipeline, recipes_for(pipeline, names))
    cells = cells_of(names, (4,), seeds=(0, 1), width=16, height=16)
    ran(alone(bench), cells)
    theirs = dict(latents.of)
    latents.of.clear()
    ran(packed(bench), cells)
    assert max(float((latents.of[i] - e).abs().max() / e.std()) for i, e in theirs.items()) < 1e-4


def test_on_flow_matching_a_function_is_diffusers_flow_euler(latents: Latents) -> None:
    pipeline = families.ready(families.sd3)
    recipes = recipes_for(pipeline, ["flow-euler", *here(euler)])
    for e in ran(alone(Workbench(pipeline, recipes)), cells_of(recipes, (5,), width=16, height=16)).values():
        assert e.nfe == 5
    ours, theirs = latents.of.values()
    torch.testing.assert_close(ours, theirs)


def test_a_function_that_draws_from_the_global_generator_is_reproducible(sd1_pipeline: Any, latents: Latents) -> None:
    (name,) = here(global_noise)
    bench = Workbench(sd1_pipeline, recipes_for(sd1_pipeline, [name, "euler-a", "dpmpp-2s-a"]))
    mine = cells_of([name], (4,), seeds=(3, 4))
    made = []
    for engine, cells in [
        (alone(bench), mine),
        (packed(bench, 1), mine[::-1] + cells_of(["euler-a", "dpmpp-2s-a"], (2, 6), seeds=(3, 9))),
    ]:
        torch.manual_seed(len(made))
        before = torch.get_rng_state()
        ran(engine, cells)
        assert torch.equal(torch.get_rng_state(), before)
        made.append([latents.of[c.id].clone() for c in mine])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    assert not torch.allclose(*made[0])


def test_an_adaptive_function_is_followed_to_its_end_and_counted(sd1_pipeline: Any) -> None:
    names = [*here(halving), "dpm-adaptive"]
    bench = Workbench(sd1_pipeline, recipes_for(sd1_pipeline, names))
    cells = cells_of(names, (4,), seeds=range(3))
    for result in ran(packed(bench), cells).values():
        assert result.nfe == len(result.timesteps)
        assert result.timesteps == tuple(sorted(result.timesteps, reverse=True))
    estimates = {name: preflight(bench.recipes[name], 4).nfe for name in names}
    assert {r.nfe for r in ran(alone(bench), cells).values()} != set(estimates.values())


def test_cfg_pp_renoises_with_the_prediction_that_knows_no_prompt(tiny: Any) -> None:
    """Against algorithm 1 of the paper, written out, with the denoiser called for each half alone."""
    steps, scale = 4, 1.7
    recipe = resolve(REGISTRY.entry("euler-cfgpp"), config_of(tiny))
    pipeline, arguments = Workbench(tiny, {"x": recipe}).job(
        replace(cells_of(["x"], (steps,))[0], prompt="a red circle", guidance_scale=scale)
    )
    got = pipeline(**arguments, output_type="latent").images
    scheduler = recipe.build()
    retrieve_timesteps(scheduler, steps, "cpu")
    texts = tiny.encode_prompt("a red circle", "cpu", 1, True)
    x = torch.randn(got.shape, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    with torch.no_grad():
        for t, (sigma, to) in zip(scheduler.timesteps, pairwise(scheduler.sigmas), strict=True):
            model_input = x / (sigma**2 + 1) ** 0.5
            with_prompt, without = (tiny.unet(model_input, t, text, return_dict=False)[0] for text in texts)
            guided = without + scale * (with_prompt - without)
            x = (x - sigma * guided) + to * without
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-3)


def test_cfg_pp_leaves_out_what_a_denoiser_says_of_its_variance() -> None:
    pixart = families.ready(families.pixart)
    bench = Workbench(pixart, recipes_for(pixart, ["euler-cfgpp"]))
    own_sizes = '{"clean_caption": false, "use_resolution_binning": false}'
    for engine in (alone(bench), packed(bench)):
        (result,) = engine.run(cells_of(["euler-cfgpp"], (2,), width=16, height=16, call=own_sizes))
        assert result.status == "ok", result.error


def test_on_flow_matching_a_function_has_the_coordinates_that_it_is_written_for() -> None:
    """Begins below 1 where these are x0 + sigma * noise, which is infinite at 1."""

    def begins(name: str, registry: Any = REGISTRY) -> float:
        assert judge(registry.entry(name), FLOW)[0] == "ok"
        return preflight(resolve(registry.entry(name), FLOW), 4).sigmas[0]

    lower = pytest.approx(1 - 1e-4 / (3 - 2e-4))
    for name in ("res-multistep-a", "euler-cfgpp", "exp-heun", "seeds-2", "er-sde"):
        assert begins(name) == lower, name
    for name in ("euler-a", "dpmpp-2s-a", "res-multistep", "heunpp2", here(euler)[0]):
        assert begins(name) == 1, name
    calm = REGISTRY.with_rows([{"name": "calm", "base": "res-multistep-a", "options": {"eta": 0.0}}], "here")
    assert begins("calm", calm) == 1


THIRD_PARTY = """
import torch
from contextlib import suppress

@torch.no_grad()
def sample_theirs(model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1., noise_sampler=None):
    extra_args = {} if extra_args is None else extra_args
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i})
        x = denoised + sigmas[i + 1] * (x - denoised) / sigmas[i] * (1 - eta / 2)
        if sigmas[i + 1] > 0:
            x = x + noise_sampler(sigmas[i], sigmas[i + 1]) * sigmas[i + 1] * eta * 0.75 ** 0.5
    return x

def needs_more(model, x, sigmas, strength): return x
def no_model(model, x, sigmas): return x
def clash(model, x, sigmas, beta_start=1.0): return x
def no_result(model, x, sigmas): model(x, sigmas[0])
def no_latents(model, x, sigmas): return model(x, sigmas[0])[:, :2]

def no_end(model, x, sigmas):
    while True: x = model(x, sigmas[0])

def not_a_sampler(a, b): return a

def by_the_data(model, x, sigmas):
    x = model(x, sigmas[:1])
    return model(x, sigmas[1:2]) if float(x.abs().max()) < 4 else x
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "third_party_samplers.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "third_party_samplers"
    sys.modules.pop("third_party_samplers", None)


def test_somebody_elses_function_runs_by_its_dotted_path(third_party: str, sd1_pipeline: Any) -> None:
    rows = [{"name": "mine", "class": f"{third_party}.sample_theirs", "options": {"eta": 0.5}, "sigmas": "karras"}]
    entry = REGISTRY.with_rows(rows, "sweep").entry("mine")
    recipe = resolve(entry, config_of(sd1_pipeline))
    assert (recipe.config["eta"], recipe.config["use_karras_sigmas"]) == (0.5, True)
    bench = Workbench(sd1_pipeline, {"mine": recipe})
    cells = cells_of(["mine"], (3,), seeds=(0, 1))
    first = {i: r.image_sha256 for i, r in ran(alone(bench), cells).items()}
    assert {i: r.image_sha256 for i, r in ran(packed(bench, 1), cells).items()} == first
    assert len(set(first.values())) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needs_more", "needs_more needs strength; give it a default"),
        ("no_model", "never calls its model"),
        ("no_result", r"returns NoneType for latents of shape \(1, 4, 8, 8\)"),
        ("no_latents", r"returns \(1, 2, 8, 8\) for latents of shape"),
        ("no_end", "has not ended after 20000 evaluations"),
        ("clash", r"its options \['beta_start'\] are the schedule's own"),
        ("not_a_sampler", r"is not a scheduler class, nor a sampler function \(model, x, sigmas"),
    ],
)
def test_a_function_that_cannot_work_is_refused_with_the_reason(third_party: str, name: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        preflight(resolve(REGISTRY.entry(f"{third_party}.{name}"), SD15), 5)


@pytest.mark.parametrize("name", ["euler-a-any", "seeds-3"])
def test_a_step_of_no_length_is_refused_as_for_diffusers_schedulers(name: str) -> None:
    with pytest.raises(RegistryError, match="two of the noise levels are equal"):
        preflight(resolve(REGISTRY.entry(name), SD15 | {"steps_offset": 1, "timestep_spacing": "leading"}), 1000)


def test_a_function_that_goes_other_ways_than_when_tried_fails_aloud(third_party: str, sd1_pipeline: Any) -> None:
    path = f"{third_party}.by_the_data"
    bench = Workbench(sd1_pipeline, recipes_for(sd1_pipeline, [path]))
    (result,) = alone(bench).run(cells_of([path], (3,)))
    assert result.status == "failed"
    assert "evaluates where it did not when it was tried" in str(result.error)


def test_the_adapter_looks_like_any_scheduler_class() -> None:
    cls = scheduler_class(ancestral.dpmpp_2s_ancestral)
    assert scheduler_class(ancestral.dpmpp_2s_ancestral) is cls
    own = set(inspect.signature(cls).parameters) - set(inspect.signature(EulerDiscreteScheduler).parameters)
    assert own == {"eta", "s_noise", "init_noise", "timestep_grid", "extra_level"}
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        cls(prediction_type="flow_prediction")
    used, fresh = cls(), cls()
    used.set_timesteps(4)  # type: ignore[attr-defined]
    assert copy.deepcopy(fresh).timesteps.shape == (1000,)  # type: ignore[attr-defined]
    assert len(used.timesteps) == 7  # type: ignore[attr-defined]


def test_cfg_pp_is_refused_where_the_halves_are_not_in_one_batch() -> None:
    watch = Watched(torch.nn.Identity(), "PixArtSigmaPipeline")
    for rows in (1, 3, 6):  # of two images: one of them, and more than both halves
        watch(torch.zeros(rows, 4, 2, 2))
        with pytest.raises(RegistryError, match=r"CFG\+\+ needs .* PixArtSigmaPipeline does not make"):
            watch.unconditional(torch.zeros(2, 4, 2, 2))
