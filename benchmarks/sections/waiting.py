"""Where the host waits for the device: CUDA's own warnings, by scheduler, with the place in the code."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sections.context import Context, Loaded
from sections.models import TINY


@contextmanager
def watched(cuda: bool) -> Iterator[Counter[str]]:
    """While open, counts the synchronising operations by file and line. Without CUDA there are none to see."""
    places: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
            for warning in caught:
                if "synchronizing CUDA operation" in str(warning.message):
                    file = warning.filename.rpartition("site-packages/")[2].rpartition(".site/")[2]
                    places[f"{file}:{warning.lineno}"] += 1


def synchronisations(context: Context) -> dict[str, Any]:
    """Of a packed run of each scheduler: a run of many steps less a run of few is what a step costs.

    The rest is paid once per image. `generator: device`, since noise drawn on the host has to be copied.
    """
    loaded = Loaded(TINY, context, torch.float16 if context.cuda else torch.float32)
    few, many = (2, 3) if context.small else (4, 12)
    per_step, per_image = {}, {}
    for name in list(loaded.recipes)[: 4 if context.small else None]:
        counts = [_places(loaded, name, steps) for steps in (few, few, many)][1:]  # the first one warms up
        per_step[name] = {p: (n - counts[0][p]) / (many - few) for p, n in counts[1].items() if n > counts[0][p]}
        per_image[name] = dict(counts[0])
    waits = {name: places for name, places in per_step.items() if places}
    return {"schedulers": len(per_step), "per_step": waits, "per_image_of_euler": per_image.get("euler", {})}


def _places(loaded: Loaded, scheduler: str, steps: int) -> Counter[str]:
    with watched(loaded.context.cuda) as places:
        list(loaded.packed(max_batch=2, generator="device").run(loaded.cells([scheduler], steps, [0])))
    return places
