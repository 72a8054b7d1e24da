"""What a sampler function's scheduler does in a pipeline's loop, whatever the checkpoint's noise is like.

The function waits in a greenlet at every call of its model; `step` answers it and returns the x of its next call. What
the loop visits is found by trying the function on Gaussian data, whose denoiser is known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput
from torch import Tensor

from schedcmp.samplers.contract import Contract, Trial, level
from schedcmp.samplers.coordinates import OWN, Coordinates
from schedcmp.samplers.running import Generators, Noise, Sampling


class LazyTimesteps(Sequence[Tensor]):
    """Timesteps of a function whose evaluations depend on the data: those of its trial until it starts, then those
    that it visits, which a loop follows to the end. The length stays the trial's."""

    def __init__(self, estimate: Tensor) -> None:
        self._estimate = estimate
        self.visited: list[Tensor] = []

    def __getitem__(self, index: Any) -> Any:
        return (self.visited or self._estimate)[index]

    def __len__(self) -> int:
        return len(self._estimate)

    def __getattr__(self, name: str) -> Any:
        """What a tensor can do is done with the estimate (`add_noise` looks for its level there)."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._estimate, name)


class SamplerScheduler:
    """What both adapters share. Subclasses say how the model's output becomes a denoised estimate.

    Attributes:
        coordinates: what the function takes for latents and levels.
        generator: where the function's noise comes from until `step` is given one.
        schedule: the levels that it is given (N + 1,); `sigmas` has one for each evaluation, and the last.
        unconditional_output: from the guided model output to the one without the prompt, for functions that need it;
            without it both are the same, as they are without guidance.
    """

    contract: ClassVar[Contract]
    needs_unconditional: ClassVar[bool]
    _trials: ClassVar[dict[tuple[Any, ...], Trial]]

    config: Any
    schedule: Tensor
    sigmas: Tensor
    timesteps: Any

    coordinates: Coordinates = OWN
    generator: Generators = None
    unconditional_output: Callable[[Tensor], Tensor] | None = None
    _run: Sampling | None = None
    _begin_index: int | None = None
    _step_index: int | None = None

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> Any:
        """Answer the function's call of its model, and return the x of its next one, or its result.

        Raises:
            RuntimeError: the function goes other ways than when it was tried.
        """
        run = self._run or self._begin(sample, timestep)
        if generator is not None and generator is not run.noise.generator:
            run.noise.generator = generator
            run.noise.seed()
        assert run.x is not None
        assert self._step_index is not None
        first = self._step_index == (self._begin_index or 0)
        here = self.coordinates
        # A pipeline may have changed it (inpainting)
        x = run.x * here.scale(run.sigma) if first else sample.to(run.x.dtype)
        sigma = torch.tensor(here.level(run.sigma))
        denoised = self._denoised(model_output.to(x.dtype), x, sigma)
        if self.needs_unconditional:
            alone = self.unconditional_output(model_output) if self.unconditional_output else model_output
            run.model.unconditional = self._denoised(alone.to(x.dtype), x, sigma)
        run.go_on(denoised)
        self._step_index += 1
        self._arrived(run)
        at = here.sigma(float(self.schedule[-1])) if run.sigma is None else run.sigma
        previous = (run.x * here.scale(at)).to(model_output.dtype)
        return EulerDiscreteSchedulerOutput(previous, denoised) if return_dict else (previous, denoised)

    def _denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError

    def _coordinates(self, schedule: Tensor) -> Coordinates:
        """Which coordinates the function takes on this schedule."""
        return OWN

    def _ideal(self, x: Tensor, sigma: float) -> Tensor:
        """The denoised estimate for data that is standard normal, in the model's coordinates."""
        raise NotImplementedError

    def _timestep(self, sigma: float) -> float:
        raise NotImplementedError

    def _plan(self) -> None:
        """After `set_timesteps` of the base class: what it planned are the function's sigmas."""
        self._run = None
        self.schedule = self.sigmas.cpu()
        if not (self.schedule[:-1].diff() < 0).all():
            raise ValueError("two of the noise levels are equal, a step of no length; ask for fewer steps")
        self._known = dict(zip(self.schedule.tolist(), self.timesteps.tolist(), strict=False))
        self.coordinates = self._coordinates(self.schedule)
        self.schedule = self.coordinates.begun(self.schedule)
        evaluated = self._tried(self.schedule).sigmas
        levels = [*map(self._level, evaluated), float(self.schedule[-1])]
        self.sigmas = torch.tensor(levels)  # one for each evaluation; on the host, which compares them at each
        visited = [self._timestep(sigma) for sigma in levels[:-1]]
        timesteps = torch.tensor(visited, dtype=torch.float32, device=self.timesteps.device)
        self.timesteps = LazyTimesteps(timesteps) if self.contract.adaptive else timesteps
        self.order = -(-len(visited) // (len(self.schedule) - 1))  # evaluations per step, for image-to-image

    def _level(self, sigma: float) -> float:
        """The model's level of the function's; one of the schedule's is exactly that."""
        found = self.coordinates.level(sigma)
        if found == sigma:
            return found
        nearest = float(self.schedule[(self.schedule - found).abs().argmin()])
        return nearest if math.isclose(nearest, found, rel_tol=1e-6) else found

    def _tried(self, schedule: Tensor, coordinates: Coordinates | None = None) -> Trial:
        """A trial on these levels, in the function's coordinates unless others are given."""
        here = coordinates or self.coordinates
        key = (here.name, repr(self._options), *schedule.tolist())
        if key not in self._trials:
            self._trials[key] = self.contract.try_on(here.sigmas(schedule), self._options, here.denoiser(self._ideal))
        return self._trials[key]

    @property
    def _options(self) -> dict[str, Any]:
        return {name: self.config[name] for name in self.contract.options}

    def _begin(self, sample: Tensor, timestep: float | Tensor) -> Sampling:
        """Run the function to its first call of the model. `sample`: (B, ...), the pipeline's latents."""
        schedule = self._schedule_from(timestep)
        x = sample.float() if sample.dtype in (torch.float16, torch.bfloat16) else sample
        schedule = self.coordinates.sigmas(schedule)
        x = x / self.coordinates.scale(float(schedule[0]))
        noise = Noise(self.generator, x)
        contract, options = self.contract, self._options  # not self: the function would keep its own greenlet alive
        run = self._run = Sampling(lambda model: contract.call(model, x, schedule, noise, options), noise)
        run.go_on(run.model)
        self._arrived(run)
        return run

    def _schedule_from(self, timestep: float | Tensor) -> Tensor:
        """The levels from where the pipeline begins: the first, or a later one (image-to-image)."""
        if self._begin_index is None:
            starts = [i for i, t in enumerate(self.timesteps) if float(t) == float(timestep)]
            self._begin_index = starts[0] if starts else 0
        self._step_index = self._begin_index
        if not self._begin_index:
            return self.schedule
        start = self.sigmas[self._begin_index]
        schedule = torch.cat([start[None], self.schedule[self.schedule < start]])
        rest = [*map(self.coordinates.level, self._tried(schedule).sigmas)]
        planned = self.sigmas[self._begin_index : -1]
        if self.contract.adaptive or len(rest) != len(planned) or not np.allclose(rest, planned):
            raise RuntimeError(f"{type(self).__name__} cannot begin in the middle of its steps")
        return schedule

    def _arrived(self, run: Sampling) -> None:
        """Look where the function waits now."""
        assert self._step_index is not None
        if run.sigma is not None:
            run.sigma = level(run.sigma)
        if isinstance(self.timesteps, LazyTimesteps):
            if run.sigma is not None:
                t = self._timestep(self.coordinates.level(run.sigma))
                visited = torch.tensor(t, device=self.timesteps.device)
                self.timesteps.visited.append(visited)
            return
        ended = self._step_index == len(self.timesteps)
        planned = None if ended else float(self.sigmas[self._step_index])
        at = None if run.sigma is None else self.coordinates.level(run.sigma)
        if not math.isclose(at or 0, planned or 0, rel_tol=1e-3):
            raise RuntimeError(
                f"{type(self).__name__} evaluates where it did not when it was tried (sigma {at}, expected "
                f"{planned}); if that depends on the data, set the function's attribute `adaptive` to True"
            )
