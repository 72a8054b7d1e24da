from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedcmp import files
from schedcmp.errors import RunError, RunFolderError
from schedcmp.files import slug, write_atomically
from schedcmp.records import Cell, CellResult, StoredCell, Timing
from schedcmp.store import schema
from schedcmp.store.folder import is_of_a_run
from schedcmp.store.images import image_path
from schedcmp.store.store import Provenance, Store

PNG = b"\x89PNG and so on IEND\xaeB`\x82"


def same_key(_: Cell, made: Provenance) -> bool:
    return made.key == "key"


def cell(n: int) -> Cell:
    return Cell(f"id{n}", n, "ddim", "ddim", "default", 4, n, "prompt", "a cat", "", 2.0, None, None)


def result(n: int, status: str = "ok") -> CellResult:
    timing = Timing(1.5, 0.1, 1.0, 0.1, 0.2, (0.25, 0.25))
    return CellResult(
        cell(n), status, None if status == "ok" else "why", 4, 64, 64, (),
        "sha", (timing,), 10**9, scheduler_config={"beta_start": 0.1, "betas": None}, timesteps=(9.0, 1.0),
    )  # fmt: skip


CELLS = [cell(n) for n in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def filled(folder: Path, *results: CellResult) -> None:
    with Store.create(folder) as s:
        s.begin(CELLS, {"environment": {"torch": "2"}})
        for r in results:
            s.add(r, "key", "machine", image_path(r.cell), None if r.status == "failed" else PNG)


def test_what_goes_in_comes_out(folder: Path) -> None:
    filled(folder, result(0), result(1, "failed"))
    with Store.open(folder) as s:
        assert list(s.cells()) == [
            StoredCell(result(0), "images/ddim/steps-004/seed-0000.png"),
            StoredCell(result(1, "failed"), None),
        ]
        assert s.planned() == 4
        assert s.meta("environment") == {"torch": "2"}
        assert s.meta("nothing") is None
    assert (folder / "images/ddim/steps-004/seed-0000.png").read_bytes() == PNG


def test_failed_missing_and_changed_cells_are_pending(folder: Path) -> None:
    filled(folder, result(0), result(1, "failed"), result(2, "flagged"), result(3))
    (folder / image_path(cell(3))).unlink()
    with Store.create(folder) as s:
        assert [c.id for c in s.pending(CELLS, same_key)] == ["id1", "id3"]
        assert len(s.pending(CELLS, lambda _, made: made.key == "another diffusers")) == 4


def test_results_of_an_earlier_plan_stay_and_come_back(folder: Path) -> None:
    filled(folder, result(0), result(1))
    with Store.create(folder) as s:
        s.begin(CELLS[1:], {})
        assert [c.cell.id for c in s.cells()] == ["id1"]
        s.begin(CELLS, {})
        assert [c.id for c in s.pending(CELLS, same_key)] == ["id2", "id3"]


def test_cells_come_in_the_sweeps_order_whatever_the_order_of_work(folder: Path) -> None:
    filled(folder, result(3), result(0), result(2))
    with Store.open(folder) as s:
        assert [c.cell.index for c in s.cells()] == [0, 2, 3]


def test_fresh_discards_results_and_nothing_else(folder: Path) -> None:
    filled(folder, result(0))
    (folder / "notes.txt").write_text("mine")
    with Store.create(folder) as s:
        s.clear()
        assert s.planned() == 0
        s.begin(CELLS, {})
    assert (folder / "notes.txt").exists()
    assert not (folder / "images").exists()


def test_a_second_run_in_the_folder_is_refused_but_reading_is_not(folder: Path) -> None:
    with Store.create(folder) as first:
        first.begin(CELLS, {})
        code = "import sys, pathlib; from schedcmp.store.store import Store; Store.create(pathlib.Path(sys.argv[1]))"
        second = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
        assert "another run is writing here" in second.stderr
        with Store.open(folder) as reader:
            assert reader.planned() == 4
    Store.create(folder).close()


def test_foreign_folders_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"holds files that are not a run's \(thesis.tex"):
        Store.create(tmp_path)
    with pytest.raises(RunFolderError, match="is not a folder"):
        Store.create(tmp_path / "thesis.tex")
    with pytest.raises(RunFolderError, match="has no run"):
        Store.open(tmp_path)
    (tmp_path / "run.sqlite").write_text("not a database, whatever its name says")
    with pytest.raises(RunFolderError, match="cannot be used as a run's database"):
        Store.open(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(RunFolderError, match="cannot be written"):
        Store.create(Path("/proc/schedcmp"))


def test_a_newer_database_is_not_touched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 0)
    with pytest.raises(RunFolderError, match="newer schedcmp"):
        Store.open(folder)


