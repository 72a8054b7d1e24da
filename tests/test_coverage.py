"""Pipeline classes of diffusers on tiny checkpoints: they run, as diffusers runs them, packed as alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.coverage.families import FAMILIES
from tools.coverage.measure import measured

FAST = (
    "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "QwenImagePipeline", "AuraFlowPipeline",
    "PixArtSigmaPipeline", "SanaPipeline", "ChromaPipeline", "CogView3PlusPipeline", "CogView4Pipeline",
    "KandinskyV22CombinedPipeline",
)  # fmt: skip


@pytest.mark.parametrize("name", FAST)
def test_a_family_runs_as_diffusers_runs_it(name: str, tmp_path: Path) -> None:
    row = measured(name, tmp_path / name, whole=False)
    assert not row.error
    assert not row.failures
    cells = 2 * len(FAMILIES[name].steps)
    assert row.own == row.equal == row.nfe == (cells, cells)
    assert row.packs > 2
    assert row.levels is not None
    assert row.levels <= 1
