"""What the host does for each step of a lane, with models that cost nothing: all that a GPU could have to wait for.

    python benchmarks/host.py [--steps 20] [--seeds 1 4] [--models sd15 sdxl sd35-medium]

Pipelines are real ones on latents of 2 × 2; denoiser and VAE answer at once. Per scheduler: microseconds per lane step
(the scheduler's arithmetic, the pipeline's loop, parking, joining and splitting), one seed in a lane and four; of the
processor's own time, so that other work on the machine does not count. The estimate is for batches of 32 rows on a GPU
of 790 TFLOP/s with 0.8 TFLOP a row (SD 1.5) and 6.8 (SDXL): its idle share is what the host needs beyond the batch that
computes meanwhile. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sections.context import Context, Loaded
from sections.models import SD15, SD35, SDXL

from schedcmp.engine.probe import replaced

MODELS = {model.name: model for model in (SD15, SDXL, SD35)}
TFLOP_PER_ROW = {"sd15": 0.8, "sdxl": 6.8}
ROWS, TFLOPS = 32, 790.0
REPEATS = 3


def for_nothing(pipeline: Any) -> ExitStack:
    """While open, denoiser and VAE answer at once, each row by itself."""
    stack = ExitStack()
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    names = list(type(denoiser).forward.__annotations__)
    real = denoiser.forward

    def answer(*args: Any, **kwargs: Any) -> Any:
        return ((args[0] if args else kwargs[names[0]]) * 0.5,)

    def pixels(z: torch.Tensor, **_: Any) -> Any:
        return (z[:, :3],)

    answer.__wrapped__ = real  # type: ignore[attr-defined]  # calls are bound to the real signature
    pixels.__wrapped__ = pipeline.vae.decode  # type: ignore[attr-defined]
    stack.enter_context(replaced(denoiser, "forward", answer))
    stack.enter_context(replaced(pipeline.vae, "decode", pixels))
    return stack


def per_step(loaded: Loaded, scheduler: str, steps: int, seeds: int) -> dict[str, float]:
    """Microseconds per lane step and per packed call, the best of a few runs; images' beginning and end not counted."""
    best = {}
    for _ in range(REPEATS):
        lanes = ROWS // 2 // seeds
        taken = []
        for n in (steps, 2 * steps):  # the difference has no beginnings and ends
            cells = loaded.cells([scheduler], n, range(ROWS // 2))
            engine = loaded.packed(max_batch=ROWS)
            engine.seeds_per_lane = lambda cell: seeds  # type: ignore[method-assign]
            start = time.thread_time()
            failed = [r.error for r in engine.run(cells) if r.status == "failed"]
            assert not failed, failed[0]
            taken.append((time.thread_time() - start, engine.throughput.forwards))
        (short, few), (long, many) = taken
        found = 1e6 * (long - short) / max(1, many - few)
        best["per_call_us"] = min(best.get("per_call_us", found), found)
    return best | {"per_lane_step_us": best["per_call_us"] / lanes}


def idle(model: str, per_call_us: float) -> float | None:
    """Share of the GPU's time in which it waits for the host, one batch computing while the next is made."""
    if model not in TFLOP_PER_ROW:
        return None
    busy = 1e6 * ROWS * TFLOP_PER_ROW[model] / TFLOPS
    return max(0.0, per_call_us - busy) / max(per_call_us, busy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4], help="that share a lane")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--schedulers", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = []
    for name in arguments.models:
        loaded = Loaded(MODELS[name], Context(torch.device("cpu"), torch.float32, True, Path()), torch.float32)
        with for_nothing(loaded.pipeline):
            for scheduler in arguments.schedulers or loaded.recipes:
                for seeds in arguments.seeds:
                    found = per_step(loaded, scheduler, arguments.steps, seeds)
                    rows.append({"model": name, "scheduler": scheduler, "seeds": seeds, **found})
                    share = idle(name, found["per_call_us"])
                    print(
                        f"{name:12} {scheduler:26} {seeds} seeds: {found['per_lane_step_us']:7.0f} µs a lane step, "
                        f"{found['per_call_us']:7.0f} µs a call" + (f", {share:.0%} idle" if share is not None else ""),
                        flush=True,
                    )
    for name in arguments.models:
        for seeds in arguments.seeds:
            steps = [r["per_lane_step_us"] for r in rows if (r["model"], r["seeds"]) == (name, seeds)]
            if steps:
                print(
                    f"{name}, {seeds} seeds in a lane: median {median(steps):.0f} µs a lane step, most {max(steps):.0f}"
                )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