def test_torn_files_of_a_killed_run_are_swept_away(folder: Path) -> None:
    filled(folder, result(0))
    torn = folder / "images/ddim/steps-004/.schedcmp-abc_1234.part"
    others = [folder / "images/ddim/steps-004/.download.part", folder / "mine/.schedcmp-abc_1234.part"]
    for path in (torn, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    Store.create(folder).close()
    assert not torn.exists()
    assert all(path.exists() for path in others)


def test_a_full_disk_stops_the_run_and_keeps_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder, result(0))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store.create(folder) as s:
        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(RunError, match=r"No space left.*what was finished is kept"):
            s.add(result(1), "key", "machine", image_path(cell(1)), PNG)
        monkeypatch.undo()
        assert [c.cell.id for c in s.cells()] == ["id0"]
    assert [p.name for p in (folder / "images").rglob("*") if p.is_file()] == ["seed-0000.png"]


def test_a_full_database_stops_the_run(folder: Path) -> None:
    filled(folder, result(0))
    with Store.create(folder) as s:
        with s.database.reading() as database:
            database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(RunError, match="database or disk is full"):
            s.add(replace(result(1), error="x" * 10**6), "key", "machine", image_path(cell(1)), PNG)
    with Store.open(folder) as s:
        assert len(list(s.cells())) == 1


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, b"first")

    def broken(_: int) -> None:
        raise OSError("broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@given(st.text(), st.text())
def test_slugs_are_safe_distinct_file_names(one: str, other: str) -> None:
    for text in (one, other):
        name = slug(text)
        assert Path(name).name == name != ".."
        assert name
        assert len(name) <= 64
        assert name.isascii()
    if one != other:
        assert slug(one) != slug(other)


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=2))
def test_image_paths_stay_inside_the_folder(scheduler: str, folders: list[str]) -> None:
    path = Path("/run", image_path(replace(cell(1), scheduler=scheduler), folders))
    assert path.is_relative_to("/run/images")
    assert ".." not in path.parts


def test_a_stored_row_is_readable_without_schedcmp(folder: Path) -> None:
    filled(folder, result(0))
    import sqlite3

    row = sqlite3.connect(folder / "run.sqlite").execute("SELECT scheduler, steps, timings FROM cells").fetchone()
    assert (row[0], row[1], json.loads(row[2])[0]["latency_s"]) == ("ddim", 4, 1.5)


@pytest.mark.parametrize("content", [b"", b"\x89PNG torn", PNG[:-1]])
def test_a_torn_image_is_made_again(folder: Path, content: bytes) -> None:
    filled(folder, result(0))
    (folder / image_path(cell(0))).write_bytes(content)
    with Store.create(folder) as s:
        assert [c.id for c in s.pending(CELLS[:1], same_key)] == ["id0"]


