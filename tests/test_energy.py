"""The distance of all images to all converged ones: right where the truth is known, and without bias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from quick import fewer_steps
from scipy.stats import spearmanr
from test_reference import TINY, make

from schedcmp.prepare import scheduler_config_of
from schedcmp.readings import ENERGY
from schedcmp.records import StoredCell
from schedcmp.registry.build import resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.report.answer import Answer, answer
from schedcmp.report.words.markdown import markdown
from schedcmp.store.store import Store
from schedcmp.truth.drive import Oracle, drive
from schedcmp.truth.energy import energy_shares
from schedcmp.truth.measure import DATA, wasserstein
from schedcmp.truth.mixture import PURE_NOISE
from schedcmp.truth.noise import noise_schedule
from schedcmp.truth.statistics import compare, estimate

Floats = NDArray[np.float64]
SAMPLES = 2_048
NAMES = ("ddim", "unipc", "dpmpp-2m-karras", "heun", "euler-a", "kdpm2-a", "dpmpp-sde-karras", "dpmpp-2m-sde-karras")


# --- against the truth


def test_on_the_oracle_it_ranks_samplers_as_the_true_distance_does() -> None:
    config = scheduler_config_of("builtin:tiny")
    schedule = noise_schedule(config)
    noise = torch.randn(1, 4, SAMPLES // 64, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    converged = DATA.transport(noise.flatten().numpy(), PURE_NOISE).x
    true, found, sure = [], [], []
    for name in NAMES:
        recipe = resolve(builtin_registry().entry(name), config)
        for steps in (4, 6, 10, 20):
            made = drive(recipe, Oracle(DATA, schedule), noise, steps).latents.flatten().numpy()
            shares = energy_shares(made[:, None], converged[:, None])
            true.append(wasserstein(made))
            found.append(shares.mean())
            sure.append(shares.std() / np.sqrt(SAMPLES))
    assert spearmanr(true, found)[0] > 0.97
    floor = wasserstein(DATA.sample(SAMPLES, np.random.default_rng(0)))
    for i in range(len(true)):
        for j in range(i):
            apart = abs(found[i] - found[j]) > 4 * np.hypot(sure[i], sure[j]) and abs(true[i] - true[j]) > 2 * floor
            assert not apart or (true[i] < true[j]) == (found[i] < found[j])


# --- as a statistic


def sample(n: int, rng: np.random.Generator, *, shift: float = 0.0, wide: float = 1.0) -> Floats:
    """Twenty directions of falling spread, as images have."""
    spread = np.arange(1, 21) ** -0.7
    return (rng.standard_normal((n, 20)) * wide + shift) * spread


def near(converged: Floats, rng: np.random.Generator) -> Floats:
    """What a scheduler without noise makes: near its own converged images."""
    return converged * 1.2 + 0.2 * sample(len(converged), rng)


CASES: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "equal": lambda converged, rng: sample(len(converged), rng),
    "shifted": lambda converged, rng: sample(len(converged), rng, shift=0.5),
    "too wide": lambda converged, rng: sample(len(converged), rng, wide=1.5),
    "near its own": near,
}


def test_equal_images_are_no_distance_apart() -> None:
    images = sample(8, np.random.default_rng(0))
    assert np.abs(energy_shares(images, images)).max() < 1e-12


def test_it_is_of_the_size_that_is_said() -> None:
    """A shift by a share s of the spread costs about s²/2, images that are all alike 1 or more."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((2_000, 1)) for _ in range(2))
    assert energy_shares(x + 0.4, y).mean() == pytest.approx(0.4**2 / 2, abs=0.01)
    assert 0.35 < energy_shares(np.zeros_like(x), y).mean() < 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seeds", [8, 16])
def test_it_has_no_bias_and_its_interval_holds_the_truth(case: str, seeds: int) -> None:
    rng, runs, made = np.random.default_rng(1), 200, CASES[case]
    converged = sample(1_500, rng)
    truth = 0.0 if case == "equal" else float(energy_shares(made(converged, rng), converged).mean())
    found, within = [], 0
    for _ in range(runs):
        converged = sample(seeds, rng)
        of = estimate(energy_shares(made(converged, rng), converged).tolist())
        assert of.low is not None
        assert of.high is not None
        found.append(of.value)
        within += of.low <= truth <= of.high
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / np.sqrt(runs) + 0.05 * truth)
    assert within / runs > 0.85


