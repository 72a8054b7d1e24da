"""torch and JAX side by side in one process: one evaluation of the UNet, a packed sweep, a whole solve against steps.

    python benchmarks/backends.py [--repeats 5] [--threads 2] [--rows 2 8 32]

The two take turns, so that a machine whose speed drifts favours neither; a ratio is taken per turn, with the smallest
and largest beside the median. Compiling is done before and told apart. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # compiling is timed too

import torch
from throughput import packed

from schedcmp.backend.runtime import described
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import parse

SCHEDULERS = ["ddim", "pndm", "euler", "heun", "dpmpp-2m", "dpmpp-2s", "deis", "unipc"]  # deterministic and linear
WAYS = {"torch": {}, "jax": {"backend": "jax"}, "scan": {"backend": "jax", "jax": {"solve": "scan"}}}
SIDE = 16  # latents of builtin:tiny


def prepared(way: str, **changes: Any) -> Prepared:
    sweep = {
        "name": "backends",
        "model": "builtin:tiny",
        "prompt": "a large striped red heart on a white background",
        "guidance_scale": 2,
        "schedulers": SCHEDULERS,
        "steps": [10, 20],
        "seeds": "0..3",
        "timing": {"mode": "off"},
        "metrics": "off",
    }
    return prepare_sweep(Sweep.model_validate(sweep | WAYS[way] | changes), parse("model: builtin:tiny", "backends"))


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, turn by turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            taken[name].append(run())
    return taken


def told(what: str, taken: dict[str, list[float]], unit: str = "s") -> None:
    """A line: the median of each way, and how many times faster than the first the others are."""
    scale = {"s": 1, "ms": 1e3}[unit]
    first, *others = taken
    line = ", ".join(f"{name} {median(s) * scale:.3g} {unit}" for name, s in taken.items())
    for name in others:
        ratios = sorted(a / b for a, b in zip(taken[first], taken[name], strict=True))
        line += f"; {name} {median(ratios):.2f} times as fast as {first} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{what}: {line}", flush=True)


@torch.no_grad()
def evaluations(rows: list[int], repeats: int) -> list[dict[str, Any]]:
    models = {way: prepared(way).loader.load() for way in ("torch", "jax")}
    states = next(iter(models.values())).unet.config.cross_attention_dim
    found = []
    for n in rows:
        arguments = (torch.randn(n, 4, SIDE, SIDE), torch.full((n,), 500.0), torch.randn(n, 77, states))
        calls = {way: (lambda m=model, a=arguments: m.unet(*a)) for way, model in models.items()}
        set_up = {way: seconds(call) for way, call in calls.items()}
        several = {way: (lambda c=call: min(seconds(c) for _ in range(5))) for way, call in calls.items()}
        taken = in_turns(several, repeats)
        told(f"UNet, {n} rows (jax compiled in {set_up['jax']:.1f} s)", taken, "ms")
        found.append({"rows": n, "set_up_s": set_up, "taken_s": taken})
    return found


def sweeps(scratch: Path, repeats: int, **changes: Any) -> dict[str, Any]:
    """The same cells by each way; the first run of each sets up and is told apart."""
    ways: dict[str, Callable[[], float]] = {}
    set_up = {}
    for way in WAYS:
        asked = prepared(way, **changes)
        pipeline = asked.loader.load()

        def run(asked: Prepared = asked, pipeline: Any = pipeline, way: str = way) -> float:
            folder = scratch / f"{way}-{time.perf_counter_ns()}"
            return packed(asked, pipeline, folder)[0]

        set_up[way], ways[way] = run(), run
    taken = in_turns(ways, repeats)
    compiled = ", ".join(f"{way} {s:.1f} s" for way, s in set_up.items())
    told(f"packed sweep {changes or ''} (first runs: {compiled})", taken)
    return {"set_up_s": set_up, "taken_s": taken, **changes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 8, 32])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"evaluations": evaluations(arguments.rows, arguments.repeats)}
    with TemporaryDirectory() as scratch:
        found["sweep"] = sweeps(Path(scratch), arguments.repeats, max_batch=32)
        found["alone"] = sweeps(
            Path(scratch), arguments.repeats, max_batch=1, schedulers=["dpmpp-2m"], steps=[25], seeds="0..1"
        )
    versions = {name: version(name) for name in ("torch", "jax", "diffusers")} | {"python": platform.python_version()}
    print(json.dumps({"arguments": vars(arguments), "versions": versions | described(), **found}))


if __name__ == "__main__":
    main()
