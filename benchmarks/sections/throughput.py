"""Images per second, side by side and in turns: two loops as people write them against the packed engine.

Neither side writes files; both end with PIL images. A way of making images is a row of `WAYS`; a model is measured with
as many seeds as its section has time for.
"""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from schedcmp.checkpoint.optimize import optimize
from schedcmp.engine.lane import Lane
from schedcmp.engine.probe import replaced
from schedcmp.records import Cell
from sections.context import FOURTEEN, Context, Loaded
from sections.models import SD15, SD35, SDXL, Model

STEPS = 20
BATCH = 32  # rows, where a compiled model must know
COMPILED = ((SD15, "default"), (SD15, "reduce-overhead"), (SD35, "default"), (SD15, "regional"))  # in order of worth


@dataclass(frozen=True)
class Plan:
    """What to make of a model."""

    model: Model
    schedulers: tuple[str, ...] = FOURTEEN
    seeds: int = 8
    turns: int = 2
    dtype: torch.dtype = torch.float16


def loop(loaded: Loaded, cells: list[Cell]) -> int:
    """A new scheduler, one image, the next; one seed each, since every other would take as long."""
    first = [cell for cell in cells if cell.seed == 0]
    for cell in first:
        _call(loaded, cell, torch.Generator().manual_seed(cell.seed))
    return len(first)


def batched_loop(loaded: Loaded, cells: list[Cell]) -> int:
    """All seeds of a scheduler in one call of the pipeline."""
    for first in [cell for cell in cells if cell.seed == 0]:
        seeds = [cell.seed for cell in cells if cell.scheduler == first.scheduler]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        _call(loaded, first, generators, num_images_per_prompt=len(seeds))
    return len(cells)


def _call(loaded: Loaded, cell: Cell, generator: Any, **more: Any) -> None:
    with replaced(loaded.pipeline, "scheduler", loaded.recipes[cell.scheduler].build(cell.seed)):
        loaded.pipeline(
            cell.prompt, num_inference_steps=cell.steps, guidance_scale=cell.guidance_scale, generator=generator,
            width=cell.width, height=cell.height, **more,
        )  # fmt: skip


def packed(loaded: Loaded, cells: list[Cell], seen: dict[str, Any], **options: Any) -> int:
    engine, watch = loaded.packed(**options), Watch(loaded.context.cuda)
    pipeline = loaded.pipeline
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    with ExitStack() as stack:
        stack.enter_context(replaced(denoiser, "forward", watch.launching("forward", denoiser.forward)))
        stack.enter_context(replaced(pipeline.vae, "decode", watch.launching("decode", pipeline.vae.decode)))
        resume, Lane.resume = Lane.resume, watch.timed("lane", Lane.resume)  # type: ignore[method-assign]
        stack.callback(setattr, Lane, "resume", resume)
        failed = [r.error for r in engine.run(cells) if r.status == "failed"]
    assert not failed, failed[:3]
    done = engine.throughput
    seen |= {"rows_per_call": done.rows / done.forwards, "rows": done.rows, "occupancy": done.occupancy, **watch.read()}
    return len(cells)


class Watch:
    """How long the host takes to launch the models and to advance a lane, and how long the models' queue is empty."""

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self._host: dict[str, list[float]] = {}
        self._instants: list[tuple[Any, Any]] = []  # of the models, on the device

    def timed(self, name: str, function: Any) -> Any:
        taken = self._host.setdefault(name, [])

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken.append(time.perf_counter() - start)

        return timed

    def launching(self, name: str, function: Any) -> Any:
        timed = self.timed(name, function)

        @functools.wraps(function)
        def launching(*args: Any, **kwargs: Any) -> Any:
            if not self._cuda:
                return timed(*args, **kwargs)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            answer = timed(*args, **kwargs)
            end.record()
            self._instants.append((start, end))
            return answer

        return launching

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = {f"host_us_per_{name}": 1e6 * median(t) for name, t in self._host.items() if t}
        if not self._instants:
            return found
        self._instants[-1][1].synchronize()
        gaps = [before[1].elapsed_time(after[0]) for before, after in pairwise(self._instants)]
        span = self._instants[0][0].elapsed_time(self._instants[-1][1])
        places = sorted(range(len(gaps)), key=gaps.__getitem__, reverse=True)[:8]
        longest = [(i, round(gaps[i], 1)) for i in places]
        return found | {"models_idle_share": sum(gaps) / span, "calls": len(gaps) + 1, "longest_gaps_ms": longest}


def flops_per_row(loaded: Loaded) -> float:
    """Operations of the denoiser for one row, seen in a call of the pipeline's own."""
    pipeline = loaded.pipeline
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    found: list[float] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            answer = type(denoiser).forward(denoiser, *args, **kwargs)
        found.append(counter.get_total_flops() / len(answer[0]))
        return answer

    with replaced(denoiser, "forward", counting):
        loop(loaded, loaded.cells(["euler", "flow-euler"], 1, [0])[:1])
    return found[0]


