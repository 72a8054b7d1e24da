"""A lane: a cell in flight, or several that differ by their seeds.

It is a greenlet that runs the pipeline's own `__call__` until that wants a model's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.calls.call import Call, bind, has_named_arguments
from schedcmp.engine.calls.joining import join
from schedcmp.engine.calls.signature import content_of
from schedcmp.engine.guarded import remembered
from schedcmp.engine.hosted import hosted
from schedcmp.engine.job import PARKED, Workbench
from schedcmp.engine.probe import replaced
from schedcmp.engine.processors import NOTHING
from schedcmp.engine.result import Decoded, failed, finished, made_by
from schedcmp.guard.foreign import contained
from schedcmp.records import Cell, CellResult

_ENCODERS = ("text_encoder", "image_encoder")


class Lane(greenlet):
    """Runs cells that differ by their seeds. `resume` returns the next parked call, or None when it has ended.

    Attributes:
        asked: how often it has called a denoiser.
        results: one for each cell; none if it had several and failed, since it may be the fault of one of them.
    """

    def __init__(self, bench: Workbench, *cells: Cell) -> None:
        super().__init__(self._work)
        self.cells = cells
        self.call: Call | None = None
        self.results: list[CellResult] = []
        self._bench = bench
        self.layers = bench.layers  # as they are before any lane has run
        self._own_random = bench.own_random(cells[0])
        self.asked = 0
        self._decoded = Decoded()

    def resume(self, answer: Any = None) -> Call | None:
        """Go on with a model's answer; with an exception as the answer, it is raised where the model was called."""
        with self._own_random():
            self.call = self.throw(answer) if isinstance(answer, Exception) else self.switch(answer)
        return self.call

    def _work(self, _: object) -> None:
        first, *more = self.cells
        try:
            with contained():
                pipeline, arguments = self._bench.job(*self.cells)
                remembered(hosted(pipeline.scheduler, self._bench.device), self._bench.coefficients)
                output = pipeline(**arguments)
            recipe = self._bench.recipes[first.scheduler]
            made = made_by(pipeline, output, self._decoded, self.asked, len(self.cells))
            results = [finished(cell, one, recipe) for cell, one in zip(self.cells, made, strict=True)]
        except Exception as error:  # anything a pipeline raises belongs to this cell alone
            self.layers.restore()
            results = [] if more else [failed(first, error)]
        self.results = [replace(result, packed=True) for result in results]

    def park(self, call: Call) -> Any:
        """Called inside the lane: hand a call to the engine and wait for its answer."""
        assert self.parent is not None
        return self.parent.switch(call)

    def note(self, call: Call) -> None:
        """Called inside the lane: what its result says of its calls, whoever answers them."""
        if call.target in DENOISERS:
            self.asked += 1
        elif call.target == "vae.decode":
            self._decoded.latents.append(next(iter(call.arguments.values())))

    def note_answer(self, call: Call, answer: Any) -> None:
        """Called inside the lane, like `note`."""
        if call.target == "vae.decode":
            self._decoded.pixels.append(answer[0])


Models = dict[str, Callable[..., Any]]


@contextmanager
def parking(pipeline: Any, at_once: Callable[[Call], None] = lambda call: None) -> Iterator[Models]:
    """While open, calls of the pipeline's models from inside a lane are parked; yields the real methods by target.

    Those that cannot be are answered at once, and `at_once` is told of them. Text encoders and the VAE's encoder answer
    at once from a memo: a sweep has few prompts and images, and each is encoded once.
    """
    models: Models = {}
    changed = _changes([getattr(pipeline, name, None) for name in PARKED])
    with ExitStack() as stack:
        for name in PARKED:
            method, target = ("decode", "vae.decode") if name == "vae" else ("forward", name)
            owner = getattr(pipeline, name, None)
            real = getattr(owner, method, None)
            if real is not None and has_named_arguments(real):
                models[target] = real
                stack.enter_context(replaced(owner, method, _parked(real, name, target, owner, changed, at_once)))
        for name in pipeline.components:
            module = getattr(pipeline, name)
            if name.startswith(_ENCODERS) and isinstance(module, torch.nn.Module):
                stack.enter_context(replaced(module, "forward", _remembered(module.forward)))
        if hasattr(getattr(pipeline, "vae", None), "encode"):  # what is random of it is drawn from its answer
            stack.enter_context(replaced(pipeline.vae, "encode", _remembered(pipeline.vae.encode)))
        # With model offload, every ending lane would take the models away from the others
        stack.enter_context(replaced(pipeline, "maybe_free_model_hooks", lambda: None))
        yield models


def _parked(
    real: Callable[..., Any],
    component: str,
    target: str,
    owner: Any,
    changed: Callable[[], bool],
    at_once: Callable[[Call], None],
) -> Callable[..., Any]:
    @wraps(real)  # some pipelines read the signature
    def parked(*args: Any, **kwargs: Any) -> Any:
        lane = getcurrent()
        if not isinstance(lane, Lane):
            return real(*args, **kwargs)
        untouched = lane.layers.untouched
        put_in = NOTHING if untouched else lane.layers.put_in(component)
        call = Call(target, _without_unused(target, owner, bind(real, args, kwargs)), len(lane.cells), put_in)
        lane.note(call)
        if changed() or (put_in.of and put_in.know_their_image):
            answer = real(**join([call]))
            at_once(call)
        elif untouched:
            answer = lane.park(call)
        else:
            with lane.layers.restored():
                answer = lane.park(call)
        lane.note_answer(call, answer)
        return answer

    return parked


def _changes(parts: Iterable[Any]) -> Callable[[], bool]:
    """Whether the models' weights are no longer as they were: Stable Diffusion XL casts an fp16 VAE to fp32 and back.

    A lane that has done so must neither share a batch nor let another lane go on before it has put things right, so its
    calls are answered at once.
    """
    models = [part for part in parts if isinstance(part, torch.nn.Module)]
    # Of each the first, if it has any: looking for it takes longer than asking for its dtype
    firsts = (next(((m, name) for m in model.modules() for name in m._parameters), None) for model in models)
    weights = [(*first, _dtype(*first)) for first in firsts if first]
    return lambda: any(_dtype(owner, name) is not before for owner, name, before in weights)


def _dtype(owner: torch.nn.Module, name: str) -> torch.dtype | None:
    weight = owner._parameters[name]
    return None if weight is None else weight.dtype


def _without_unused(target: str, owner: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """AutoencoderKL.decode takes a generator and does not use it; each lane has another, which would split batches."""
    if target == "vae.decode" and type(owner).__name__ in ("AutoencoderKL", "AutoencoderTiny"):
        arguments.pop("generator", None)
    return arguments


def _remembered(forward: Callable[..., Any]) -> Callable[..., Any]:
    memo: dict[Any, Any] = {}

    @wraps(forward)  # transformers reads the signature
    def remembering(*args: Any, **kwargs: Any) -> Any:
        call = Call("text", bind(forward, args, kwargs))
        try:
            key = content_of(call.arguments)
        except TypeError:
            return forward(*args, **kwargs)
        if key not in memo:
            memo[key] = forward(*args, **kwargs)
        return memo[key]

    return remembering
