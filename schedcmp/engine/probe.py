"""Watches one pipeline call: where its time goes, how often the denoiser runs, which latents reach the VAE."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import MethodType
from typing import Any, Literal

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.clock import Clock
from schedcmp.engine.guarded import function_of
from schedcmp.engine.result import Decoded
from schedcmp.records import Timing

Part = Literal["text", "denoiser", "scheduler", "vae"]

_SCHEDULER_METHODS = ("set_timesteps", "scale_model_input", "step")


@dataclass(slots=True)
class Observation:
    """What a probe saw. Instants are a `Clock`'s; read them after its `wait`."""

    spans: dict[Part, list[tuple[Any, Any]]] = field(
        default_factory=lambda: {"text": [], "denoiser": [], "scheduler": [], "vae": []}
    )
    decoded: Decoded = field(default_factory=Decoded)
    start: Any = None
    end: Any = None

    @property
    def nfe(self) -> int:
        """Denoiser evaluations; both halves of a batch for classifier-free guidance are one."""
        return len(self.spans["denoiser"])

    def timing(self, clock: Clock) -> Timing:
        """The observed instants as durations in seconds."""
        total = {part: sum(clock.seconds(*span) for span in spans) for part, spans in self.spans.items()}
        starts = [start for start, _ in self.spans["denoiser"]]
        after = [start for start, _ in self.spans["vae"]] or [self.end]
        edges = [*starts, after[0]]
        return Timing(
            latency_s=clock.seconds(self.start, self.end),
            text_s=total["text"],
            denoiser_s=total["denoiser"],
            scheduler_s=total["scheduler"],
            vae_s=total["vae"],
            step_s=tuple(clock.seconds(a, b) for a, b in pairwise(edges)),
        )


@contextmanager
def watch(pipeline: Any, clock: Clock) -> Iterator[Observation]:
    """Observe the calls that `pipeline` makes of its parts while the context is open; results are unchanged.

    The start is now and the end is when the context closes. The pipeline's scheduler must be its own.
    """
    seen = Observation()
    with ExitStack() as stack:
        for name in DENOISERS:
            _watch_module(getattr(pipeline, name, None), seen.spans["denoiser"], clock, stack)
        for name in [n for n in pipeline.components if n.startswith("text_encoder")]:
            _watch_module(getattr(pipeline, name), seen.spans["text"], clock, stack)
        for name in _SCHEDULER_METHODS:
            _watch_method(pipeline.scheduler, name, seen.spans["scheduler"], clock, stack)
        if getattr(pipeline, "vae", None) is not None:
            _watch_method(pipeline.vae, "decode", seen.spans["vae"], clock, stack, seen.decoded)
        clock.wait()
        seen.start = clock.now()
        yield seen
        seen.end = clock.now()
        clock.wait()


def _watch_module(module: Any, spans: list[tuple[Any, Any]], clock: Clock, stack: ExitStack) -> None:
    if not isinstance(module, torch.nn.Module):
        return
    started: list[Any] = []
    before = module.register_forward_pre_hook(lambda *_: started.append(clock.now()))
    after = module.register_forward_hook(lambda *_: spans.append((started.pop(), clock.now())))
    stack.callback(before.remove)
    stack.callback(after.remove)


def _watch_method(
    owner: Any,
    name: str,
    spans: list[tuple[Any, Any]],
    clock: Clock,
    stack: ExitStack,
    decoded: Decoded | None = None,
) -> None:
    """`decoded`: where to keep what it is given and what it makes of that."""
    if not hasattr(owner, name):
        return
    method = function_of(owner, name)

    @functools.wraps(method)  # pipelines inspect the signature of `step`
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = clock.now()
        result = method(*args, **kwargs)
        spans.append((start, clock.now()))
        if decoded:
            decoded.latents.append(args[1])
            decoded.pixels.append(result[0])
        return result

    stack.enter_context(replaced(owner, name, MethodType(timed, owner)))


@contextmanager
def replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Shadow a method on the instance while open; whatever was there before comes back."""
    attributes = vars(owner)
    before = {name: attributes[name]} if name in attributes else {}
    attributes[name] = value
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(before)
