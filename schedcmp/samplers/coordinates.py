"""What a sampler function takes for latents and noise levels, where the model has others.

Flow matching has x = (1 - s) x0 + s noise. Divided by 1 - s that is x0 + sigma noise with sigma = s / (1 - s), which is
what functions expect that add noise of their own, and log sigma is where exponential integrators step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Coordinates:
    """The model's own: function and model agree."""

    name: str = "own"

    def sigma(self, level: Any) -> Any:
        """The function's level, of the model's: a number, or a tensor of them."""
        return level

    def level(self, sigma: float) -> float:
        """The model's level, of the function's."""
        return sigma

    def scale(self, sigma: float) -> float:
        """What the function's latents are multiplied by to be the model's."""
        return 1.0

    def begun(self, levels: Tensor) -> Tensor:
        """The model's levels (N + 1,), with a first one at which a function can begin."""
        return levels

    def sigmas(self, levels: Tensor) -> Tensor:
        """`sigma` of each of the levels (N + 1,), in float32."""
        converted: Tensor = self.sigma(levels.double())
        return converted.float()

    def denoiser(self, model: Denoiser) -> Denoiser:
        """A denoiser of the function's latents, of one of the model's."""
        return lambda x, sigma: model(x * self.scale(sigma), self.level(sigma))


@dataclass(frozen=True)
class VarianceExploding(Coordinates):
    """Of flow matching: x0 + sigma noise."""

    name: str = "variance exploding"
    highest: float = 1 - 1e-4  # where it begins instead of at 1, which is infinite here

    def sigma(self, level: Any) -> Any:
        return level / (1 - level)

    def level(self, sigma: float) -> float:
        return sigma / (1 + sigma)

    def scale(self, sigma: float) -> float:
        return 1 / (1 + sigma)

    def begun(self, levels: Tensor) -> Tensor:
        return torch.cat([levels[:1].clamp(max=self.highest), levels[1:]])


OWN = Coordinates()
