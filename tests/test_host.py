"""What the engine itself does on the host for each step of a lane, counted: a GPU may have to wait for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from test_packed import cells_of, packed, pipeline, ran, recipes  # noqa: F401

_ENGINE = str(Path("schedcmp") / "engine")


class Counter:
    """Counts the calls of functions of the engine while it is open."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> Counter:
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, _: object) -> None:
        self.calls += event == "call" and _ENGINE in frame.f_code.co_filename


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp-2m", "lms"])
def test_a_step_of_a_lane_takes_few_calls(
    scheduler: str,
    pipeline: Any,  # noqa: F811
    recipes: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured: 96 to 100, most of them to bind, compare and join arguments, by name and by lane, not by row."""

    def free(sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        return (sample * 0.5,)

    monkeypatch.setitem(vars(pipeline.unet), "forward", free)
    taken = []
    for steps in (10, 30):
        with Counter() as counter:
            ran(packed(pipeline, recipes, max_batch=16), cells_of([scheduler], (steps,), range(8)))
        taken.append(counter.calls)
    lane_steps = (30 - 10) * 2  # four seeds in a lane
    assert (taken[1] - taken[0]) / lane_steps <= 110
