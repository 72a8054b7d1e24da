"""What the engine itself does on the host for each step of a lane, counted: a GPU may have to wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

_ENGINE = str(Path("schedcmp") / "engine")
_SHORT, _LONG = 10, 30  # steps


@pytest.mark.slow
def test_a_step_of_a_lane_takes_few_calls(sd1: Path) -> None:
    """Measured: 110 to 116, most of them to bind, compare and join arguments, by name and by lane, not by row.

    In a process of its own: a profile function there meets nobody else's timers and traces.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", __file__, str(sd1), "ddim", "lms"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert max(map(float, done.stdout.splitlines()[-2:])) <= 118


def calls_per_lane_step(checkpoint: str, scheduler: str) -> float:
    """Of functions of the engine, with a denoiser that costs nothing; beginnings and ends of images do not count."""
    from test_packed import cells_of, packed

    from schedcmp.checkpoint.inspection.inspect import inspect
    from schedcmp.checkpoint.loading.load import load
    from schedcmp.checkpoint.source import ModelSpec
    from schedcmp.registry.build import mended, resolve
    from schedcmp.registry.table import builtin_registry

    found = inspect(ModelSpec(checkpoint))
    pipeline = load(found, "cpu")
    recipe = resolve(builtin_registry().entry(scheduler), mended(found.scheduler_config, "StableDiffusionPipeline"))
    vars(pipeline.unet)["forward"] = _free
    taken = []
    for steps in (_SHORT, _SHORT, _LONG):  # the first one warms up
        engine, cells = packed(pipeline, {scheduler: recipe}, max_batch=16), cells_of([scheduler], (steps,), range(8))
        counter = _Counter()
        sys.setprofile(counter.seen)
        results = list(engine.run(cells))
        sys.setprofile(None)
        assert not [r.error for r in results if r.status == "failed"]
        taken.append(counter.calls)
    return (taken[2] - taken[1]) / ((_LONG - _SHORT) * 2)  # four seeds in a lane


def _free(sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
    return (sample * 0.5,)


class _Counter:
    def __init__(self) -> None:
        self.calls = 0

    def seen(self, frame: FrameType, event: str, _: object) -> None:
        self.calls += event == "call" and _ENGINE in frame.f_code.co_filename


if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(calls_per_lane_step(sys.argv[1], name))
