"""A lane: one cell in flight, as a greenlet that runs the pipeline's own `__call__` until it wants a model's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from schedcmp.engine.call import Call, bind, named
from schedcmp.engine.job import Workbench
from schedcmp.engine.probe import DENOISERS, replaced
from schedcmp.engine.result import Made, failed, finished
from schedcmp.records import Cell, CellResult


class Lane(greenlet):
    """Runs one cell. `resume` returns its next parked call, or None when it has ended with a `result`."""

    def __init__(self, bench: Workbench, cell: Cell) -> None:
        super().__init__(self._work)
        self.cell = cell
        self.call: Call | None = None
        self.result: CellResult | None = None
        self._bench = bench
        self._nfe = 0
        self._latents: torch.Tensor | None = None  # what the VAE was given

    def resume(self, answer: Any = None) -> Call | None:
        """Go on with a model's answer; with an exception as the answer, it is raised where the model was called."""
        self.call = self.throw(answer) if isinstance(answer, Exception) else self.switch(answer)
        return self.call

    def _work(self, _: object) -> None:
        try:
            pipeline, arguments = self._bench.job(self.cell)
            output = pipeline(**arguments)
            timesteps = tuple(float(t) for t in pipeline.scheduler.timesteps)
            config = self._bench.recipes[self.cell.scheduler].config
            self.result = finished(self.cell, Made(output, self._latents, self._nfe, timesteps), config)
        except Exception as error:  # anything a pipeline raises belongs to this cell alone
            self.result = failed(self.cell, error)

    def park(self, call: Call) -> Any:
        """Called inside the lane: hand a call to the engine and wait for its answer."""
        if call.target in DENOISERS:
            self._nfe += 1
        elif call.target == "vae.decode":
            self._latents = next(iter(call.arguments.values()))
        assert self.parent is not None
        return self.parent.switch(call)


Models = dict[str, Callable[..., Any]]


@contextmanager
def parking(pipeline: Any) -> Iterator[Models]:
    """While open, calls of the pipeline's models from inside a lane are parked; yields the real methods by target.

    Text encoders answer at once from a memo: a sweep has few prompts, and each is encoded once.
    """
    models: Models = {}
    with ExitStack() as stack:
        for name in DENOISERS:
            _park(pipeline, name, "forward", name, models, stack)
        _park(pipeline, "vae", "decode", "vae.decode", models, stack)
        for name in pipeline.components:
            module = getattr(pipeline, name)
            if name.startswith("text_encoder") and isinstance(module, torch.nn.Module):
                stack.enter_context(replaced(module, "forward", _remembered(module.forward)))
        yield models


def _park(pipeline: Any, component: str, method: str, target: str, models: Models, stack: ExitStack) -> None:
    owner = getattr(pipeline, component, None)
    real = getattr(owner, method, None)
    if real is None or not named(real):
        return
    models[target] = real

    def parked(*args: Any, **kwargs: Any) -> Any:
        lane = getcurrent()
        if not isinstance(lane, Lane):
            return real(*args, **kwargs)
        return lane.park(Call(target, _without_unused(target, owner, bind(real, args, kwargs))))

    stack.enter_context(replaced(owner, method, parked))


def _without_unused(target: str, owner: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """AutoencoderKL.decode takes a generator and does not use it; each lane has another, which would split batches."""
    if target == "vae.decode" and type(owner).__name__ in ("AutoencoderKL", "AutoencoderTiny"):
        arguments.pop("generator", None)
    return arguments


def _remembered(forward: Callable[..., Any]) -> Callable[..., Any]:
    memo: dict[Any, Any] = {}

    def remembering(*args: Any, **kwargs: Any) -> Any:
        call = Call("text", bind(forward, args, kwargs))
        key = tuple((name, _key(value)) for name, value in call.arguments.items())
        if key not in memo:
            memo[key] = forward(*args, **kwargs)
        return memo[key]

    return remembering


def _key(value: Any) -> Any:
    return (value.shape, tuple(value.flatten().tolist())) if isinstance(value, torch.Tensor) else repr(value)
