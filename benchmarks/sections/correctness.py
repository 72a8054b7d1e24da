"""Whether the device gives what it should: alone = diffusers' own, packed = alone, and flags where images are lost."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from schedcmp.engine.probe import replaced
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.records import Cell, CellResult
from sections.context import REGISTRY, Context, Loaded
from sections.models import TINY

STEPS = 5


def correctness(context: Context) -> dict[str, Any]:
    """Packed against alone also in fp32 proper: by default torch's convolutions are TF32, as coarse as fp16."""
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16" if context.small else "float16"):
        loaded = Loaded(TINY, context, getattr(torch, name))
        found[name] = {"not_bit_equal": unequal(loaded), "packed": distances(loaded, "cpu")}
        if name == "float32":
            with torch.backends.cudnn.flags(allow_tf32=False):
                found["float32 without TF32"] = {g: distances(loaded, g) for g in ("cpu", "device")}
    return found | {"overflow": overflow(Loaded(TINY, context, torch.float16 if context.cuda else torch.float32))}


def alone(loaded: Loaded, cells: list[Cell], generator: Any = "cpu") -> dict[str, CellResult]:
    engine = SoloEngine(loaded.bench(generator), Measuring(timed=False))
    return {result.cell.id: result for result in engine.run(cells)}


def unequal(loaded: Loaded) -> list[str]:
    """Entries whose image alone is not, bit for bit, the one that a careful user of diffusers makes."""
    names = [n for n, recipe in loaded.recipes.items() if recipe.cls.__module__.startswith("diffusers.")][
        : 2 if loaded.context.small else None
    ]
    cells = loaded.cells(names, STEPS, [0])
    ours = alone(loaded, cells)
    return [c.scheduler for c in cells if ours[c.id].image is None or ours[c.id].image != by_diffusers(loaded, c)]


def by_diffusers(loaded: Loaded, cell: Cell) -> Any:
    entry, pipeline = REGISTRY.entry(cell.scheduler), loaded.pipeline
    options = {**entry.unless, **entry.options, **entry.sigmas.where_taken, **entry.sigmas.options}
    options |= {entry.seed: cell.seed} if entry.seed else {}
    scheduler = getattr(diffusers, entry.class_name).from_config(pipeline.scheduler.config, **options)
    with replaced(pipeline, "scheduler", scheduler):
        return pipeline(
            cell.prompt, num_inference_steps=cell.steps, guidance_scale=cell.guidance_scale,
            generator=torch.Generator().manual_seed(cell.seed), width=cell.width, height=cell.height,
        ).images[0]  # fmt: skip


def distances(loaded: Loaded, generator: str) -> dict[str, Any]:
    """Packed against alone over the registry: the largest difference of the latents, in their standard deviations."""
    names = list(loaded.recipes)[: 2 if loaded.context.small else None]
    cells = loaded.cells(names, STEPS, range(2))
    expected, worst = alone(loaded, cells, generator), {}
    failed = {}
    for result in loaded.packed(generator=generator).run(cells):
        before = expected[result.cell.id]
        if result.latents is None or before.latents is None:
            failed[result.cell.scheduler] = (result.error, before.error)
            continue
        distance = float(abs(result.latents - before.latents).max() / before.latents.std())
        worst[result.cell.scheduler] = max(distance, worst.get(result.cell.scheduler, 0.0))
    largest = sorted(worst, key=worst.__getitem__, reverse=True)[:5]
    return {"entries": len(worst), "largest": {name: worst[name] for name in largest}, "failed": failed}


def overflow(loaded: Loaded) -> dict[str, Any]:
    """Latents that 16 bits hold and a VAE whose activations they do not: every image must be flagged."""
    weight = loaded.pipeline.vae.decoder.conv_in.weight
    with torch.no_grad():
        weight.mul_(1e4 if weight.dtype is torch.float16 else float("inf"))
    cells = loaded.cells(["euler"], 2, range(2))
    results = [*alone(loaded, cells).values(), *loaded.packed().run(cells)]
    return {"statuses": [result.status for result in results], "reason": results[0].error}
