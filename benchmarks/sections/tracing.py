"""The profile of a packed run: what the device did, what the host did meanwhile, and how long the device idled."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from sections.context import FOURTEEN, Context, Loaded
from sections.models import SD15

STEPS = 6


def tracing(context: Context) -> dict[str, Any]:
    """Two seconds or so of SD 1.5 in batches of 32 rows, after a run that settles libraries and allocators."""
    loaded = Loaded(SD15, context, torch.float16 if context.cuda else torch.float32)
    cells = loaded.cells(FOURTEEN[: 2 if context.small else None], 2 if context.small else STEPS, range(4))
    rows = 4 if context.small else 32
    list(loaded.packed(max_batch=rows).run(cells))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if context.cuda else [])]
    with profile(activities=activities) as seen:
        list(loaded.packed(max_batch=rows).run(cells))
        context.wait()
    key = "self_cuda_time_total" if context.cuda else "self_cpu_time_total"
    (context.out / "profile.txt").write_text(seen.key_averages().table(sort_by=key, row_limit=40))
    return {"file": "profile.txt", **(idle(seen) if context.cuda else {})}


def idle(seen: Any) -> dict[str, Any]:
    """From the first kernel to the last: the share of time in which none ran, and the longest gaps."""
    kernels = sorted(
        (e.time_range.start, e.time_range.end) for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA
    )
    gaps, end = [], kernels[0][0]
    for start, stop in kernels:
        if start > end:
            gaps.append(start - end)
        end = max(end, stop)
    span = end - kernels[0][0]
    over = {f"gaps_over_{n}_us": sum(gap > n for gap in gaps) for n in (20, 100, 1000)}
    longest = sorted(gaps, reverse=True)[:10]
    return {
        "span_s": span / 1e6,
        "kernels": len(kernels),
        "idle_share": sum(gaps) / span,
        "longest_gaps_us": longest,
        **over,
    }
