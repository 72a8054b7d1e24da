"""JAX on the device, where its wheel is there: one evaluation of the UNet, and a packed run."""

from __future__ import annotations

from typing import Any

import torch

from sections.context import FOURTEEN, Context, Loaded
from sections.models import TINY


def on_jax(context: Context) -> dict[str, Any]:
    try:
        import jax

        from schedcmp.backend.handover import hand_over
    except ImportError as error:
        return {"skipped": str(error)}
    loaded = Loaded(TINY, context, torch.float32)
    expected, start = {}, context.now()
    cells = loaded.cells(FOURTEEN[4:8], 4, range(4))
    expected = {r.cell.id: r.latents for r in loaded.packed(max_batch=16).run(cells)}
    found = {"torch_s": context.now() - start, "devices": [str(d) for d in jax.devices()]}
    hand_over(loaded.pipeline, "steps")
    for run in ("first_s", "jax_s"):
        start = context.now()
        results = list(loaded.packed(max_batch=16).run(cells))
        found[run] = context.now() - start
    apart = [float(abs(r.latents - expected[r.cell.id]).max() / expected[r.cell.id].std()) for r in results]
    return found | {"largest_difference": max(apart)}
