from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from schedcmp.registry.build import Recipe, mended, resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.drive import Oracle, Solve, drive
from schedcmp.truth.measure import DATA, stratified
from schedcmp.truth.mixture import CLEAN, PURE_NOISE, Array, Level, Mixture
from schedcmp.truth.noise import Betas, noise_schedule

SD15 = mended(
    json.loads(files("schedcmp").joinpath("builtin/tiny/scheduler/scheduler_config.json").read_text()),
    "StableDiffusionPipeline",
)
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
V = SD15 | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
ZERO_SNR = V | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
NOISE = stratified(256)
GAUSSIAN = Mixture((1.0,), (0.3,), (0.7,))


def vp(sigma: float) -> Level:
    """The variance-preserving level whose sigma / alpha is this."""
    return Level(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma))


def recipe(name: str, config: dict[str, Any] = SD15, **options: Any) -> Recipe:
    registry = builtin_registry()
    if options:
        registry = registry.with_rows([{"name": "changed", "base": name, "options": options}], "test")
        name = "changed"
    return resolve(registry.entry(name), config)


def run(name: str, steps: int, config: dict[str, Any] = SD15, data: Mixture = DATA, **options: Any) -> Solve:
    return drive(recipe(name, config, **options), Oracle(data, noise_schedule(config)), NOISE, steps)


def rms(a: Any, b: Any) -> float:
    return float(np.sqrt(np.mean((np.ravel(a) - np.ravel(b)) ** 2)))


