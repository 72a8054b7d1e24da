"""The page of samplers is made from the oracle's verdicts: a small one has what the large one has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import samplers


@pytest.mark.slow
def test_a_small_page_has_every_kind_of_model(tmp_path: Path) -> None:
    samplers.main(["euler", "euler-a", "tcd", "--out", str(tmp_path)])
    page = (tmp_path / "samplers.md").read_text(encoding="utf-8")
    for ground in samplers.GROUNDS:
        section = page.split(f"## {ground.title}\n")[1].split("\n## ")[0]
        assert "| `euler` | " in section
        assert "converges" in section
        assert "| `euler-a` | " in section
        assert (tmp_path / ground.plot).is_file() or not ground.plot
    assert "| `tcd` | " in page.split("## flow, shift 1, default")[1].split("| not here | why |")[1]


def test_the_shipped_page_has_every_method() -> None:
    page = (Path(__file__).parents[1] / "docs/samplers.md").read_text(encoding="utf-8")
    for entry in samplers.methods(()):
        assert page.count(f"\n| `{entry.name}` |") == 1 + len(samplers.GROUNDS), entry.name


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Exception, match="unknown scheduler 'eulr'"):
        samplers.methods(["eulr"])
