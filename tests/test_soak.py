"""The attack campaign does attack, and sees what it is for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harm import sql

from schedcmp import cli
from tools.soak import commands
from tools.soak.case import Case, Failed, Grounds
from tools.soak.commands import Started, here
from tools.soak.grounds import make
from tools.soak.table import ATTACKS


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    folder = tmp_path_factory.mktemp("grounds")
    (folder / "home").mkdir()
    return make(folder, ["small"], fresh=True)


@pytest.fixture(autouse=True)
def _stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cases change the working folder."""
    monkeypatch.chdir(tmp_path)


# Those without forks
@pytest.mark.parametrize(
    "attack", [pytest.param("sweeps", marks=pytest.mark.slow), "corruption", "crafted", "checkpoints"]
)
def test_an_attack_finds_nothing(
    attack: str, grounds: Grounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(grounds.folder / "home"))
    monkeypatch.setattr("tempfile.tempdir", None)
    case = Case(attack, 1, 0, grounds, tmp_path / "case")
    ATTACKS[attack].of_a_case(case)
    assert case.done


def test_a_case_is_the_same_each_time(grounds: Grounds, tmp_path: Path) -> None:
    texts = []
    for number in (3, 3, 4):
        case = Case("sweeps", 1, number, grounds, tmp_path / "case")
        ATTACKS["sweeps"].of_a_case(case)
        texts.append(case.sweep.read_bytes())
    assert texts[0] == texts[1] != texts[2]


def _crash(words: list[str]) -> None:
    raise ValueError("no message for the user")


def _write_outside(words: list[str]) -> None:
    Path(words[0]).write_text("outside")


def _hang(words: list[str]) -> None:
    time.sleep(60)


def _start_a_program(words: list[str]) -> None:
    os.system("true")


def _say_nothing(words: list[str]) -> None:
    sys.exit(2)


def _colour(words: list[str]) -> None:
    print("\x1b[31m", file=sys.stderr)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (_crash, "traceback:(.|\n)*no message for the user"), (_write_outside, "outside: open"), (_hang, "hang"),
        (_start_a_program, "outside: os.system"), (_say_nothing, "without a word"), (_colour, "control character"),
    ],
)  # fmt: skip
def test_what_a_command_must_not_do_is_seen(
    fault: Callable[..., None], told: str, grounds: Grounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "app", fault)
    monkeypatch.setattr(commands, "WALL_S", 0.5)
    case = Case("sweeps", 1, 0, grounds, tmp_path / "case")
    with pytest.raises(Failed, match=told):
        here(case, tmp_path / "there")


def test_a_lost_image_is_seen(grounds: Grounds, tmp_path: Path) -> None:
    from tools.soak.runs import look_into, stored

    case = Case("kills", 1, 0, grounds, tmp_path / "case")
    run = case.copy("small")
    before = stored(run)
    assert look_into(case, run, before) == before
    sql(run, "DELETE FROM cells WHERE rowid = 3")
    with pytest.raises(Failed, match="lost: 1 of"):
        look_into(case, run, before)


def test_a_started_command_can_be_stopped(grounds: Grounds, tmp_path: Path) -> None:
    case = Case("kills", 1, 0, grounds, tmp_path / "case")
    started = Started(case, "run", grounds.sweep("small"), "-o", tmp_path / "out", fresh=True)
    started.send(signal.SIGKILL)
    assert started.wait().code == -signal.SIGKILL


PLANTED = """
import os, sys
from pathlib import Path
from tools.soak.__main__ import Report
from tools.soak.case import Failed, Grounds
from tools.soak.lanes import Lane, run_lanes
from tools.soak.table import ATTACKS, Attack

def planted(case):
    if case.number == 1:
        raise Failed("a finding")
    if case.number == 2:
        os._exit(7)

ATTACKS["sweeps"] = Attack(planted, 1, "cases")
report = Report(seed=5)
run_lanes([Lane(Grounds(Path(sys.argv[1])), 5, first, 2, {"sweeps": 0.5}) for first in range(2)], report.take)
assert report.cases["sweeps"] > 4
assert {one["number"]: one["failed"] for one in report.failures} == {1: "a finding", 2: "ended with 7"}
"""


def test_lanes_tell_what_failed_with_how_to_repeat_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", PLANTED, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "python -m tools.soak --only sweeps --seed 5 --case 1\n" in ran.stdout
