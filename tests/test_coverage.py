"""Pipeline classes of diffusers on tiny checkpoints: they run, as diffusers runs them, packed as alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.coverage.families import FAMILIES
from tools.coverage.measure import Row, code_state, measured
from tools.coverage.page import page, read, told

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
    assert row.own == row.equal == row.nfe == (2, 2)
    assert row.packs > 2
    assert row.levels is not None
    assert row.levels <= 1


def test_the_shipped_page_tells_of_every_family() -> None:
    shipped = (Path(__file__).parents[1] / "docs/pipelines.md").read_text(encoding="utf-8")
    for name in FAMILIES:
        assert f"\n| `{name}` |" in shipped, f"python -m tools.coverage --only {name} measures it"


def test_what_is_not_measured_anew_stays_on_the_page() -> None:
    shipped = (Path(__file__).parents[1] / "docs/pipelines.md").read_text(encoding="utf-8")
    known = read(shipped)
    assert page([*known.values()], {}) == shipped.partition("\n\n## Not measured")[0] + "\n"
    new = page([*known.values(), told(Row("New", notes=["n"], code=code_state()))], {})
    assert {*new.splitlines()} - {*shipped.splitlines()} == {
        "| `New` |  0 of 0 | 0 of 0 | 0 of 0 | 1 | – | 0 of 0 | 0 of 0 |  |",
        "* `New`: n",
    }


def test_a_row_that_failed_says_why() -> None:
    whole = Row("A", scheduler="DDIMScheduler", own=(2, 4), equal=(2, 2), nfe=(2, 2), packs=3.5, levels=1, notes=["n"])
    whole.code = code_state()
    whole.failures = {"heun: ValueError: x": 2, "lms: ValueError: x": 1}
    text = page([told(whole), told(Row("B", error="ImportError: no | y"))], {"C": "no builder"})
    assert "| `A` | DDIM 2 of 4 | 2 of 2 | 2 of 2 | 3.5 | 1 |" in text
    assert "* `A`, 3 cells: ValueError: x" in text
    assert "* `B`: ImportError: no | y" in text
    assert re.search("^.* at an earlier state .*: `B`$", text, re.MULTILINE)
    assert "* `C`: no builder" in text
