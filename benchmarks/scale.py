"""How the cost of a run grows with its cells: 10 to 10,000 made, 1,000,000 planned; and of what is there already.

    python benchmarks/scale.py [--run 10 100 1000 10000] [--plan 1000000] [--store 0 1000 10000 100000] [--threads 2]

Each size is a process of its own, because memory is the most that a process ever had; `plan` includes the libraries'
imports and `begin` loading the checkpoint. Cells have one step each, so that what is not the models' weighs as much as
it can. `store` is what it takes to store one cell, and to read all again, in a folder that has so many rows: each has
an image of 12 kB, timings of three repeats and 20 timesteps. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from schedcmp.pictures.image import encode_png, fingerprint
from schedcmp.prepare import prepare_sweep
from schedcmp.records import Cell, CellResult, Timing
from schedcmp.report.write import write_reports
from schedcmp.runs.execution import Execution
from schedcmp.runs.pending import pending_cells
from schedcmp.store.folder import DATABASE
from schedcmp.store.images import image_path
from schedcmp.store.rows import to_row
from schedcmp.store.schema import insert
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import parse

SCHEDULERS = ["ddim", "ddpm", "pndm", "lms", "euler", "euler-a", "dpmpp-2m", "dpmpp-2m-sde", "deis", "unipc"]


def sweep_of(cells: int) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "scale",
            "model": "builtin:tiny",
            "prompt": "a red circle",
            "guidance_scale": 1,
            "schedulers": SCHEDULERS,
            "steps": 1,
            "seeds": f"0..{cells // len(SCHEDULERS) - 1}",
            "timing": {"mode": "off"},
            "metrics": "off",
        }
    )


def measure(cells: int, threads: int, make: bool) -> dict[str, Any]:
    """Seconds of each part of a run, and the process's peak memory."""
    torch.set_num_threads(threads)
    seconds = {}

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[name], last = now - last, now

    with TemporaryDirectory() as folder, Store.create(Path(folder) / "run") as store:
        last = time.perf_counter()
        prepared = prepare_sweep(sweep_of(cells), parse("model: builtin:tiny", "scale"))
        lap("plan_s")
        execution = Execution.begin(prepared, store, prepared.loader.load())
        lap("begin_s")
        if make:
            made = list(execution.run())
            assert all(result.status != "failed" for result in made)
            lap("make_s")
            assert not pending_cells(prepared, store)
            lap("resume_s")
            write_reports(store)
            lap("report_s")
        size = sum(path.stat().st_size for path in store.folder.glob("run.sqlite*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cells": cells, **seconds, "peak_memory_bytes": peak, "database_bytes": size}


def storing(rows: int) -> dict[str, Any]:
    """Of a store that has so many rows: milliseconds to store one more cell, seconds to read all."""
    image = Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48)
    png = encode_png(image, {}, "") + bytes(12_000)

    def result(n: int) -> CellResult:
        timing = Timing(1.0, 0.1, 0.7, 0.1, 0.1, (0.05,) * 20)
        cell = Cell(f"{n:016x}", n, "euler", "euler", "default", 20, n, "prompt", "a red circle", "", 1.0, None, None)
        return CellResult(
            cell, "ok", None, 20, 64, 64, image_sha256="0" * 64, timings=(timing,) * 3, timesteps=(1.0,) * 20,
            scheduler_config=dict.fromkeys(map(str, range(20)), 0.1), fingerprint=fingerprint(image), png=png,
        )  # fmt: skip

    def add(store: Store, n: int) -> tuple[float, float]:
        made = result(n)
        wall, cpu = time.perf_counter(), time.process_time()
        store.add(made, "key", "machine", image_path(made.cell), made.png)
        return time.perf_counter() - wall, time.process_time() - cpu

    with TemporaryDirectory() as folder, Store.create(Path(folder) / "run") as store:
        store.begin([result(n).cell for n in range(rows)], {})
        with sqlite3.connect(store.folder / DATABASE, isolation_level=None) as fast:
            fast.execute("PRAGMA synchronous = OFF")
            fast.execute("PRAGMA cache_size = -1000000")
            fast.execute("BEGIN")
            for n in range(rows):
                made = result(n)
                insert(fast, "cells", to_row(made, "key", image_path(made.cell)) | {"machine": "machine"})
                insert(fast, "fingerprints", {"id": made.cell.id, "pixels": made.fingerprint})
                insert(fast, "metrics", {"id": made.cell.id, "name": "clip", "value": 1.0})
                stamp = {"size": 1, "mtime_us": n, "digest": bytes(32)}
                insert(fast, "files", {"name": image_path(made.cell), **stamp})
            fast.execute("COMMIT")
        fast.close()
        taken = [add(store, rows + n) for n in range(200)]
        start = time.perf_counter()
        assert sum(1 for _ in store.cells()) == rows
        read = time.perf_counter() - start
        size = (store.folder / DATABASE).stat().st_size
    wall, cpu = (median(one) * 1000 for one in zip(*taken, strict=True))
    return {"rows": rows, "add_wall_ms": wall, "add_cpu_ms": cpu, "read_s": read, "database_bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--plan", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--store", type=int, nargs="*", default=[0, 1000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    found = []
    for cells, make in [(n, True) for n in arguments.run] + [(n, False) for n in arguments.plan]:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            row = process.submit(measure, cells, arguments.threads, make).result()
        found.append(row)
        parts = ", ".join(f"{name[:-2]} {value:.1f} s" for name, value in row.items() if name.endswith("_s"))
        print(f"{cells:,} cells: {parts}; {row['peak_memory_bytes'] / 2**20:,.0f} MiB", flush=True)
    for rows in arguments.store:
        row = storing(rows)
        found.append(row)
        print(
            f"{rows:,} rows: a cell more {row['add_wall_ms']:.2f} ms, of the processor {row['add_cpu_ms']:.2f} ms; "
            f"read {row['read_s']:.2f} s; {row['database_bytes'] / 2**20:,.0f} MiB",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
