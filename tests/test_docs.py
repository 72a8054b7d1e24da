"""The pages say what is: their examples are sound, their links lead somewhere, and their tables are the code's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from asked import load

from schedcmp.metrics.table import known
from schedcmp.sweep.document import Sweep
from tools.pages import PAGES, PARTS, written

ROOT = Path(__file__).parents[1]
TEXTS = {
    path.relative_to(ROOT).as_posix(): path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/*.md")]
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_the_code_says(name: str) -> None:
    assert written(name) == (ROOT / name).read_text(encoding="utf-8"), "python -m tools.pages writes it anew"


@pytest.mark.parametrize("part", [Sweep, *PARTS.values()])
def test_every_key_is_described(part: type[Sweep]) -> None:
    assert [name for name, field in part.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    path = TEXTS[name]
    targets = re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if t and "://" not in t and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/sweep.md", "docs/inputs.md"])
def test_an_example_is_a_sound_sweep(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXTS[name].read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for text in [block for block in blocks if "schedulers" in yaml.safe_load(block)]:
        (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
        load(tmp_path / "sweep.yaml")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/extending.md"])
def test_files_that_a_maintainer_is_sent_to_are_there(name: str) -> None:
    named = re.findall(r"`([\w/]+(?:\.py|\.yaml|/))`", TEXTS[name].read_text(encoding="utf-8"))
    assert [f for f in named if not ((ROOT / f).exists() or (ROOT / "schedcmp" / f).exists())] == []


def test_every_room_and_every_metric_is_told() -> None:
    rooms = [path.name for path in (ROOT / "schedcmp").iterdir() if path.is_dir() and path.name[0].isalpha()]
    told = TEXTS["docs/architecture.md"].read_text(encoding="utf-8")
    assert [room for room in rooms if f"\n  {room}/ " not in told] == []
    told = TEXTS["docs/metrics.md"].read_text(encoding="utf-8")
    assert [metric for metric in known() if f"`{metric}`" not in told] == []


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(TEXTS["README.md"].read_text(encoding="utf-8")) < 7500
