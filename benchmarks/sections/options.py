"""What the options for speed gain on this device: for the loop batched over seeds, and packed."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from schedcmp.checkpoint.optimize import optimize
from sections.context import FOURTEEN, Context, Loaded
from sections.models import FLUX, SD15, SDXL, Model
from sections.throughput import batched_loop, packed

# Name: model, dtype, option
ROWS: dict[str, tuple[Model, torch.dtype, dict[str, Any]]] = {
    "flux bf16": (FLUX, torch.bfloat16, {}),
    "flux bf16 native flash": (FLUX, torch.bfloat16, {"attention": "_native_flash"}),
    "flux bf16 native cudnn": (FLUX, torch.bfloat16, {"attention": "_native_cudnn"}),
    "sd15 fp16": (SD15, torch.float16, {}),
    "sd15 fp16 channels_last": (SD15, torch.float16, {"channels_last": True}),
    "sd15 bf16 channels_last": (SD15, torch.bfloat16, {"channels_last": True}),
    "sdxl fp16 channels_last": (SDXL, torch.float16, {"channels_last": True}),
    "sd15 fp32 tf32": (SD15, torch.float32, {"tf32": True}),
    "sd15 fp32": (SD15, torch.float32, {}),
}


def options(context: Context) -> dict[str, Any]:
    for name, (model, dtype, option) in ROWS.items():
        if context.left < 0:
            break
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False  # torch's default is True, which fp32 of the option's own is not
        try:
            context.note(**{name: rate(Loaded(model, context, dtype), option)})
        except Exception as error:  # one that this device lacks
            context.note(**{name: f"{type(error).__name__}: {error}"})
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]
    return {}


def rate(loaded: Loaded, option: dict[str, Any]) -> dict[str, float]:
    """Images per second, 8 steps each."""
    optimize(loaded.pipeline, option, str(loaded.context.device))
    schedulers = FOURTEEN[4:8] if loaded.model is SD15 else ("euler", "flow-euler")
    seeds = 2 if loaded.context.small else 8
    cells = loaded.cells(schedulers, 2 if loaded.context.small else 8, range(seeds))
    found = {}
    for name, way in {"batched": batched_loop, "packed": partial(packed, seen={}, max_batch=32)}.items():
        way(loaded, cells[:seeds])
        start = loaded.context.now()
        found[name] = way(loaded, cells) / (loaded.context.now() - start)
    return found
