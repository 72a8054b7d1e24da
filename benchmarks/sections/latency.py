"""Whether a solo latency is true: events against the wall clock, and whether watching a call makes it slower."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from schedcmp.engine.solo import Measuring, SoloEngine
from sections.context import Context, Loaded
from sections.models import SD15


def latency(context: Context) -> dict[str, Any]:
    loaded = Loaded(SD15, context, torch.float16 if context.cuda else torch.float32)
    (cell,) = loaded.cells(["euler"], 3 if context.small else 20, [0])
    repeats = 2 if context.small else 7
    engine, bench = SoloEngine(loaded.bench(), Measuring(repeats=1)), loaded.bench()
    list(engine.run([cell]))
    timed, wall, plain = [], [], []
    for _ in range(repeats):  # in turns
        start = context.now()
        (result,) = engine.run([cell])
        wall.append(context.now() - start)
        timed.append(result.timings[0])
        pipeline, arguments = bench.job(cell)
        start = context.now()
        pipeline(**arguments)
        plain.append(context.now() - start)
    parts = {p: median(getattr(t, f"{p}_s") for t in timed) for p in ("text", "denoiser", "scheduler", "vae")}
    return {
        "events_s": median(t.latency_s for t in timed), "unwatched_wall_s": median(plain),
        "wall_with_result_s": median(wall),
        "watched_over_unwatched": median(t.latency_s / p for t, p in zip(timed, plain, strict=True)), **parts,
        "step_s_range": [min(timed[0].step_s), max(timed[0].step_s)], "runs": repeats,
    }  # fmt: skip
