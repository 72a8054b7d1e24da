"""What the device can do at best: a large matrix product in each dtype, and a copy."""

from __future__ import annotations

from typing import Any

import torch

from sections.context import Context


def seconds(context: Context, work: Any, repeats: int) -> float:
    """The median of some runs, after three that are not counted."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(repeats):
        start = context.now()
        work()
        taken.append(context.now() - start)
    return sorted(taken)[len(taken) // 2]


def peak(context: Context) -> dict[str, Any]:
    size, repeats = (256, 3) if context.small else (8192, 20)
    found: dict[str, Any] = {"size": size}
    for name in ("bfloat16", "float16", "float32"):
        a, b = (torch.randn(size, size, device=context.device).to(getattr(torch, name)) for _ in range(2))
        found[f"{name}_flops"] = 2 * size**3 / seconds(context, lambda a=a, b=b: a @ b, repeats)
    source = torch.randn(size * size * 4, device=context.device)
    target = torch.empty_like(source)
    found["copy_bytes_per_s"] = 2 * source.nbytes / seconds(context, lambda: target.copy_(source), repeats)
    return found
