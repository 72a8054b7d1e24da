from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schedcmp.checkpoint.find import find_checkpoint
from schedcmp.cli import judging, remembering
from schedcmp.cli.remembering import remembered
from schedcmp.errors import RequestError
from schedcmp.sweep.parts.model import Model

FOUND = judging.Judged(rows=[], left_out="")


class Asked:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, int]:
        self.times += 1
        return {"times": self.times}


def read(found: Any) -> dict[str, int]:
    return {"times": int(found["times"])}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are kept, for this test alone; of one small package's code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembering, "_CODE", ("piece",))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "piece").mkdir()
    (tmp_path / "piece/__init__.py").write_text("")
    return tmp_path / "cache/schedcmp/answers"


def test_what_was_found_is_not_looked_for_again(kept: Path) -> None:
    find = Asked()
    assert [remembered(["a", 1], find, read), remembered(["a", 1], find, read)] == [{"times": 1}] * 2
    assert remembered(["a", 2], find, read) == {"times": 2}


def test_other_code_is_asked_itself(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Asked()
    remembered("a", find, read)
    (tmp_path / "piece/__init__.py").write_text("changed = True")
    remembered("a", find, read)
    monkeypatch.setattr(remembering, "version", lambda name: "0")
    assert remembered("a", find, read) == {"times": 3}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"times": "often"}', b"\xff"])
def test_what_cannot_be_read_is_looked_for_again(kept: Path, damage: bytes) -> None:
    find = Asked()
    remembered("a", find, read)
    next(kept.iterdir()).write_bytes(damage)
    assert remembered("a", find, read) == remembered("a", find, read) == {"times": 2}


def test_without_a_cache_folder_all_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    find = Asked()
    remembered("a", find, read)
    assert remembered("a", find, read) == {"times": 2}


def test_the_latest_answers_are_kept(kept: Path) -> None:
    for question in range(remembering._MOST_KEPT + 3):
        remembered(question, Asked(), read)
    assert len([*kept.iterdir()]) == remembering._MOST_KEPT


def test_an_answer_that_is_none_is_not_kept(kept: Path) -> None:
    find = Asked()

    def fail() -> dict[str, int]:
        find()
        raise RequestError("no such thing")

    with pytest.raises(RequestError, match="no such thing"):
        remembered("a", fail, read)
    assert remembered("a", find, read) == {"times": 2}


def test_where_packages_add_schedulers_nothing_is_remembered(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code may be anywhere, and change."""
    asked: list[str] = []
    monkeypatch.setattr(judging, "_judged", lambda checkpoint, *_, **__: asked.append(checkpoint.name) or FOUND)
    checkpoint = find_checkpoint(Model(id="builtin:tiny"))
    for added in ([], [], ["a"], ["a"]):
        monkeypatch.setattr(judging, "entry_points", lambda group, added=added: added)
        assert judging.judged(checkpoint, (), every_sigma_schedule=False, with_jax=False) == FOUND
    assert len(asked) == 3
