"""Memory against rows, running out of it, and the options that save it."""

from __future__ import annotations

from typing import Any

import torch

from schedcmp.checkpoint.optimize import optimize
from schedcmp.engine.clock import PeakMemory
from sections.context import Context, Loaded
from sections.correctness import alone
from sections.models import SD15

ROWS = (2, 8, 16, 32, 64, 128)


def memory(context: Context) -> dict[str, Any]:
    return {"peak_bytes": by_rows(context), "options": by_option(context), "out_of_memory": survived(context)}


def by_rows(context: Context) -> dict[int, int | None]:
    loaded, found = Loaded(SD15, context, torch.float16 if context.cuda else torch.float32), {}
    meter = PeakMemory(context.device)
    for rows in ROWS[: 2 if context.small else None]:
        meter.reset()
        list(loaded.packed(max_batch=rows).run(loaded.cells(["euler"], 2, range(max(1, rows // 2)))))
        found[rows] = meter.read()
    return found


def by_option(context: Context) -> dict[str, Any]:
    """Peak memory and seconds of eight images in one batch."""
    found = {}
    meter = PeakMemory(context.device)
    for name in (None, "vae_slicing", "vae_tiling", "offload"):
        loaded = Loaded(SD15, context, torch.float16 if context.cuda else torch.float32)
        if name == "offload":
            loaded.pipeline.to("cpu")
        optimize(loaded.pipeline, {name: True} if name else {}, str(context.device))
        cells = loaded.cells(["euler"], 4, range(2 if context.small else 8))
        list(loaded.packed(max_batch=16).run(cells[:1]))
        meter.reset()
        start = context.now()
        results = list(loaded.packed(max_batch=16).run(cells))
        found[name or "none"] = {
            "seconds": context.now() - start, "peak_bytes": meter.read(),
            "failed": sum(r.image is None for r in results),
        }  # fmt: skip
    return found


def survived(context: Context) -> dict[str, Any]:
    """So little memory that a batch cannot run: the cells must be made nevertheless, and be what they are alone."""
    if not context.cuda:
        return {"skipped": "a CPU's memory is not limited for one process"}
    loaded = Loaded(SD15, context, torch.float16)
    cells = loaded.cells(["euler", "heun"], 3, range(8))
    expected = alone(loaded, cells)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(context.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 3 * 2**30) / total, context.device)
    try:
        engine = loaded.packed(max_batch=128)
        results = list(engine.run(cells))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, context.device)
    far = [float(abs(r.latents - expected[r.cell.id].latents).max()) for r in results if r.latents is not None]
    return {"made": len(far), "of": len(cells), "rows": engine.throughput.max_batch, "largest_difference": max(far)}
