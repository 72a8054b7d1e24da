"""What a Ray cluster costs: one process against one and two workers on this machine, and what the driver can store.

    python benchmarks/cluster.py [--cells 600] [--steps 4] [--repeats 3]

The three take turns. All have two threads: the process, the worker with two cores, the two workers with one each; so
on a machine with two cores nothing can be gained, and the difference is what the cluster costs. Time is that of making
the cells, workers loaded and warm or not as it comes; `start_s` is that of the cluster and its workers up to then. The
driver's rate is that of `Store.add` for PNGs of 512 × 512 pixels of noise, the worst there is. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from schedcmp.cluster.crew import hired
from schedcmp.pictures.image import encode_png
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.records import CellResult
from schedcmp.runs.execution import Execution
from schedcmp.store.images import image_path
from schedcmp.store.store import Store
from schedcmp.sweep.document import checked
from schedcmp.sweep.source import parse

SCHEDULERS = ["ddim", "euler", "euler-a", "dpmpp-2m", "deis", "unipc"]
EXECUTORS: dict[str, Any] = {
    "one process": "local",
    "1 worker": {"ray": {"address": "local", "cpus_per_worker": 2, "workers": 1}},
    "2 workers": {"ray": {"address": "local", "cpus_per_worker": 1, "workers": 2}},
}


def prepared_for(executor: Any, cells: int, steps: int) -> Prepared:
    document = {
        "name": "cluster",
        "model": "builtin:tiny",
        "prompt": "a large striped red heart on a white background",
        "guidance_scale": 2,
        "schedulers": SCHEDULERS,
        "steps": steps,
        "seeds": f"0..{cells // len(SCHEDULERS) - 1}",
        "timing": {"mode": "off"},
        "metrics": "off",
        "executor": executor,
    }
    source = parse(json.dumps(document), "cluster")
    return prepare_sweep(checked(source), source)


def made(executor: Any, cells: int, steps: int) -> dict[str, float]:
    """Seconds until the first cell can begin, and from then to the last one stored."""
    prepared, start = prepared_for(executor, cells, steps), time.perf_counter()
    with TemporaryDirectory() as folder, Store.create(Path(folder) / "run") as store:
        with nullcontext() if executor == "local" else hired(prepared) as crew:
            execution = Execution.begin(prepared, store, crew=crew)
            begun = time.perf_counter()
            assert len(list(execution.run())) == cells
            ended = time.perf_counter()
        throughput = store.meta("throughput")
    packing_s = throughput["wall_s"]  # without the loading, which workers do after `begin`
    return {"start_s": ended - start - packing_s, "begin_s": begun - start, "make_s": packing_s}


def stored_per_s(cells: int = 200) -> Iterator[tuple[str, float]]:
    """Cells per second that one process encodes, and stores."""
    prepared = prepared_for("local", 600, 1)
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    image = Image.fromarray(noise)
    start = time.perf_counter()
    for _ in range(20):
        png = encode_png(image, {}, "")
    yield "encoded_per_s", 20 / (time.perf_counter() - start)
    with TemporaryDirectory() as folder, Store.create(Path(folder) / "run") as store:
        store.begin(prepared.plan.cells, {})
        start = time.perf_counter()
        for cell in prepared.plan.cells[:cells]:
            store.add(CellResult(cell, "ok", image_sha256="0" * 64), "", "", image_path(cell), png)
        yield "stored_per_s", cells / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    turns = []
    for _ in range(arguments.repeats):
        turn = {name: made(executor, arguments.cells, arguments.steps) for name, executor in EXECUTORS.items()}
        turns.append(turn)
        told = (f"{name} {t['make_s']:.1f} s after {t['start_s']:.1f} s" for name, t in turn.items())
        print("; ".join(told), flush=True)
    for name in list(EXECUTORS)[1:]:
        ratios = sorted(t[name]["make_s"] / t["one process"]["make_s"] for t in turns)
        more = median((t[name]["make_s"] - t["one process"]["make_s"]) / arguments.cells for t in turns)
        print(f"{name}: {median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f}), {1e3 * more:.1f} ms per cell")
    rates = dict(stored_per_s())
    print(f"one process encodes {rates['encoded_per_s']:.1f} images/s and stores {rates['stored_per_s']:.0f}")
    versions = {name: version(name) for name in ("ray", "torch", "diffusers")} | {"python": platform.python_version()}
    print(json.dumps({"arguments": vars(arguments), "versions": versions, "turns": turns, "rates": rates}))


if __name__ == "__main__":
    main()
