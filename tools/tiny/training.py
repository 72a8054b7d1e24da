"""What the training loops share: a learning rate schedule, exact resumption, a progress line."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

log = logging.getLogger("tiny")
SAVE_EVERY = 250  # iterations
REPORT_EVERY = 100


def cosine_rate(iteration: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up to `peak`, then half a cosine towards zero."""
    decay = 0.5 + 0.5 * math.cos(math.pi * iteration / total)
    return peak * min(1.0, (iteration + 1) / warmup) * decay + 1e-5


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def generators(seed: int, iteration: int) -> tuple[np.random.Generator, torch.Generator]:
    """Fresh generators for one iteration: a resumed run draws what an uninterrupted one would have drawn."""
    entropy = int(np.random.SeedSequence((seed, iteration)).generate_state(1)[0])
    return np.random.default_rng((seed, iteration)), torch.Generator().manual_seed(entropy)


def save(path: Path, state: Any) -> None:
    """Write a state in full or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


@dataclass
class Meter:
    """Prints the mean of each named number since the last report, with the seconds per iteration."""

    name: str
    sums: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def add(self, iteration: int, **values: float) -> None:
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        if (iteration + 1) % REPORT_EVERY == 0:
            self._report(iteration + 1)

    def _report(self, iteration: int) -> None:
        now = time.perf_counter()
        means = "  ".join(f"{key} {total / REPORT_EVERY:.4f}" for key, total in self.sums.items())
        log.info("%s %d  %s  %.3f s/it", self.name, iteration, means, (now - self.since) / REPORT_EVERY)
        self.sums, self.since = {}, now


def run_loop(
    total: int,
    path: Path,
    state: Callable[[], dict[str, Any]],
    load: Callable[[dict[str, Any]], None],
    step: Callable[[int], None],
) -> None:
    """Call `step(iteration)` up to `total`, saving to `path` now and then; go on from there after a crash."""
    first = 0
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        load(saved)
        first = int(saved["iteration"])
        log.info("%s: resumed at iteration %d", path.stem, first)
    for iteration in range(first, total):
        step(iteration)
        if (iteration + 1) % SAVE_EVERY == 0 or iteration + 1 == total:
            save(path, {"iteration": iteration + 1, **state()})
