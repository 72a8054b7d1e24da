"""No text from a checkpoint, a store, a sweep or a plug-in commands a terminal or a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from harm import sql
from hypothesis import given
from hypothesis import strategies as st
from test_run import Write
from test_run import run as exit_code

from schedcmp.cli import console
from schedcmp.cli.pace import Work
from schedcmp.cli.progress import progress
from schedcmp.guard.texts import csv_text, visible

TITLE, RED, CSI, TURN = "\x1b]0;pwned\x07", "\x1b[31mred", "\x9b31m", "\u202e"
EVIL = f"a{TITLE}{RED}{CSI}{TURN}\r\x08b"


def harmless(text: str) -> bool:
    return not any((letter < " " and letter not in "\n\t") or "\x7f" <= letter <= "\x9f" for letter in text + TURN[1:])


@given(st.text())
def test_visible_text_has_no_controls_and_plain_text_stays(text: str) -> None:
    shown = visible(text)
    assert harmless(shown)
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text


def test_whatever_is_printed_goes_through_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(EVIL)
    console.note(EVIL)
    console.warn(EVIL)
    console.table([EVIL], [[EVIL]], left=(EVIL,))
    with progress(1, Work(1)) as advance:
        advance.finish(EVIL)
    found = capsys.readouterr()
    assert harmless(found.out + found.err)
    assert found.out.count("pwned") == 3
    assert found.err.count("pwned") == 2


def test_a_line_of_a_file_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("sweep.yaml:100: [bold]steps[/]: not valid")
    assert capsys.readouterr().out == "sweep.yaml:100: [bold]steps[/]: not valid\n"


@pytest.mark.parametrize("command", [("list-compatible",), ("show", "ddim"), ("verify", "ddim")])
def test_a_checkpoint_does_not_command_the_terminal(
    sd1: Path, tmp_path: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(sd1, tmp_path / f"m{RED}"))
    for name, change_ in (("scheduler/scheduler_config.json", EVIL), ("model_index.json", EVIL)):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": change_}))
        arguments = ["--model", folder] if command[0] == "verify" else [folder]
        assert exit_code(*command, *arguments) in (0, 2)
        found = capsys.readouterr()
        assert harmless(found.out + found.err)


@pytest.mark.parametrize(
    "changes", [{"model": RED}, {"schedulers": [RED]}, {"schedulers": f"a{TITLE}.b"}, {"name": RED}, {"device": RED}]
)
def test_a_sweep_does_not_command_the_terminal(
    write_sweep: Write, capsys: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    assert exit_code("check", write_sweep(**changes)) == 2
    found = capsys.readouterr()
    assert harmless(found.out + found.err)
    assert "error: " in found.err


def test_a_store_does_not_command_the_terminal(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert exit_code("run", write_sweep(schedulers=["ddim"], steps=[2]), "-o", out) == 0
    sql(out, "UPDATE cells SET status = 'failed', error = ?, scheduler = ?, prompt_name = ?", EVIL, EVIL, EVIL)
    sql(out, "UPDATE meta SET value = ? WHERE name = 'environment'", json.dumps({EVIL: EVIL, "dtype": EVIL}))
    shutil.copytree(out, other)
    sql(other, "UPDATE cells SET status = 'ok', error = NULL")
    capsys.readouterr()
    for command in (("report", out), ("recommend", out), ("compare", other, out), ("compare", out, other)):
        exit_code(*command)
        found = capsys.readouterr()
        assert harmless(found.out + found.err)
    for path in [*out.glob("*.md"), *out.glob("*.csv"), *out.glob("*.tex"), *out.glob("*.json")]:
        assert harmless(path.read_text(encoding="utf-8")), path


def cells(texts: Iterable[object]) -> list[str]:
    return [row[0] for row in csv.reader(io.StringIO(csv_text(["a"], [{"a": text} for text in texts])))][1:]


def test_cells_of_a_spreadsheet_compute_nothing() -> None:
    evil = [
        "=HYPERLINK(1)",
        "@SUM(1)",
        "+1+1",
        "-1-1",
        "=cmd|'/c calc'!A1",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1+1",
        "-",
    ]
    assert all(cell[0] not in "=+-@\t\r\n ＝" or cell.startswith("'") for cell in cells(evil))
    assert [cell.startswith("'") for cell in cells(evil)] == [not text.startswith("\r") for text in evil]
    assert cells([-1.5, 3, 1e-7, None, "-1.5", "+3", "a = b", "don't", "é\u200f猫"]) == [
        "-1.5", "3", "1e-07", "", "-1.5", "+3", "a = b", "don't", "é\u200f猫",
    ]  # fmt: skip
    assert csv_text(["=a"], []) == "'=a\n"


@given(st.text())
def test_a_cell_holds_its_text(text: str) -> None:
    (found,) = cells([text]) if text else [""]
    if text.isprintable():
        assert found.removeprefix("'") == text.removeprefix("'")


def test_results_csv_computes_nothing(write_sweep: Write, tmp_path: Path) -> None:
    prompts = {"=cmd|'/c calc'!A1": "=HYPERLINK(1)", "@a": "+1+1"}
    assert exit_code("run", write_sweep(prompt=prompts, negative_prompt="-b", steps=[2]), "-o", tmp_path / "out") == 0
    for path in (tmp_path / "out").glob("*.csv"):
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert all(not cell.startswith(("=", "@", "+")) for row in rows for cell in row.values())
        assert all(row.get("negative_prompt", "'-b") == "'-b" for row in rows)