def measured(plan: Plan, context: Context) -> dict[str, Any]:
    """Every way once to warm up, then in turns while there is time."""
    loaded = Loaded(plan.model, context, plan.dtype)
    seeds, steps, turns = (2, 3, 1) if context.small else (plan.seeds, STEPS, plan.turns)
    cells = loaded.cells(plan.schedulers[: 4 if context.small else None], steps, range(seeds))
    few = loaded.cells(plan.schedulers[:2], 2, range(seeds))
    seen: dict[str, Any] = {}
    ways = {"loop": loop, "batched": batched_loop, "packed": partial(packed, seen=seen)}
    per_row = flops_per_row(loaded)
    for way in ways.values():
        way(loaded, few)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    longest = 0.0
    for turn in range(turns):
        for name, way in ways.items():
            if turn and context.left < longest:
                break
            start = context.now()
            images = way(loaded, cells)
            longest = max(longest, context.now() - start)
            rates[name].append(images / (context.now() - start))
    peak = context.found.get("peak", {}).get(f"{str(plan.dtype).removeprefix('torch.')}_flops")
    flops_per_image = per_row * sum(map(loaded.cost, cells)) * 2 / len(cells)
    return {
        "cells": len(cells), "seeds": seeds, "steps": steps, "images_per_s": rates, "gflop_per_row": per_row / 1e9,
        **{f"{name}_of_peak": max(r) * flops_per_image / peak for name, r in rates.items() if peak and r},
        **{f"packed_over_{name}": max(rates["packed"]) / max(rates[name]) for name in ("loop", "batched")},
        **seen,
    }  # fmt: skip


def sd15(context: Context) -> dict[str, Any]:
    return measured(Plan(SD15), context)


def sdxl(context: Context) -> dict[str, Any]:
    return measured(Plan(SDXL, FOURTEEN[:1] + FOURTEEN[4:5] + FOURTEEN[8:9], seeds=8, turns=2), context)


def sd35(context: Context) -> dict[str, Any]:
    return measured(Plan(SD35, ("flow-euler", "unipc"), seeds=4, turns=1, dtype=torch.bfloat16), context)


def compiled(context: Context) -> dict[str, Any]:
    """With torch.compile, and with CUDA graphs, for both sides; what compiling takes is in `set_up_s`."""
    for model, mode in COMPILED[: 1 if context.small else None]:
        _compiled(Loaded(model, context, torch.bfloat16 if model.flow else torch.float16), mode)
        torch._dynamo.reset()
    return {}


def _compiled(loaded: Loaded, mode: str) -> None:
    context, seen = loaded.context, {}
    rows, seeds, steps = (4, 2, 2) if context.small else (BATCH, 8, STEPS)
    schedulers = ("flow-euler", "unipc") if loaded.model.flow else FOURTEEN[: 2 if context.small else None]
    ways = {"packed": partial(packed, seen=seen, max_batch=rows, fixed_shapes=True), "batched": batched_loop}
    few, cells = (loaded.cells(names, n, range(seeds)) for names, n in ((schedulers[:2], 2), (schedulers, steps)))
    with _uncompiled(context.small):
        optimize(loaded.pipeline, {"compile": mode}, str(context.device))
        for name, way in ways.items():
            if context.left < 0:
                return
            start = context.now()
            way(loaded, few)
            set_up, start = context.now() - start, context.now()
            images = way(loaded, cells)
            rate = {"images_per_s": images / (context.now() - start), "set_up_s": set_up}
            context.note(**{f"{loaded.model.name}_{mode}_{name}": rate | (seen if name == "packed" else {})})


def _uncompiled(small: bool) -> Any:
    """In a dry run: tracing these models takes longer than all else in it, compiling them for a CPU minutes."""
    return replaced(torch, "compile", lambda forward, **_: forward) if small else nullcontext()


def curve(context: Context) -> dict[str, Any]:
    """SD 1.5: what packing gains over the loop batched over seeds, by the number of seeds."""
    loaded = Loaded(SD15, context, torch.float16)
    for seeds in (1, 2) if context.small else (1, 2, 4, 16):
        cells = loaded.cells(FOURTEEN[: 3 if context.small else None], 2 if context.small else 10, range(seeds))
        packed(loaded, cells[:4], {})
        rates = {}
        for name, way in {"batched": batched_loop, "packed": partial(packed, seen={})}.items():
            start = context.now()
            rates[name] = way(loaded, cells) / (context.now() - start)
        context.note(**{str(seeds): rates | {"packed_over_batched": rates["packed"] / rates["batched"]}})
        if context.left < 0:
            break
    return {}
