"""A sampler of one's own: `{name: midway, class: midway.sample}` in a sweep, with this folder on PYTHONPATH."""

from itertools import pairwise
from typing import Any

from torch import Tensor


def sample(model: Any, x: Tensor, sigmas: Tensor, *, share: float = 0.5) -> Tensor:
    """A Runge-Kutta method of order 2, whose second stage is at this share of the step."""

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - model(x, sigma.expand(len(x)))) / sigma

    for sigma, to in pairwise(sigmas):
        first = slope(x, sigma)
        if to > 0:
            between = sigma + share * (to - sigma)
            second = slope(x + (between - sigma) * first, between)
            first = first + (second - first) / (2 * share)
        x = x + (to - sigma) * first
    return x


SCHEDULERS = [
    {"name": "midway", "class": "midway.sample", "order": 2, "noise": False, "nfe": "2N-1"},
    {"name": "midway-late", "base": "midway", "options": {"share": 0.75}},
]
