"""A scheduler as a matrix, where its steps are linear in the latents and in the denoiser's predictions.

Then the denoiser's k-th input, and in the end the latents, are sums of the initial noise and of the predictions so far,
with coefficients that depend on the scheduler and its timesteps alone. They are found by running the scheduler once
on basis vectors: the noise is the first, the k-th prediction the k-th after it. Whether it really is linear is not
taken from a list but tried, on a denoiser that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from schedcmp.errors import RegistryError
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.compat import Compatibility
from schedcmp.registry.preflight import preflight
from schedcmp.truth.drive import in_float64_if_possible, loop

_PROBE_STEPS = 10
_TOLERANCE = 1e-4  # of the latents' standard deviation: what rounding in float32 may do
_NONLINEAR = {"thresholding": "clips by quantiles", "clip_sample": "clips the estimate of the image"}


class NotLinearError(RegistryError):
    """An entry that has no matrix; `reason` says why, as a verb's phrase."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: cannot be solved as a whole: it {reason}; jax: {{solve: steps}} can")
        self.reason = reason


@dataclass(frozen=True)
class LinearPlan:
    """A deterministic linear scheduler at some number of steps.

    Row k of `coefficients` gives the denoiser's input at `timesteps[k]`, the last row the final latents, as weights of
    the initial noise (of unit variance) and of the predictions before. (NFE + 1, NFE + 1), lower triangular.
    """

    coefficients: npt.NDArray[np.float64]
    timesteps: tuple[float, ...]

    @property
    def nfe(self) -> int:
        return len(self.timesteps)


def plan(recipe: Recipe, steps: int) -> LinearPlan:
    """The matrix of a scheduler at so many steps.

    Raises:
        NotLinearError: there is none.
        RegistryError: the scheduler cannot do so many steps.
    """
    evaluations = preflight(recipe, steps).nfe
    reason = next(_known_reasons(recipe), None)
    if reason:
        raise NotLinearError(recipe.entry.name, reason)
    noise = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    latents, again = (_on_a_bent_denoiser(recipe, noise, steps, seed) for seed in (0, 1))
    if not torch.equal(latents, again):
        raise NotLinearError(recipe.entry.name, "draws noise")
    basis = torch.zeros(1, evaluations + 2, 1, 1, dtype=torch.float64)  # the last element stays 0 if it is linear
    basis[0, 0] = 1
    found = in_float64_if_possible(lambda noise: _run_on_basis(recipe, noise, steps), recipe, basis, steps)
    off = float((_by_matrix(found, noise) - latents).abs().max() / latents.std())
    if not off < _TOLERANCE:
        what = f"is not linear in latents and predictions (off by {off:.2g} of the latents' scale)"
        raise NotLinearError(recipe.entry.name, what)
    return found


def _known_reasons(recipe: Recipe) -> Iterator[str]:
    """What can be said in words; trying finds the rest."""
    if recipe.entry.noise:
        yield "draws noise"
    if getattr(recipe.cls, "needs_unconditional", False):
        yield "uses the denoiser's answer without the prompt beside the guided one"
    if getattr(getattr(recipe.cls, "contract", None), "adaptive", False):
        yield "chooses its steps by what the denoiser answers"
    for option, what in _NONLINEAR.items():
        if recipe.config.get(option):
            yield f"{what} ({option}), which is not linear"


def _run_on_basis(recipe: Recipe, noise: torch.Tensor, steps: int) -> LinearPlan:
    inputs: list[torch.Tensor] = []
    timesteps: list[float] = []

    def answer(x: torch.Tensor, t: float) -> torch.Tensor:
        inputs.append(x.flatten())
        timesteps.append(t)
        prediction = torch.zeros_like(x)
        prediction[0, min(len(inputs), x.shape[1] - 2)] = 1
        return prediction

    latents, _ = loop(recipe, answer, noise, steps)
    rows = torch.stack([*inputs, latents.flatten()]).double().numpy()
    if len(timesteps) != noise.shape[1] - 2 or rows[:, -1].any():
        raise NotLinearError(recipe.entry.name, "adds what comes from neither latents nor predictions")
    return LinearPlan(np.tril(rows[:, :-1]), tuple(timesteps))


def _bent(x: torch.Tensor, t: float) -> torch.Tensor:
    """A denoiser that is not linear. x: (1, 4, 8, 8)"""
    return torch.tanh(1.5 * x + torch.linspace(-1, 1, 8) * (1 + t / 1000)).to(x.dtype)


def _on_a_bent_denoiser(recipe: Recipe, noise: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
    return in_float64_if_possible(lambda x: loop(recipe, _bent, x, steps, seed)[0].double(), recipe, noise, steps)


def _by_matrix(found: LinearPlan, noise: torch.Tensor) -> torch.Tensor:
    terms = torch.stack([noise])
    for row, t in zip(found.coefficients, found.timesteps, strict=False):
        x = torch.tensordot(torch.from_numpy(row[: len(terms)]), terms, 1)
        terms = torch.cat([terms, _bent(x, t)[None]])
    latents: torch.Tensor = torch.tensordot(torch.from_numpy(found.coefficients[-1]), terms, 1)
    return latents


@dataclass(frozen=True, slots=True)
class Ways:
    """How an entry runs; `reason` says why not, where a way is closed."""

    steps: bool  # step by step, as diffusers does it
    scan: bool  # its whole solve as one program
    reason: str = ""


def ways_of(found: Compatibility, scheduler_config: Mapping[str, Any]) -> Ways:
    """Step by step runs all that works with the checkpoint, as a whole what is deterministic and linear."""
    if found.status != "ok":
        return Ways(steps=False, scan=False, reason=found.reason)
    try:
        plan(resolve(found.entry, scheduler_config), _PROBE_STEPS)
    except NotLinearError as error:
        return Ways(steps=True, scan=False, reason=error.reason)
    except RegistryError as error:
        return Ways(steps=True, scan=False, reason=str(error))
    return Ways(steps=True, scan=True)
