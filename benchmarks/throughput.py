"""The loops that people write against schedcmp's packed engine: the same cells, taking turns.

    python benchmarks/throughput.py [--steps 5 10 20] [--seeds 4] [--curve 1 2 4 8 16] [--repeats 3] [--threads 2]
        [--whole] [--dtype bf16] [--optimize channels_last=true compile=default]

There are two loops: the plain one, a call for each image, and one batched over seeds, a call for each scheduler and
number of steps with all seeds at once. They and the engine take turns, so that a machine whose speed drifts favours
none. A ratio is per turn, with the smallest and largest beside the median. `--whole` starts a process for each, so that
imports, loading and reports count; `--curve` does it all for each number of seeds; `--dtype` and `--optimize` give all
sides the same options of a sweep (in one process, compiling is not counted). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import loops
import torch
from rates import Rates, clocked, flops_per_row, matmul_flops

from schedcmp.checkpoint.find import find_checkpoint
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.registry.build import Option, mended, resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.runs.execution import Execution
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep, dump
from schedcmp.sweep.source import parse

SCHEDULERS = [
    "ddim", "ddpm", "pndm", "lms", "euler", "euler-a", "heun", "kdpm2",
    "dpmpp-2m", "dpmpp-2m-karras", "dpmpp-2m-sde", "dpmpp-2s", "deis", "unipc",
]  # fmt: skip


def sweep_of(steps: list[int], seeds: int, **more: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "throughput",
            "model": "builtin:tiny",
            "prompt": "a large striped red heart on a white background",
            "guidance_scale": 2,
            "schedulers": SCHEDULERS,
            "steps": steps,
            "seeds": f"0..{seeds - 1}",
            "timing": {"mode": "off"},
            "metrics": "off",
            **more,
        }
    )


def job_of(sweep: Sweep, model: str, scheduler_config: Mapping[str, Any]) -> loops.Job:
    """The loops' job; of a sweep's axes they know schedulers by name, steps and seeds, and the first of the others.

    Args:
        model: the checkpoint's folder.
        scheduler_config: the checkpoint's, mended.
    """
    recipes = [resolve(builtin_registry().entry(str(name)), scheduler_config) for name in sweep.schedulers]
    (width, height), *_ = sweep.sizes
    return loops.Job(
        model,
        [(r.entry.name, r.cls.__name__, {k: o.value for k, o in r.options.items() if _chosen(o)}) for r in recipes],
        list(sweep.steps or ()),
        list(sweep.seeds),
        {
            "prompt": next(iter(sweep.prompt.values())),
            "negative_prompt": sweep.negative_prompt[0] or None,
            "guidance_scale": sweep.guidance_scale[0],
            **({"width": width, "height": height} if width else {}),
        },
        {"bf16": "bfloat16", "fp16": "float16"}.get(sweep.dtype, "float32"),
        sweep.optimize.channels_last,
        sweep.optimize.compile,
    )


def _chosen(option: Option) -> bool:
    return option.source not in ("class default", "checkpoint")


def plain_loop(pipeline: Any, sweep: Sweep, folder: Path) -> float:
    """Seconds of the plain loop on a loaded pipeline, which may be anywhere."""
    return loops.plain(pipeline, _job_of_loaded(pipeline, sweep), folder)


def batched_loop(pipeline: Any, sweep: Sweep, folder: Path) -> float:
    """Seconds of the loop batched over seeds on a loaded pipeline."""
    return loops.batched(pipeline, _job_of_loaded(pipeline, sweep), folder)


def _job_of_loaded(pipeline: Any, sweep: Sweep) -> loops.Job:
    return job_of(sweep, "", mended(pipeline.scheduler.config, type(pipeline).__name__))


def packed(prepared: Prepared, pipeline: Any, folder: Path) -> tuple[float, dict[str, Any]]:
    """A run through the store, images and metadata included. Returns seconds and the run's throughput."""
    start = time.perf_counter()
    with Store.create(folder) as store:
        execution = Execution.begin(prepared, store, pipeline)
        failures = [result.error for result in execution.run() if result.status != "ok"]
        assert not failures, failures
        seconds = time.perf_counter() - start
        return seconds, store.meta("throughput")


