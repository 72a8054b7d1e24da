"""What only a CUDA device can tell; skipped elsewhere. `python -m pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from sections.context import Context, Loaded
from sections.correctness import distances, overflow, unequal
from sections.memory import survived
from sections.models import SD35, TINY
from sections.waiting import synchronisations

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

# Per step, with noise drawn on the device: UniPC solves a system on the device, from numbers of the host
SOLVES = {"unipc", "unipc-bh1"}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(torch.device("cuda:0"), torch.float16, False, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_alone_is_bit_equal_to_diffusers(context: Context, dtype: torch.dtype) -> None:
    assert unequal(Loaded(TINY, context, dtype)) == []


@pytest.mark.parametrize("generator", ["cpu", "device"])
def test_packed_is_alone_but_for_rounding(context: Context, generator: str) -> None:
    """Measured on an H200: 1.1e-4 of the latents' scale. With torch's default, convolutions in TF32, it is 5e-2."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        found: Any = distances(Loaded(TINY, context, torch.float32), generator)
    assert not found["failed"]
    assert max(found["largest"].values()) < 1e-3


def test_a_pipeline_that_expands_its_timesteps_packs(context: Context) -> None:
    """They wait on the host, and what is expanded cannot be pinned."""
    context.small = True
    found: Any = distances(Loaded(SD35, context, torch.float32), "cpu")
    assert not found["failed"]
    assert max(found["largest"].values()) < 1e-3


def test_images_that_the_vae_cannot_hold_are_flagged(context: Context) -> None:
    assert set(overflow(Loaded(TINY, context, torch.float16))["statuses"]) == {"flagged"}


def test_no_step_waits_for_the_device(context: Context) -> None:
    assert synchronisations(context)["per_step"].keys() <= SOLVES


def test_running_out_of_memory_loses_nothing(context: Context) -> None:
    found = survived(context)
    assert found["made"] == found["of"]