@pytest.mark.parametrize("level", [vp(0.03), vp(1), vp(14.6), PURE_NOISE, Level(0.7, 0.3), Level(1, 80)])
def test_one_gaussian_is_solved_by_its_closed_form(level: Level) -> None:
    alpha, sigma = level
    (m,), (s,) = GAUSSIAN.means, GAUSSIAN.stds
    x = alpha * m + math.hypot(alpha * s, sigma) * np.linspace(-8, 8, 101)
    solution = GAUSSIAN.transport(x, level)
    expected = m + s * (x - alpha * m) / math.sqrt(alpha**2 * s**2 + sigma**2)
    np.testing.assert_allclose(solution.x, expected, rtol=1e-12, atol=1e-12)
    denoised = GAUSSIAN.denoise(torch.from_numpy(x), level).numpy()
    np.testing.assert_allclose(
        denoised, m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("level", [vp(0.03), vp(0.5), vp(14.6), Level(0.4, 0.6), PURE_NOISE])
def test_the_denoiser_is_the_posterior_mean(level: Level) -> None:
    """Bayes' rule by quadrature."""

    def prior(y: float) -> float:
        parts = zip(DATA.weights, DATA.means, DATA.stds, strict=True)
        return sum(w / s * math.exp(-((y - m) ** 2) / (2 * s**2)) for w, m, s in parts)

    def posterior_mean(x: float) -> float:
        def weight(y: float) -> float:
            return prior(y) * math.exp(-((x - level.alpha * y) ** 2) / (2 * level.sigma**2))

        middle = x / level.alpha if level.alpha else 0.0
        points = [p for p in (*DATA.means, middle) if abs(p) < 5]
        top = quad(lambda y: y * weight(y), -5, 5, points=points, limit=200)[0]
        return top / quad(weight, -5, 5, points=points, limit=200)[0]

    x = level.alpha * np.array([-1.5, -0.4, 0.1, 0.7, 1.6])
    found = DATA.denoise(torch.from_numpy(x), level)
    np.testing.assert_allclose(found, [posterior_mean(v) for v in x], rtol=1e-7, atol=1e-9)


def test_the_quantile_map_solves_the_probability_flow_ode() -> None:
    """dx / dsigma = (x - D(x, sigma)) / sigma in the variance-exploding variable, by an eighth-order integrator."""
    x = 14.6 * NOISE.flatten().numpy()[::8]

    def slope(sigma: float, x: Array) -> Array:
        return (x - DATA.denoise(torch.from_numpy(x), Level(1.0, sigma)).numpy()) / sigma

    end = 1e-4  # at which x differs from x0 by sigma² / (2 std) = 1e-8
    solved = solve_ivp(slope, (14.6, end), x, method="DOP853", rtol=1e-11, atol=1e-12)
    exact = DATA.transport(x, Level(1.0, 14.6), Level(1.0, end))
    np.testing.assert_allclose(solved.y[:, -1], exact.x, atol=1e-7)
    np.testing.assert_allclose(exact.x, DATA.transport(x, Level(1.0, 14.6)).x, atol=1e-7)


def test_the_map_bounds_its_own_error_and_holds_in_the_tails() -> None:
    x = np.linspace(-30, 30, 241)
    solution = DATA.transport(x, PURE_NOISE)
    assert solution.width < 1e-13
    assert np.all(np.diff(solution.x) > 0)
    residual = DATA.log_cdf(solution.x[:121]) - Mixture((1.0,), (0.0,), (1.0,)).log_cdf(x[:121])
    assert np.max(np.abs(residual) / np.abs(DATA.log_cdf(solution.x[:121]))) < 1e-12
    there = DATA.transport(np.linspace(-4, 4, 51), vp(2.0), vp(9.0)).x
    np.testing.assert_allclose(DATA.transport(there, vp(9.0), vp(2.0)).x, np.linspace(-4, 4, 51), atol=1e-12)


def test_data_are_standardised_and_samples_follow_them() -> None:
    assert DATA.mean == pytest.approx(0, abs=1e-15)
    assert DATA.std == pytest.approx(1)
    draws = DATA.sample(200_000, np.random.default_rng(0))
    at = np.array([-1.4, 0.0, 0.6])
    np.testing.assert_allclose([np.mean(draws <= q) for q in at], np.exp(DATA.log_cdf(at)), atol=5e-3)
    np.testing.assert_allclose(np.exp(DATA.log_cdf(at)) + np.exp(DATA.log_sf(at)), 1, rtol=1e-14)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_parametrisation_gives_the_same_images(kind: str) -> None:
    reference = run("ddim", 20).latents
    found = run("ddim", 20, SD15 | {"prediction_type": kind}).latents
    np.testing.assert_allclose(found, reference, atol=1e-6)


@pytest.mark.parametrize(
    "config", [V, ZERO_SNR, SD15 | {"beta_schedule": "linear"}, SD15 | {"beta_schedule": "squaredcos_cap_v2"},
               SD15 | {"trained_betas": list(np.linspace(1e-4, 0.02, 1000))}],
)  # fmt: skip
def test_ddim_converges_on_every_noise_schedule_of_betas(config: dict[str, Any]) -> None:
    errors = []
    for n in (40, 160):
        found = run("ddim", n, config, set_alpha_to_one=True)
        exact = DATA.transport(found.start.numpy(), found.level).x
        errors.append(rms(found.latents, exact))
    assert math.log(errors[0] / errors[1], 4) == pytest.approx(1, abs=0.3)


def test_zero_terminal_snr_starts_from_pure_noise() -> None:
    assert noise_schedule(ZERO_SNR).level(999) == PURE_NOISE
    assert run("ddim", 10, ZERO_SNR).level == PURE_NOISE


def test_fractional_timesteps_are_read_as_k_diffusion_reads_them() -> None:
    schedule = noise_schedule(SD15)
    between, (low, high) = schedule.level(500.25).ratio, (schedule.level(t).ratio for t in (500, 501))
    assert math.log(between) == pytest.approx(0.75 * math.log(low) + 0.25 * math.log(high), rel=1e-12)
    assert isinstance(schedule, Betas)
    assert len(schedule.alphas_cumprod) == 1000


def denoised(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """D(x; sigma) for x = x0 + sigma n."""
    return DATA.denoise(x, Level(1.0, sigma))


def euler(denoise: Any, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    for a, b in pairwise(sigmas):
        x = x + (b - a) * (x - denoise(x, a)) / a
    return x


def heun(denoise: Any, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Karras et al. 2022, algorithm 1."""
    for a, b in pairwise(sigmas):
        d = (x - denoise(x, a)) / a
        y = x + (b - a) * d
        x = x + (b - a) * (d + (y - denoise(y, b)) / b) / 2 if b else y
    return x


def dpm2(denoise: Any, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Karras et al. 2022, algorithm 2 without churn: midpoint in log sigma."""
    for a, b in pairwise(sigmas):
        d = (x - denoise(x, a)) / a
        if b:
            c = math.sqrt(a * b)
            y = x + (c - a) * d
            d = (y - denoise(y, c)) / c
        x = x + (b - a) * d
    return x


def lms(denoise: Any, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Adams-Bashforth on uneven steps: the integral of the polynomial through the last four slopes."""
    slopes: list[torch.Tensor] = []
    for i, (a, b) in enumerate(pairwise(sigmas)):
        slopes = [(x - denoise(x, a)) / a, *slopes][:4]
        knots = sigmas[i::-1][: len(slopes)]
        for j, slope in enumerate(slopes):
            basis = np.poly1d([1.0])
            for k, knot in enumerate(knots):
                basis = basis if k == j else basis * np.poly1d([1.0, -knot]) / (knots[j] - knot)
            x = x + float(basis.integ()(b) - basis.integ()(a)) * slope
    return x


def dpmpp_2m(denoise: Any, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Lu et al. 2022b, algorithm 2, with lambda = -log sigma; the last step to 0 is first order."""
    old, h_old = None, 0.0
    for a, b in pairwise(sigmas):
        new = denoise(x, a)
        h = math.log(a / b) if b else math.inf
        d = new if old is None or not b else new + h / (2 * h_old) * (new - old)
        x = b / a * x + (1 - b / a) * d
        old, h_old = new, h
    return x


@pytest.mark.parametrize(
    ("name", "paper", "tolerance"),
    [
        # diffusers finds timesteps of sigmas to float32, and LMS integrates to 1e-4 relative
        ("euler", euler, 2e-6),
        ("heun", heun, 2e-6),
        ("kdpm2", dpm2, 2e-5),
        ("lms", lms, 1e-5),
        ("euler-karras", euler, 5e-6),
        ("heun-karras", heun, 5e-6),
        ("dpmpp-2m", dpmpp_2m, 2e-6),
        # rounds the timesteps of Karras sigmas to whole numbers: the denoiser hears another noise level
        ("dpmpp-2m-karras", dpmpp_2m, 5e-3),
    ],
)
def test_schedulers_equal_their_papers(name: str, paper: Any, tolerance: float) -> None:
    scheduler = recipe(name).build()
    scheduler.set_timesteps(20)
    sigmas = list(dict.fromkeys(float(s) for s in scheduler.sigmas))  # Heun and KDPM2 have each twice
    start = NOISE * float(scheduler.init_noise_sigma)
    if start.abs().max() < 5:  # variance preserving
        start = NOISE * math.hypot(1, sigmas[0])
    assert rms(paper(denoised, start, sigmas), run(name, 20).latents) < tolerance


def test_the_driver_makes_the_pipelines_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real StableDiffusionPipeline with the oracle for its UNet ends at the driver's latents."""
    from diffusers import StableDiffusionPipeline

    from schedcmp.checkpoint.inspection.inspect import inspect
    from schedcmp.checkpoint.loading.load import load
    from schedcmp.checkpoint.source import ModelSpec

    pipeline = load(inspect(ModelSpec("builtin:tiny")), "cpu", "fp32")
    assert isinstance(pipeline, StableDiffusionPipeline)
    noise = stratified(1024).view(1, 4, 16, 16)
    oracle = Oracle(DATA, noise_schedule(SD15))
    monkeypatch.setattr(pipeline.unet, "forward", lambda x, t, **_: (oracle(x, float(t)),))
    for name in ("euler", "heun", "euler-a", "tcd"):
        pipeline.scheduler = recipe(name).build()
        seen = pipeline(
            "a", num_inference_steps=8, guidance_scale=1, latents=noise.clone(), output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip
        mine = drive(recipe(name), Oracle(DATA, noise_schedule(SD15)), noise, 8).latents
        assert rms(seen, mine) < 1e-5, name


def orders(name: str, config: dict[str, Any], steps: tuple[int, ...]) -> Iterator[float]:
    errors = []
    for n in steps:
        found = run(name, n, config)
        errors.append(rms(found.latents, DATA.transport(found.start.numpy(), found.level).x))
    for (a, b), (n, m) in zip(pairwise(errors), pairwise(steps), strict=True):
        yield math.log(a / b) / math.log(m / n)


@pytest.mark.parametrize(("name", "order"), [("flow-euler", 1), ("flow-heun", 2), ("dpmpp-2m", 2), ("deis", 1)])
def test_flow_matching_has_the_methods_order(name: str, order: int) -> None:
    """DEIS ends at its last noise level, which falls as 1/N."""
    assert run(name, 4, FLOW).level.alpha == pytest.approx(0, abs=2e-3)
    assert min(orders(name, FLOW, (20, 40))) > order - 0.35


def test_v_prediction_has_the_same_error_as_epsilon() -> None:
    for name in ("euler", "heun", "dpmpp-2m", "unipc"):  # whose timesteps are exact
        np.testing.assert_allclose(run(name, 20, V).latents, run(name, 20).latents, atol=2e-6)


def test_clean_data_stay_as_they_are() -> None:
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(DATA.transport(x, CLEAN).x, x, atol=1e-13)
