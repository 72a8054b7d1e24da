"""A whole solve as one compiled program, in a pipeline that takes it for one evaluation of its denoiser.

In a lane the pipeline has a scheduler of one step, whose "prediction" is the solve's result. Its denoiser's call
carries the initial noise, the prompt and the cell's coefficients (`backend.linear`) as data, so that solves of
different schedulers fit one batch and one compilation. Classifier-free guidance happens inside; the pipeline is given
the result for both halves of its batch, of which its own guidance makes the same again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from schedcmp.backend.denoiser import Network, OnAllDevices, refuse_others
from schedcmp.backend.linear import LinearPlan, plan
from schedcmp.engine.job import Workbench
from schedcmp.records import Cell

_FEWEST = 32  # evaluations that a program has room for; more in powers of two, so that few are compiled


@dataclass(frozen=True)
class SolvingWorkbench(Workbench):
    """Makes jobs whose denoiser is called once, for the whole solve."""

    _plans: dict[tuple[str, int], LinearPlan] = field(default_factory=dict)

    @property
    def makes_several(self) -> bool:
        """No: each image has a call of its own, once, so there is nothing to share."""
        return False

    def job(self, *cells: Cell) -> tuple[Any, dict[str, Any]]:
        """As Workbench's, for one cell. Raises RegistryError: the cell's scheduler is not linear."""
        (cell,) = cells
        pipeline, arguments = super().job(cell)
        key = (cell.scheduler, cell.steps)
        if key not in self._plans:
            self._plans[key] = plan(self.recipes[cell.scheduler], cell.steps)
        solve = self._plans[key]
        # Not by setattr, which would change the pipeline's config
        vars(pipeline)["scheduler"] = OneStep(pipeline.scheduler.config, solve.timesteps)
        vars(pipeline)["unet"] = WholeSolve(pipeline.unet, solve, cell.guidance_scale)
        return pipeline, arguments

    def warm_up(self, cell: Cell) -> Cell:
        """The cell itself: fewer evaluations may be another program."""
        return cell


class OneStep:
    """What a pipeline's loop asks of a scheduler, where the prediction is the result.

    Attributes:
        visited: the timesteps at which the solve evaluates the denoiser.
    """

    order = 1
    init_noise_sigma = 1.0  # the plan's coefficients are those of unit noise

    def __init__(self, config: Any, visited: tuple[float, ...]) -> None:
        self.config = config
        self.visited = visited

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        self.timesteps = torch.tensor(self.visited[:1], device=device)

    def scale_model_input(self, sample: torch.Tensor, timestep: Any) -> torch.Tensor:
        return sample

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = False
    ) -> tuple[torch.Tensor]:
        return (model_output,)


class WholeSolve(torch.nn.Module):
    """A cell's denoiser: makes of what a pipeline gives it, for one image, a call that fits a batch with others."""

    def __init__(self, solver: Any, solve: LinearPlan, guidance_scale: float) -> None:
        super().__init__()
        self.solver = solver
        self._solve = solve
        self._guidance_scale = guidance_scale

    def __getattr__(self, name: str) -> Any:
        """Pipelines ask for the UNet's config, dtype and, XL's, for its layers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("solver"), name)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: Any,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        added_cond_kwargs: Mapping[str, torch.Tensor] | None = None,
        return_dict: bool = False,
        **others: Any,
    ) -> tuple[torch.Tensor]:
        """sample (G, C, h, w), the same noise for each of G branches: without and with the prompt, or 1 of them."""
        refuse_others(others)
        branches = len(sample)
        coefficients, timesteps = _padded(self._solve)
        guided = {"states": encoder_hidden_states, "condition": timestep_cond, "added": added_cond_kwargs}
        latents = self.solver(
            sample[:1],
            guidance=torch.tensor([self._guidance_scale]),
            coefficients=coefficients,
            visited=timesteps,
            evaluations=self._solve.nfe,
            **{name: _for_one_image(value) for name, value in guided.items()},
        )
        return (latents.expand(branches, *latents.shape[1:]),)


class Solver:
    """Stands in for the UNet's forward: one row per image. (B, C, h, w) of unit noise → final latents."""

    def __init__(self, on_devices: OnAllDevices) -> None:
        self._on_devices = on_devices

    def __call__(self, sample: torch.Tensor, evaluations: int, **rows: Any) -> torch.Tensor:
        return self._on_devices({"noise": sample, **rows}, evaluations)


def solved(
    network: Network,
    weights: Any,
    evaluations: jax.Array,
    *,
    noise: jax.Array,
    guidance: jax.Array,
    coefficients: jax.Array,
    visited: jax.Array,
    **conditions: Any,
) -> jax.Array:
    """Solve for B images.

    Args:
        evaluations: of the denoiser, for all of them; not known when this is compiled, so one program does any number.
        noise: (B, C, h, w), unit variance.
        guidance: (B,), classifier-free guidance scales.
        coefficients: (B, P + 1, P + 1), `linear.Plan`'s, with room for P evaluations.
        visited: (B, P), timesteps.
        conditions: the network's, (B, G, ...) for G branches: without and with the prompt, or only with it.

    Returns:
        (B, C, h, w), in the dtype of `noise`
    """
    start = jnp.moveaxis(noise, 1, -1).astype(jnp.float32)
    rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), conditions)
    branches = conditions["states"].shape[1]
    known = jnp.zeros((len(start), coefficients.shape[1], *start.shape[1:])).at[:, 0].set(start)

    def total(k: Any, known: jax.Array) -> jax.Array:
        """Row k of the coefficients, times the noise and the predictions before."""
        return jnp.einsum("bj,bj...->b...", coefficients[:, k], known, precision="highest")

    def evaluate(k: Any, known: jax.Array) -> jax.Array:
        x = total(k, known).astype(noise.dtype).repeat(branches, 0)
        answer = network(weights, x, visited[:, k].repeat(branches), **rows).astype(jnp.float32)
        answer = answer.reshape(-1, branches, *answer.shape[1:])
        alone, prompted = answer[:, 0], answer[:, -1]
        scale = guidance.reshape(-1, 1, 1, 1)
        # Ho & Salimans 2022 (arXiv:2207.12598), as diffusers writes it
        return known.at[:, k + 1].set(alone + scale * (prompted - alone) if branches > 1 else prompted)

    known = jax.lax.fori_loop(0, evaluations, evaluate, known)
    return jnp.moveaxis(total(evaluations, known), -1, 1).astype(noise.dtype)


def _padded(solve: LinearPlan) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (1, P + 1, P + 1) and timesteps (1, P) with room for a round number of evaluations."""
    room = max(_FEWEST, 1 << (solve.nfe - 1).bit_length()) - solve.nfe
    coefficients = np.pad(solve.coefficients, (0, room)).astype(np.float32)
    timesteps = np.pad(solve.timesteps, (0, room)).astype(np.float32)
    return torch.from_numpy(coefficients)[None], torch.from_numpy(timesteps)[None]


def _for_one_image(value: Any) -> Any:
    """A pipeline's rows as branches of one image. (G, ...) → (1, G, ...)"""
    if isinstance(value, Mapping):
        return {name: _for_one_image(part) for name, part in value.items()}
    return None if value is None else value[None]
