"""What a machine can do, what a denoiser asks of it, and the time spent in a model."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from schedcmp.engine.probe import replaced


class Rates(NamedTuple):
    """Of the machine, and what the denoiser asks of it."""

    matmul_flops: float
    flops_per_row: float


def matmul_flops(device: str, size: int = 1024, repeats: int = 20, dtype: torch.dtype = torch.float32) -> float:
    """The machine's own rate for a square matrix product, in operations per second."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            a @ a
        rates.append(2 * size**3 * repeats / (time.perf_counter() - start))
    return max(rates)


def flops_per_row(pipeline: Any) -> float:
    rows = 2
    dtype = pipeline.unet.dtype
    sample = torch.randn(rows, pipeline.unet.config.in_channels, 16, 16, dtype=dtype)
    states = torch.randn(
        rows, pipeline.tokenizer.model_max_length, pipeline.unet.config.cross_attention_dim, dtype=dtype
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        # The class's own: torch leaves what it compiles uncompiled for good once it has run under the counter
        type(pipeline.unet).forward(pipeline.unet, sample, torch.tensor(500), encoder_hidden_states=states)
    return counter.get_total_flops() / rows


@contextmanager
def clocked(owner: Any, method: str) -> Iterator[list[float]]:
    """While open, collects the seconds inside a model's own method."""
    seconds: list[float] = []
    real = getattr(owner, method)

    @functools.wraps(real)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    with replaced(owner, method, timed):
        yield seconds
