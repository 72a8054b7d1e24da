"""The loops over schedulers that people write with diffusers alone, plain and batched over seeds.

    python benchmarks/loops.py plain|batched JOB.json FOLDER

Nothing of schedcmp is imported here, so that the loop's process has no imports but those that such a script has.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch


class Job(NamedTuple):
    """What a loop makes: an image for each scheduler, number of steps and seed."""

    model: str  # a folder
    schedulers: list[tuple[str, str, dict[str, Any]]]  # label, class, options beside the checkpoint's
    steps: list[int]
    seeds: list[int]
    call: dict[str, Any]  # further arguments of the pipeline's call
    dtype: str = "float32"
    channels_last: bool = False
    compile: str | None = None  # torch.compile's mode


def plain(pipeline: Any, job: Job, folder: Path) -> float:
    """What the diffusers tour does: a new scheduler from the config, one call per image, save. Returns seconds."""
    return _loop(pipeline, job, folder, [[seed] for seed in job.seeds])


def batched(pipeline: Any, job: Job, folder: Path) -> float:
    """One call for all seeds of a scheduler and number of steps. Returns seconds."""
    return _loop(pipeline, job, folder, [job.seeds])


def _loop(pipeline: Any, job: Job, folder: Path, calls: Sequence[Sequence[int]]) -> float:
    pristine = pipeline.scheduler.config
    start = time.perf_counter()
    for label, class_name, options in job.schedulers:
        for steps in job.steps:
            for seeds in calls:
                pipeline.scheduler = getattr(diffusers, class_name).from_config(pristine, **options)
                generators = [torch.Generator().manual_seed(seed) for seed in seeds]
                images = pipeline(
                    num_inference_steps=steps, num_images_per_prompt=len(seeds), generator=generators, **job.call
                ).images
                for seed, image in zip(seeds, images, strict=True):
                    image.save(folder / f"{label}-{steps}-{seed}.png")
    return time.perf_counter() - start


def load(job: Job) -> Any:
    """The job's pipeline, with what its options ask for."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(job.model, torch_dtype=getattr(torch, job.dtype))
    pipeline.set_progress_bar_config(disable=True)
    if job.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if job.compile:
        pipeline.unet.forward = torch.compile(pipeline.unet.forward, mode=job.compile, dynamic=False)
    return pipeline


def main() -> None:
    loop, file, folder = sys.argv[1:]
    job = Job(**json.loads(Path(file).read_text()))
    {"plain": plain, "batched": batched}[loop](load(job), job, Path(folder))


if __name__ == "__main__":
    main()
