from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from schedcmp.samplers import sde
from schedcmp.samplers.brownian import BrownianPath
from schedcmp.samplers.contract import read
from schedcmp.samplers.running import Noise

DRAWS = 40_000


class Path:
    """A path of many independent elements, with the increments as they are."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._path = BrownianPath()
        self.draws = 0

    def draw(self) -> torch.Tensor:
        self.draws += 1
        return torch.randn(DRAWS, generator=self._generator, dtype=torch.float64)

    def unit(self, start: float, end: float) -> torch.Tensor:
        return self._path.between(start, end, self.draw)

    def increment(self, start: float, end: float) -> torch.Tensor:
        return self.unit(start, end) * math.sqrt(start - end)


def test_steps_one_after_the_other_are_the_generators_own_draws() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = Noise(generator, torch.empty(2, 4))
    levels = [14.6, 3.0, 1.0, 0.2, 0.03]
    drawn = [noise(a, b) for a, b in pairwise(levels)]
    alone = torch.Generator().manual_seed(3)
    assert all(torch.equal(d, torch.randn(2, 4, generator=alone)) for d in drawn)


@pytest.mark.parametrize(
    "asked",
    [
        [(8.0, 5.0), (8.0, 2.0), (2.0, 1.0)],  # a stage, the whole step, the next
        [(8.0, 2.0), (8.0, 5.0), (5.0, 2.0)],
        [(8.0, 5.0), (6.0, 3.0), (4.0, 2.0)],
        [(8.0, 6.0), (8.0, 5.0), (7.0, 2.0)],
        [(8.0, 2.0), (6.0, 3.0), (5.0, 4.0)],
    ],
)
def test_increments_have_the_covariance_of_one_brownian_motion(asked: list[tuple[float, float]]) -> None:
    path = Path()
    found = torch.cov(torch.stack([path.increment(a, b) for a, b in asked]))
    common = torch.tensor([[max(0.0, min(a, c) - max(b, d)) for c, d in asked] for a, b in asked], dtype=torch.float64)
    torch.testing.assert_close(found, common, atol=6 * 6 / math.sqrt(DRAWS), rtol=0)


def test_parts_add_up_to_the_whole_and_are_told_again() -> None:
    path = Path()
    stage, whole = path.increment(8.0, 5.0), path.increment(8.0, 2.0)
    again = path.unit(8.0, 5.0)
    again += 1  # whoever is told may change it
    torch.testing.assert_close(path.increment(8.0, 5.0), stage)
    torch.testing.assert_close(stage + path.increment(5.0, 2.0), whole)
    assert path.draws == 2


def test_levels_to_float32_are_the_same_levels() -> None:
    path = Path()
    path.unit(8.0, 2.0)
    path.unit(2.0 * (1 + 3e-7), 1.0)
    assert path.draws == 2


def test_upwards_begins_a_new_path() -> None:
    path = Path()
    first = path.unit(2.0, 1.0)
    up = path.unit(1.0, 2.0)
    second = path.unit(2.0, 1.0)
    found = torch.corrcoef(torch.stack([first, up, second]))
    torch.testing.assert_close(found, torch.eye(3, dtype=torch.float64), atol=0.03, rtol=0)


def test_what_lies_above_is_forgotten() -> None:
    path = Path()
    for a, b in pairwise(range(100, 0, -1)):
        path.unit(a, b)
    assert len(path._path._pieces) == 1


def test_a_sampler_functions_noise_is_one_path() -> None:
    """Of the noise to the middle of a step and to its end, in tensors of float32 as functions by path have them."""
    drawn: list[torch.Tensor] = []
    middle = torch.tensor(4.0)

    def sampler(model: Any, x: torch.Tensor, sigmas: torch.Tensor, noise_sampler: Any = None) -> torch.Tensor:
        drawn.extend(noise_sampler(sigmas[0], end * x.new_ones([len(x)])) for end in (middle, sigmas[1]))
        return x

    x = torch.empty(DRAWS)
    read(sampler).call(None, x, torch.tensor([9.0, 1.0]), Noise(torch.Generator().manual_seed(0), x), {})
    assert float(torch.corrcoef(torch.stack(drawn))[0, 1]) == pytest.approx(math.sqrt(5 / 8), abs=0.02)


def spread(noise: Callable[[Any, Any], torch.Tensor], steps: int) -> float:
    """Of what the two-stage solver, which draws twice in each step, makes of data of standard deviation 0.5."""
    levels = torch.linspace(14.6 ** (1 / 7), 0.03 ** (1 / 7), steps, dtype=torch.float64) ** 7
    sigmas = torch.cat([levels, torch.zeros(1)])
    x = torch.randn(DRAWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * math.hypot(14.6, 0.5)

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x * 0.25 / (0.25 + sigma[0] ** 2)

    return float(sde.dpmpp_sde(model, x, sigmas, noise_sampler=noise).std()) / 0.5


def test_a_solver_that_draws_twice_in_a_step_needs_the_path() -> None:
    """Independent noise narrows the distribution."""
    path = Path()
    assert spread(path.unit, 20) > 0.97
    assert spread(lambda *_: path.draw(), 20) < 0.9
