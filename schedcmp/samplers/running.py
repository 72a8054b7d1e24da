"""A sampler function in flight: a greenlet that stops at every call of its model, with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from greenlet import getcurrent, greenlet
from torch import Tensor

from schedcmp.samplers.brownian import BrownianPath
from schedcmp.samplers.global_random import Own, torch_sources

Generators = torch.Generator | list[torch.Generator] | None


class Model:
    """What a sampler function calls: stops it until the denoised estimate is there."""

    unconditional: Tensor  # denoised without the prompt, at the last call

    def __call__(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        parent = getcurrent().parent
        assert parent is not None
        answer: Tensor = parent.switch((x, sigma))
        return answer


class Noise:
    """A run's random numbers: a noise sampler that draws from `generator`, along one Brownian path, and torch's global
    generators as this run alone has them, for functions that call `torch.randn_like`."""

    def __init__(self, generator: Generators, like: Tensor) -> None:
        self.generator = generator
        self.drawn = 0
        self._like = like
        self._own = Own(torch_sources(like.device), seed_from(generator))
        self._path = BrownianPath()

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Standard normal noise for a step, in the shape of the latents; independent where steps do not overlap."""
        return self._path.between(sigma, sigma_next, self.draw)

    def draw(self) -> Tensor:
        """Standard normal noise in the shape of the latents, independent from call to call."""
        x = self._like
        self.drawn += 1
        drawn: Tensor = randn_tensor(x.shape, generator=self.generator, device=x.device, dtype=x.dtype)
        return drawn

    def seed(self) -> None:
        """Seed the run's global generators from `generator`, which is left as it is."""
        self._own.seed(seed_from(self.generator))

    def in_charge(self) -> AbstractContextManager[None]:
        """While open, torch's global generators are this run's."""
        return self._own.in_charge()


class Sampling(greenlet):
    """A sampler function that waits at `x` and `sigma` for its model's answer; ended when `sigma` is None."""

    def __init__(self, call: Callable[[Model], Tensor], noise: Noise) -> None:
        super().__init__(call)
        self.model = Model()
        self.noise = noise
        self.x: Tensor | None = None
        self.sigma: Any = None

    def go_on(self, answer: Any) -> None:
        """Resume with a denoised estimate, or start with the model. What the function raises is raised here."""
        self.parent = getcurrent()
        with torch.no_grad(), self.noise.in_charge():
            asked = self.switch(answer)
        self.x, self.sigma = (asked, None) if self.dead else asked


def seed_from(generator: Generators) -> int:
    """A seed for other generators, which no draw from this one shows; it is left as it is."""
    first = generator[0] if isinstance(generator, list) else generator
    if first is None:
        return int(torch.randint(2**63 - 1, ()))
    twin = torch.Generator(first.device)
    twin.set_state(first.get_state())
    return int(torch.randint(2**63 - 1, (), generator=twin, device=first.device))