def whole_processes(sweep: Sweep, repeats: int, threads: int, scratch: Path) -> Iterator[dict[str, Any]]:
    """Turn by turn, the seconds of both loops' processes and of `schedcmp run`'s."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    file, job = scratch / "sweep.yaml", scratch / "job.json"
    file.write_text(dump(sweep))
    checkpoint = find_checkpoint(sweep.model)
    config = mended(checkpoint.scheduler_config, checkpoint.pipeline_class)
    job.write_text(json.dumps(job_of(sweep, str(checkpoint.path), config)._asdict()))
    loop = [sys.executable, loops.__file__]
    for turn in range(repeats):
        commands = {
            "plain_s": [*loop, "plain", str(job), str(scratch)],
            "batched_s": [*loop, "batched", str(job), str(scratch)],
            "schedcmp_s": [sys.executable, "-m", "schedcmp", "run", str(file), "-o", str(scratch / f"run-{turn}")],
        }
        yield {name: process_seconds(command, environment) for name, command in commands.items()}


def process_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def in_one_process(
    prepared: Prepared, pipeline: Any, repeats: int, rates: Rates, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Turn by turn, the seconds of loops and engine, and what the engine's were spent on."""
    sweep = prepared.sweep
    for loop in (plain_loop, batched_loop):
        loop(pipeline, sweep.model_copy(update={"steps": (2,)}), scratch)
    if prepared.is_compiled:
        packed(prepared, pipeline, scratch / "set-up")
    for turn in range(repeats):
        plain_s, batched_s = plain_loop(pipeline, sweep, scratch), batched_loop(pipeline, sweep, scratch)
        with clocked(pipeline.unet, "forward") as denoiser, clocked(pipeline.vae, "decode") as vae:
            packed_s, seen = packed(prepared, pipeline, scratch / f"run-{turn}")
        yield {
            "plain_s": plain_s,
            "batched_s": batched_s,
            "schedcmp_s": packed_s,
            "denoiser_s": sum(denoiser),
            "overhead_share": 1 - (sum(denoiser) + sum(vae)) / packed_s,
            "share_of_matmul": seen["rows"] * rates.flops_per_row / sum(denoiser) / rates.matmul_flops,
            **rates._asdict(),
            **seen,
        }


def turns_of(arguments: argparse.Namespace) -> Iterator[tuple[int, Iterator[dict[str, Any]]]]:
    """For each number of seeds, its turns."""
    more = {"dtype": arguments.dtype, "optimize": dict(option.split("=") for option in arguments.optimize)}
    pipeline, rates = None, None
    for seeds in arguments.curve or [arguments.seeds]:
        sweep = sweep_of(arguments.steps, seeds, **more)
        with TemporaryDirectory() as scratch:
            if arguments.whole:
                yield seeds, whole_processes(sweep, arguments.repeats, arguments.threads, Path(scratch))
                continue
            prepared = prepare_sweep(sweep, parse("model: builtin:tiny", "throughput"))
            pipeline = pipeline or prepared.loader.load()
            rates = rates or Rates(matmul_flops("cpu", dtype=pipeline.unet.dtype), flops_per_row(pipeline))
            yield seeds, in_one_process(prepared, pipeline, arguments.repeats, rates, Path(scratch))


def told(turn: dict[str, Any]) -> str:
    """A turn in a line."""
    text = f"plain loop {turn['plain_s']:.1f} s, batched {turn['batched_s']:.1f} s, schedcmp {turn['schedcmp_s']:.1f} s"
    if "denoiser_s" in turn:
        text += (
            f"; denoiser at {turn['share_of_matmul']:.0%} of the matmul rate, "
            f"{turn['overhead_share']:.0%} outside denoiser and VAE, "
            f"{turn['rows'] / turn['forwards']:.1f} rows per call, occupancy {turn['occupancy']:.0%}"
        )
    return text


def ratios(turns: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times as fast as each loop: median, smallest and largest over the turns."""
    found = {}
    for loop in ("plain", "batched"):
        values = [turn[f"{loop}_s"] / turn["schedcmp_s"] for turn in turns]
        found[loop] = {"median": median(values), "min": min(values), "max": max(values)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--curve", type=int, nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--optimize", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    diffusers.utils.logging.set_verbosity_error()
    results = []
    for seeds, turns in turns_of(arguments):
        taken = []
        for turn in turns:
            taken.append(turn)
            print(told(turn), flush=True)
        found = ratios(taken)
        results.append({"seeds": seeds, "ratios": found, "turns": taken})
        texts = (
            f"{r['median']:.2f} times the {loop} loop ({r['min']:.2f} to {r['max']:.2f})" for loop, r in found.items()
        )
        print(f"{seeds} seeds: {', '.join(texts)}", flush=True)
    versions = {name: version(name) for name in ("torch", "diffusers")} | {"python": platform.python_version()}
    print(json.dumps({"arguments": vars(arguments), "versions": versions, "results": results}))


if __name__ == "__main__":
    main()
