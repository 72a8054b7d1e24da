"""What a sampler function takes, read from its signature, and a trial of it on data whose denoiser is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from schedcmp.errors import RegistryError
from schedcmp.samplers.running import Noise

SamplerFunction = Callable[..., Tensor]

# What the adapter gives a function that asks for it by name; every other argument with a default is an option.
_GIVEN = {"sigmas", "sigma_min", "sigma_max", "n", "extra_args", "callback", "disable", "noise_sampler"}

_MOST_EVALUATIONS = 20_000  # of a trial


@dataclass(frozen=True)
class Trial:
    """What a function did when it was tried."""

    sigmas: tuple[float, ...]  # where it evaluated the model
    drew_noise: bool
    began_at_start: bool  # evaluated first at the x that it was given


@dataclass(frozen=True)
class Contract:
    """A sampler function with what it takes."""

    function: SamplerFunction
    takes: frozenset[str]  # of what the adapter gives
    options: Mapping[str, Any]  # name → default

    @property
    def adaptive(self) -> bool:
        """Whether its evaluations depend on the data: it has neither levels nor a number of steps to go by."""
        return not self.takes & {"sigmas", "n"} or bool(getattr(self.function, "adaptive", False))

    def call(self, model: Any, x: Tensor, sigmas: Tensor, noise: Noise, options: Any) -> Tensor:
        """Run the function on falling `sigmas` (N + 1,), of which the last may be 0."""
        positive = sigmas[sigmas > 0]
        given: dict[str, Any] = {
            "sigmas": sigmas.to(x.device),
            "sigma_min": float(positive[-1]),
            "sigma_max": float(positive[0]),
            "n": len(sigmas) - 1,
            "extra_args": {},
            "callback": None,
            "disable": True,  # of the progress bar
            "noise_sampler": lambda sigma, sigma_next: noise(level(sigma), level(sigma_next)),
        }
        return self.function(model, x, **{name: given[name] for name in self.takes}, **options)

    def try_on(self, sigmas: Tensor, options: Any, denoise: Callable[[Tensor, float], Any]) -> Trial:
        """Run the function on a small x with a known denoiser; torch's global generators stay as they are."""
        noise = Noise(torch.Generator().manual_seed(0), torch.empty(1, 4, 8, 8))
        with torch.no_grad(), noise.in_charge():
            x = noise.draw() * sigmas[0]
            before = torch.get_rng_state()
            model = _Recorder(denoise)
            end = self.call(model, x, sigmas, noise, options)
            drew = noise.drawn > 1 or not torch.equal(before, torch.get_rng_state())
        if not model.sigmas:
            raise ValueError("the sampler function never calls its model")
        if getattr(end, "shape", None) != x.shape:
            found = tuple(end.shape) if isinstance(end, Tensor) else type(end).__name__
            raise ValueError(f"the sampler function returns {found} for latents of shape {tuple(x.shape)}")
        return Trial(tuple(model.sigmas), drew, model.first is not None and torch.equal(model.first, x))


class _Recorder:
    def __init__(self, denoise: Callable[[Tensor, float], Tensor]) -> None:
        self._denoise = denoise
        self.sigmas: list[float] = []
        self.first: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        self.first = x.clone() if self.first is None else self.first
        self.sigmas.append(level(sigma))
        if len(self.sigmas) > _MOST_EVALUATIONS:
            raise ValueError(f"the sampler function has not ended after {_MOST_EVALUATIONS} evaluations")
        self.unconditional = self._denoise(x, self.sigmas[-1])
        return self.unconditional


def level(sigma: Any) -> float:
    """The noise level of a call: a number, or a tensor with one for each row, which are all the same."""
    return float(sigma.reshape(-1)[0]) if isinstance(sigma, Tensor) else float(sigma)


def read(function: SamplerFunction) -> Contract:
    """The function's contract.

    Raises:
        RegistryError: it is not a sampler function, or needs an argument that nobody can give.
    """
    where = f"{function.__module__}.{function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())[2:]
    if not {"sigmas", "sigma_max"} & {p.name for p in parameters}:
        raise RegistryError(f"{where} is not a scheduler class, nor a sampler function (model, x, sigmas, ...)")
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.name not in _GIVEN and p.default is p.empty]
    if missing:
        raise RegistryError(
            f"the sampler function {where} needs {', '.join(missing)}; give it a default to be an option"
        )
    options = {p.name: p.default for p in named if p.name not in _GIVEN}
    return Contract(function, frozenset(p.name for p in named if p.name in _GIVEN), options)
