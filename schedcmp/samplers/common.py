"""What the sampler functions share: the way down the noise levels, steps in log sigma, ancestral noise.

A method is a loop over the steps of a `Descent`; `solver` makes a function in k-diffusion's convention of it.

With lambda = -log sigma, the probability-flow ODE is dx/dlambda = denoised - x. Over a step of length h it is solved
for a constant denoised by exp(-h) x + (1 - exp(-h)) denoised; higher orders add phi functions times its derivatives.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from schedcmp.samplers.contract import SamplerFunction

NoiseSampler = Callable[[Any, Any], Tensor]

GAUSS_NODES, GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(32)  # Gauss' rule on (-1, 1)


class Descent:
    """A sampler's way down its noise levels.

    Attributes:
        model: gives the denoised estimate, and in `model.unconditional` the one without the prompt.
        x: (B, ...), where it stands.
        levels: those that its steps go through.
        noise: standard normal noise for the step from one level to another, in the shape of x.
    """

    def __init__(self, model: Any, x: Tensor, sigmas: Tensor, noise: NoiseSampler | None) -> None:
        self.model, self.x = model, x
        self.levels: list[float] = sigmas.tolist()
        self.noise = noise or (lambda sigma, sigma_next: torch.randn_like(x))
        self._ends = math.nan, math.nan

    def steps(self) -> Iterator[tuple[Tensor, float, float]]:
        """x, its level and the next one, for each step; `go` ends a step."""
        for sigma, to in pairwise(self.levels):
            self._ends = sigma, to
            yield self.x, sigma, to

    def estimates(
        self, *, cfg_pp: bool = False, denoise_last: bool = True
    ) -> Iterator[tuple[Tensor, Tensor, float, float]]:
        """x, its denoised estimate, its level and the next one, for each step; with `denoise_last` a step to 0 is not
        among them, but ends with the estimate.

        CFG++ (Chung et al. 2024, algorithm 1) denoises with guidance and renoises without: the noise is
        (x - unconditional) / sigma. That is the plain step from x + denoised - unconditional.
        """
        for x, sigma, to in self.steps():
            denoised = self.denoise(x, sigma)
            if to == 0 and denoise_last:
                self.go(denoised)
            else:
                yield x + denoised - self.model.unconditional if cfg_pp else x, denoised, sigma, to

    def go(self, x: Tensor, up: float = 0.0) -> None:
        """End the step with this x, and noise of standard deviation `up` added to it."""
        self.x = self.renoised(x, up, *self._ends)

    def renoised(self, x: Tensor, up: float, sigma: float, to: float) -> Tensor:
        """x with the noise of a step, of standard deviation `up`; none is drawn where that is 0."""
        return x + up * self.noise(sigma, to) if up > 0 else x

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """The denoised estimate of x."""
        return denoise(self.model, x, sigma)

    def slope(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dsigma at x."""
        return (x - self.denoise(x, sigma)) / sigma


def solver(
    *, noisy: bool = False, needs_unconditional: bool = False, coordinates: Literal["own", "exploding"] | None = None
) -> Callable[[Callable[..., None]], SamplerFunction]:
    """A sampler function (model, x, sigmas, ...) of a method (descent, ...) whose other arguments are its options.

    `noisy`: it takes a noise sampler; without one its noise is of torch's global generator. `needs_unconditional`: it
    reads `model.unconditional`. `coordinates`: what it must have on flow matching: those that the model has, its noise
    included, or x0 + sigma noise, as what steps in log sigma.
    """

    def made(method: Callable[..., None]) -> SamplerFunction:
        def sample(
            model: Any, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler | None = None, **options: Any
        ) -> Tensor:
            descent = Descent(model, x, sigmas, noise_sampler)
            method(descent, **options)
            return descent.x

        convention = [p for p in inspect.signature(sample).parameters.values() if p.name != "options"]
        options = list(inspect.signature(method).parameters.values())[1:]
        functools.update_wrapper(sample, method)
        sample.__signature__ = inspect.Signature([*convention[: 4 if noisy else 3], *options])  # type: ignore[attr-defined]
        sample.needs_unconditional = needs_unconditional  # type: ignore[attr-defined]
        if coordinates:
            sample.coordinates = coordinates  # type: ignore[attr-defined]
        return sample

    return made


def denoise(model: Any, x: Tensor, sigma: float) -> Tensor:
    """The denoised estimate of x, (B, ...). The rows' levels stay on the CPU: reading them costs no wait."""
    denoised: Tensor = model(x, torch.full((len(x),), sigma, dtype=torch.float64))
    return denoised


def decay(h: float) -> float:
    """1 - exp(-h)."""
    return -math.expm1(-h)


def phi2(h: float) -> float:
    """The weight of h times the derivative of denoised, over a step of length h: 1 - (1 - exp(-h)) / h."""
    return 1 - decay(h) / h


def phi3(h: float) -> float:
    """The weight of h^2 times the second derivative of denoised: 1/2 - phi2 / h."""
    return 0.5 - phi2(h) / h


def exponential_euler(x: Tensor, denoised: Tensor, sigma: float, to: float) -> Tensor:
    """x at level `to` for a constant denoised: Euler's step, as it is for any parametrisation of time."""
    return denoised + (x - denoised) * (to / sigma)


def ancestral(sigma: float, to: float, eta: float) -> tuple[float, float]:
    """How far to go down, and how much noise to add there, to arrive at level `to`; eta 1 is as much as DDPM's."""
    up = min(to, eta * to * math.sqrt(max(0.0, 1 - (to / sigma) ** 2)))
    return math.sqrt(to**2 - up**2), up


def stochastic(sigma: float, to: float, eta: float) -> float:
    """The standard deviation of the noise that SDE-DPM-Solver++ adds in a step."""
    return to * math.sqrt(decay(2 * eta * math.log(sigma / to)))


def weighed(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    """The sum of the parts, each with its weight."""
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total + weight * part if weight else total
    return total


def lagrange(nodes: Sequence[float], at: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The values at (N,) of each Lagrange polynomial on the nodes."""
    for i, node in enumerate(nodes):
        others = np.delete(nodes, i)
        yield np.prod((at - others[:, None]) / (node - others[:, None]), axis=0)