def test_two_schedulers_of_one_distribution_are_seldom_told_apart() -> None:
    rng, told = np.random.default_rng(2), 0
    for _ in range(200):
        converged = sample(12, rng)
        one, other = (energy_shares(sample(12, rng, shift=0.5), converged) for _ in range(2))
        p = compare(one.tolist(), other.tolist(), ratio=False).p
        told += p is not None and p < 0.05
    assert told / 200 < 0.08


@pytest.mark.parametrize("rows", [2, 5])
def test_what_has_no_spread_or_too_few_seeds_has_no_distance(rows: int) -> None:
    with pytest.raises(ValueError, match=r"three seeds|all equal"):
        energy_shares(np.ones((rows, 3)), np.ones((rows, 3)))


# --- in a run


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        fewer_steps(patch)
        sweep = TINY | {"metrics": ["reference", "adherence"], "schedulers": NAMES, "steps": 4, "seeds": "0..7"}
        make(sweep, folder)
    return folder


def found_in(folder: Path, metric: str | None = None) -> tuple[list[StoredCell], Answer]:
    with Store.open(folder) as store:
        cells = list(store.cells())
        (found,) = answer(cells, store.references().values(), metric=metric, known=store.readings())
    return cells, found


@pytest.mark.slow
def test_what_draws_noise_and_what_does_not_stand_in_one_ranking(mixed: Path) -> None:
    _, found = found_in(mixed)
    assert found.metric
    assert found.metric.name == ENERGY
    assert {p.scheduler for p in found.measured} == set(NAMES)
    assert not found.unmeasured
    assert all(p.quality and p.quality.low is not None and p.quality.n == 8 for p in found.measured)
    text = markdown([found])
    assert "8 seeds, and hold for the prompts of the sweep" in text
    assert "| euler-a | 4 |" in text


@pytest.mark.slow
def test_it_agrees_with_adherence_where_that_differs_clearly(mixed: Path) -> None:
    cells, found = found_in(mixed)
    shown = {
        (p.scheduler, p.steps): np.mean(
            [c.metrics["adherence"] for c in cells if (c.cell.scheduler, c.cell.steps) == (p.scheduler, p.steps)]
        )
        for p in found.measured
    }
    apart = {(p.scheduler, p.steps): p.quality.value for p in found.measured if p.quality}
    clear = [(a, b) for a in apart for b in apart if shown[a] - shown[b] > 0.3]
    assert clear
    assert all(apart[a] < apart[b] for a, b in clear)


@pytest.mark.slow
def test_a_wide_interval_makes_none_the_best(mixed: Path) -> None:
    _, found = found_in(mixed)
    (choice,) = [c for c in found.choices if c.budget.limit == max(p.nfe for p in found.measured)]
    ends = {p.scheduler: p.quality.high for p in (choice.best, *(p for p, _ in choice.alike)) if p.quality}
    assert choice.best.scheduler == min(ends, key=lambda name: ends[name] or 0)


@pytest.mark.slow
def test_a_cells_share_counts_and_not_for_itself(mixed: Path) -> None:
    cells, found = found_in(mixed)
    best = found.measured[0]
    own = [c.metrics[ENERGY] for c in cells if (c.cell.scheduler, c.cell.steps) == (best.scheduler, best.steps)]
    assert best.quality
    assert best.quality.value == pytest.approx(np.mean(own))


def test_it_is_taken_again_when_a_seed_comes(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_steps(monkeypatch)
    folder = tmp_path / "out"
    sweep: dict[str, Any] = TINY | {"model": str(sd1), "schedulers": ["euler-a"], "steps": [2]}
    make(sweep | {"seeds": "0..6"}, folder)
    assert not [c for c in found_in(folder)[0] if ENERGY in c.metrics]
    make(sweep | {"seeds": "0..8"}, folder)
    first = [c.metrics[ENERGY] for c in found_in(folder)[0]]
    make(sweep | {"seeds": "0..7"}, folder)
    cells, _ = found_in(folder)
    assert len(first) == 9
    assert len(cells) == 8
    assert np.mean([c.metrics[ENERGY] for c in cells]) != pytest.approx(np.mean(first[:8]))


@pytest.mark.slow
def test_the_nearest_image_by_itself_is_still_an_answer(mixed: Path) -> None:
    _, found = found_in(mixed, "reference_rmse")
    assert set(found.unmeasured) == set(NAMES[4:])