def test_what_made_a_cell_is_told_to_whoever_asks(folder: Path) -> None:
    filled(folder, replace(result(0), packed=True))
    seen = []
    with Store.create(folder) as s:
        s.pending(CELLS, lambda c, made: bool(seen.append((c.id, made))))
    assert seen == [("id0", Provenance("key", "machine", packed=True, timings=1))]


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00 and then nonsense"])
def test_a_broken_database_is_one_message_and_stays_as_it_is(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "run.sqlite").write_bytes(content)
    with pytest.raises(RunFolderError, match="cannot be used as a run's database"):
        Store.open(folder)
    assert (folder / "run.sqlite").read_bytes() == content
    (folder / "run.sqlite").unlink()
    (folder / "run.sqlite").mkdir()
    with pytest.raises(RunFolderError):
        Store.create(folder)


def test_json_is_json_whatever_the_value() -> None:
    assert json.loads(files.to_json({"a": [float("inf"), float("nan"), 1.5], "b": {3: None, "c": object}})) == {
        "a": ["inf", "nan", 1.5], "b": {"3": None, "c": str(object)},
    }  # fmt: skip


def test_metrics_are_those_of_the_present_image(folder: Path) -> None:
    filled(folder, result(0), result(1))
    with Store.create(folder) as s:
        s.measure({"id0": {"clip": 20.0, "adherence": 1.0}, "id1": {"clip": 10.0}})
        s.measure({"id0": {"clip": 21.0}, "id1": {}}, instead_of=["clip"])
        assert s.metrics() == {"id0": {"clip": 21.0, "adherence": 1.0}}
        s.forget("clip")
        s.add(result(1), "key", "machine", image_path(cell(1)), PNG)
        assert [dict(c.metrics) for c in s.cells()] == [{"adherence": 1.0}, {}]


def test_latents_are_those_of_the_present_image(folder: Path) -> None:
    kept = BytesIO()
    np.save(kept, np.arange(4, dtype=np.float32))
    with Store.create(folder) as s:
        s.add(result(0), "key", "machine", image_path(cell(0)), PNG, kept.getvalue())
        found = s.latents("id0")
        assert found is not None
        assert found.tolist() == [0, 1, 2, 3]
        (folder / "latents/id0.npy").write_bytes(b"torn")
        assert s.latents("id0") is None
        s.add(result(0), "key", "machine", image_path(cell(0)), PNG)
        assert not s.has_latents("id0")


def test_a_run_of_before_there_were_metrics_takes_them(folder: Path) -> None:
    filled(folder, result(0))
    with sqlite3.connect(folder / "run.sqlite") as old:
        old.execute("DROP TABLE metrics")
    with Store.open(folder) as s:
        assert [c.metrics for c in s.cells()] == [{}]
    with Store.create(folder) as s:
        s.measure({"id0": {"clip": 1.0}})
        assert [c.metrics for c in s.cells()] == [{"clip": 1.0}]


def test_an_address_is_no_place_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match="is an address"):
        Store.create(Path("s3://bucket/run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("run.sqlite", True), ("timings.tex", True), ("images/a/seed-0001.png", True), ("report.html", True),
        ("notes.txt", False), ("images", False), ("mine/run.sqlite", False), ("run.sqlite-journal", False), ("", False),
        ("images/../../notes.txt", False), ("/images/a.png", False), ("images/.a.part", False), ("images/..\\a", False),
    ],
)  # fmt: skip
def test_a_runs_files_are_known_by_their_names(name: str, is_one: bool) -> None:
    assert is_of_a_run(name) == is_one


def test_it_is_not_closed_while_a_thread_of_its_run_writes(tmp_path: Path) -> None:
    """As where a run is interrupted: SQLite ends the process whose connection goes meanwhile."""
    store, writing, go_on = Store.create(tmp_path / "run"), Event(), Event()

    def write() -> int:
        with store.database.writing() as database:
            writing.set()
            go_on.wait(10)
            return int(database.execute("SELECT 1").fetchone()[0])

    with ThreadPoolExecutor(2) as threads:
        written = threads.submit(write)
        writing.wait(10)
        closed = threads.submit(store.close)
        assert wait([closed], timeout=0.05).not_done
        go_on.set()
        assert written.result() == 1
        closed.result()
