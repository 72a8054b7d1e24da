"""Files are damaged, swapped and taken away: a run finds out, says so, and makes again what is gone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from harm import BESIDE, DAMAGED, DAMAGED_BESIDE, empty, flipped, images, sql, swapped, zeroed
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_run import run

from schedcmp.errors import RunError
from schedcmp.store import schema
from schedcmp.store.store import Store

pytestmark = pytest.mark.usefixtures("coarse_references")
Capture = pytest.CaptureFixture[str]
CELLS = 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sd1: Path) -> Path:
    """A folder with `sweep.yaml` and its finished run `out`; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    sweep = {
        "model": str(sd1), "prompt": "a b", "guidance_scale": 3, "schedulers": ["ddim", "heun"], "steps": [2, 3],
        "seeds": [0, 1], "metrics": ["reference"], "timing": {"mode": "off"},
        "max_batch": 1,  # bit for bit, whatever is made beside
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    assert run("run", folder / "sweep.yaml", "-o", folder / "out") == 0
    return folder


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A finished run of `tmp_path / "sweep.yaml"`, to be damaged."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)  # with the files' times
    return tmp_path / "out"


def again(out: Path, *options: str) -> int:
    return run("run", out.parent / "sweep.yaml", "-o", out, *options)


@pytest.mark.parametrize("harm", [zeroed, swapped, empty, Path.unlink])
def test_a_damaged_image_is_found_everywhere_and_made_again(
    harm: Callable[[Path], None], finished: Path, out: Path, capsys: Capture
) -> None:
    image = images(out)[3]
    right = image.read_bytes()
    assert run("compare", finished / "out", out) == 0
    harm(image)
    assert run("compare", finished / "out", out) == 1
    assert "changed" in capsys.readouterr().err
    assert run("report", out) == 0
    assert f"1 image is not what was stored ({out}/images" in capsys.readouterr().err
    assert run("check", out) == 1
    assert str(image.relative_to(out)) in capsys.readouterr().err
    assert again(out) == 0
    assert f"{CELLS - 1} cells are there already" in capsys.readouterr().out
    assert image.read_bytes() == right
    assert run("check", out) == 0


def test_an_image_that_was_only_copied_or_touched_is_not_made_again(out: Path, capsys: Capture) -> None:
    for path in images(out):
        os.utime(path)
    assert again(out) == 0
    assert f"{CELLS} cells are there already" in capsys.readouterr().out
    with Store.open(out) as store:
        assert all(store._stamp(str(p.relative_to(out))).mtime_us == p.stat().st_mtime_ns // 1000 for p in images(out))  # type: ignore[union-attr]


def test_images_of_a_run_without_digests_are_looked_at(out: Path, capsys: Capture) -> None:
    sql(out, "DROP TABLE files")
    swapped(images(out)[0])
    assert run("check", out) == 1
    assert again(out) == 0
    assert f"{CELLS - 1} cells are there already" in capsys.readouterr().out
    assert run("check", out) == 0


def test_rot_that_leaves_size_and_time_is_found_by_check_and_compare(
    finished: Path, out: Path, capsys: Capture
) -> None:
    image = images(out)[0]
    before = image.stat()
    zeroed(image)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run("compare", finished / "out", out) == 1
    assert run("check", out) == 1
    assert f"schedcmp check {out} --repair" in capsys.readouterr().out
    assert run("check", out, "--repair") == 0
    assert again(out) == 0
    assert run("compare", finished / "out", out) == 0


def test_latents_that_cannot_be_read_are_made_again(out: Path, capsys: Capture) -> None:
    sql(out, "DELETE FROM metrics")
    for path in (out / "latents").iterdir():
        path.write_bytes(b"garbage" * 100)
    assert run("check", out) == 1
    assert "latents" in capsys.readouterr().err
    assert again(out) == 0
    with Store.open(out) as store:
        assert all("reference_rmse" in cell.metrics for cell in store.cells())
    assert "not finite" not in capsys.readouterr().err


@pytest.mark.parametrize(("column", "value"), DAMAGED)
def test_a_row_that_no_run_has_written_is_not_read(out: Path, column: str, value: Any) -> None:
    sql(out, f"UPDATE cells SET {column} = ? WHERE id IN (SELECT id FROM plan WHERE position = 2)", value)
    with Store.open(out) as store:
        assert [cell.cell.index for cell in store.cells()] == [0, 1, 3, 4, 5, 6, 7]
        ((what, why),) = store.unreadable.items()
        assert what.startswith("the cell ")
        assert column in why


def test_a_row_that_cannot_be_read_is_a_cell_to_make(out: Path, capsys: Capture) -> None:
    sql(out, "UPDATE cells SET timings = '[{}]' WHERE id IN (SELECT id FROM plan WHERE position = 2)")
    for command in (("report", out), ("recommend", out), ("compare", out, out)):
        assert run(*command) == 0
        assert "cannot be read (timings.0.latency_s: Field required)" in capsys.readouterr().err
    assert run("check", out) == 1
    assert again(out) == 0
    assert f"{CELLS - 1} cells are there already" in capsys.readouterr().out
    assert run("report", out) == 0
    assert "warning" not in capsys.readouterr().err
    assert run("check", out) == 0


def test_what_is_nested_deeper_than_a_run_writes_is_damage(out: Path, capsys: Capture) -> None:
    deep, info = "[" * 10**5, PngInfo()
    sql(out, "INSERT INTO meta VALUES ('more', ?)", deep)
    info.add_itxt("schedcmp", deep)
    with Image.open(images(out)[0]) as image:
        image.save(images(out)[0], pnginfo=info)
    assert run("check", out) == 1
    shown = "".join(capsys.readouterr())
    assert "has settings that cannot be read" in shown
    assert "1 rows of the table meta cannot be read" in shown


@pytest.mark.parametrize("value", DAMAGED_BESIDE)
def test_what_no_run_has_kept_beside_cells_is_not_read(out: Path, value: Any) -> None:
    for name in BESIDE[1:-1]:
        sql(out, "INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)
    with Store.open(out) as store:
        assert [store.meta(name) for name in BESIDE[1:-1]] == [None] * len(BESIDE[1:-1])
        assert store.unreadable.keys() == {*BESIDE[1:-1]}


@pytest.mark.parametrize(
    "value",
    [
        "{", b"\xff\xfe", "[1]", json.dumps("[" * 10**5),
        json.dumps("{name: a, grid: {}, more: [" + "1, " * 3000 + "]}"),  # more than a sweep can hold
    ],
)  # fmt: skip
def test_what_is_kept_beside_cells_is_written_again(
    out: Path, value: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.sweep.source._MAX_VALUES", 2000)
    for name in BESIDE:
        sql(out, "INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)
    assert run("report", out) == 0
    assert run("recommend", out) == 0
    assert run("compare", out, out) == 0
    assert run("check", out) == 1
    assert again(out) == 0
    sql(out, "UPDATE meta SET value = ? WHERE name = 'sweep'", value)
    capsys.readouterr()
    assert run("report", out) == 2
    assert "its sweep cannot be read" in capsys.readouterr().err
    assert again(out) == 0
    assert run("report", out) == 0


def test_tables_beside_cells_may_be_damaged(out: Path) -> None:
    sql(out, "UPDATE fingerprints SET pixels = 'text'")
    sql(out, "UPDATE metrics SET value = 9e999")
    sql(out, "UPDATE files SET digest = 5, size = 'x'")
    sql(out, "UPDATE plan SET position = 'first' WHERE rowid = 1")
    assert run("report", out) == 0
    assert run("check", out) == 1
    assert run("check", out, "--repair") == 0
    assert again(out) == 0
    assert run("check", out) == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cells SET timings = replace(timings, '.', '.1'), finished_at = '1970' WHERE rowid = 2",
        "UPDATE cells SET machine = 'another' WHERE rowid = 2", "UPDATE cells SET key = 'a' || key WHERE rowid = 3",
        "UPDATE cells SET peak_memory_bytes = 5 WHERE rowid = 1", "UPDATE cells SET prompt_name = 'b' WHERE rowid = 1",
        "UPDATE metrics SET value = value * 1.5 WHERE rowid = 1", "UPDATE metrics SET name = 'clip' WHERE rowid = 1",
        "DELETE FROM metrics WHERE rowid = 1", "DELETE FROM cells WHERE rowid = 1",
        "UPDATE plan SET position = 7 - position", "DELETE FROM plan WHERE position = 7",
        "UPDATE meta SET value = replace(value, '2', '3') WHERE name = 'trajectories'",
    ],
)  # fmt: skip
def test_what_no_image_tells_is_found_by_check_and_mended(change: str, out: Path, finished: Path) -> None:
    with Store.open(finished / "out") as store:
        before = list(store.cells())
    sql(out, change)
    assert run("check", out) == 1
    assert run("check", out, "--repair") == 0
    assert again(out) == 0
    assert run("check", out) == 0
    with Store.open(out) as store:
        assert [c.metrics for c in store.cells()] == [pytest.approx(c.metrics, rel=1e-5) for c in before]
        assert [c.cell.prompt_name for c in store.cells()] == [c.cell.prompt_name for c in before]


def test_what_a_run_changes_later_is_no_damage(out: Path) -> None:
    sweep = out.parent / "sweep.yaml"
    sweep.write_text(sweep.read_text().replace("a b", "[b a, a b]"))
    assert again(out) == 0
    assert run("check", out) == 0
    assert again(out, "--fresh", "--set", "metrics=off") == 0
    assert run("check", out) == 0


def test_rows_of_an_earlier_schedcmp_have_no_seals(out: Path) -> None:
    sql(out, "DROP TABLE seals")
    sql(out, "UPDATE metrics SET value = value * 1.5 WHERE rowid = 1")
    assert run("check", out) == 0
    assert again(out) == 0
    assert run("check", out) == 0


def test_a_damaged_header_is_repaired_or_set_aside(out: Path, capsys: Capture) -> None:
    flipped(out / "run.sqlite", 3)
    damaged = (out / "run.sqlite").read_bytes()
    for command in (
        ("report", out),
        ("recommend", out),
        ("compare", out, out),
        ("run", out.parent / "sweep.yaml", "-o", out),
    ):
        assert run(*command) == 2
        assert f"`schedcmp check {out} --repair`" in capsys.readouterr().err
    assert run("check", out) == 1
    assert run("check", out, "--repair") == 0
    assert "kept as" in capsys.readouterr().out
    assert [path.read_bytes() for path in out.glob("run.sqlite.damaged-*")] == [damaged]
    assert again(out) == 0
    assert f"{CELLS} cells are there already" in capsys.readouterr().out


def test_fresh_replaces_a_damaged_database_and_keeps_it(out: Path, capsys: Capture) -> None:
    (out / "run.sqlite").write_bytes(b"nonsense" * 10_000)
    assert again(out, "--fresh") == 0
    assert "was damaged; it is kept as run.sqlite.damaged-" in capsys.readouterr().err
    assert [path.stat().st_size for path in out.glob("run.sqlite.damaged-*")] == [80_000]
    assert run("check", out) == 0


def test_what_can_be_read_of_a_torn_database_is_saved(out: Path, capsys: Capture) -> None:
    path = out / "run.sqlite"
    data = bytearray(path.read_bytes())
    data[-4096:] = bytes(4096)
    path.write_bytes(data)
    assert run("check", out) == 1
    assert run("check", out, "--repair") == 0
    assert again(out) == 0
    capsys.readouterr()
    assert run("check", out) == 0
    assert run("report", out) == 0


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_byte_is_more_than_one_message(out: Path, capsys: Capture, seed: int) -> None:
    import random

    rng = random.Random(seed)
    path = out / "run.sqlite"
    flipped(path, *(rng.randrange(path.stat().st_size) for _ in range(3)))
    for command in (("report", out), ("recommend", out), ("compare", out, out), ("check", out)):
        assert run(*command) in (0, 1, 2)
    assert run("check", out, "--repair") == 0
    assert again(out) == 0
    assert run("check", out) == 0


def test_a_run_that_has_not_begun_says_so(tmp_path: Path, capsys: Capture) -> None:
    Store.create(tmp_path / "out").close()
    assert run("report", tmp_path / "out") == 2
    assert "has no results yet" in capsys.readouterr().err


def test_a_folder_without_a_run_cannot_be_checked(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", tmp_path) == 2
    assert run("check", tmp_path, "--repair") == 2
    assert not list(tmp_path.iterdir())
    assert run("check", tmp_path / "sweep.yaml", "--repair") == 2


def test_a_disk_that_is_full_at_the_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(connection: sqlite3.Connection, version: int) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE one (a)")
        connection.execute("CREATE TABLE two (a)")

    monkeypatch.setattr(schema, "_make_tables", full)
    with pytest.raises(RunError, match=r"full.*Make room"):
        Store.create(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(RunError, match=r"full.*Make room"):
        Store.create(tmp_path / "old")
    assert not list((tmp_path / "old").glob("run.sqlite*"))
    monkeypatch.undo()
    Store.create(tmp_path / "old").close()


def test_the_upgrade_of_an_old_database_happens_as_a_whole(out: Path) -> None:
    sql(out, "ALTER TABLE plan DROP COLUMN nfe_budget")
    sql(out, "PRAGMA user_version = 1")
    with Store.create(out) as store:
        assert len(list(store.cells())) == CELLS
    sql(out, "PRAGMA user_version = 1")  # as if stopped after the column was added
    with Store.create(out) as store:
        assert len(list(store.cells())) == CELLS


def test_a_folder_that_is_removed_while_it_is_written_is_said(out: Path) -> None:
    with Store.create(out) as store:
        shutil.rmtree(out)
        with pytest.raises(RunError, match="was removed while"):
            store.note("name", 1)


def test_what_is_not_damaged_is_not_set_aside(out: Path, capsys: Capture) -> None:
    sql(out, "PRAGMA user_version = 1000")
    for command in (
        ("check", out),
        ("check", out, "--repair"),
        ("run", out.parent / "sweep.yaml", "-o", out, "--fresh"),
    ):
        assert run(*command) == 2
        assert "newer schedcmp" in capsys.readouterr().err
    assert not list(out.glob("run.sqlite.*"))
