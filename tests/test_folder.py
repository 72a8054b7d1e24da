"""Whatever a database, a list or a link says: nothing outside of a run's folder is read, written or removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from hashlib import blake2s
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
from harm import BAD_NAMES, COMPUTING, CRAFTED_LISTS, RUN_FOLDERS, contents, make_victim, red_pixels, sql
from PIL import Image
from test_run import Write
from test_run import run as exit_code

from schedcmp.errors import RunFolderError
from schedcmp.store.folder import LIST, is_an_image, open_file, place, remove_file, write_file
from schedcmp.store.images import opened
from schedcmp.store.store import Store
from schedcmp.store.written import Written

pytestmark = pytest.mark.usefixtures("coarse_references")


class Found(NamedTuple):
    code: int
    err: str


def run(*arguments: object) -> Found:
    """The command in this process."""
    err = StringIO()
    with redirect_stderr(err), redirect_stdout(StringIO()):
        return Found(exit_code(*arguments), err.getvalue())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sd1: Path) -> Path:
    """A run's folder and its sweep; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    sweep = {"model": str(sd1), "prompt": "a b", "schedulers": ["ddim", "euler"], "steps": [2], "metrics": "reference"}
    (folder / "sweep.yaml").write_text(json.dumps(sweep | {"seeds": "0..1", "width": 32, "height": 32}))
    assert run("run", folder / "sweep.yaml", "-o", folder / "run").code == 0
    return folder / "run"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, to break, beside somebody's folder."""
    make_victim(tmp_path / "victim")
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.mark.parametrize("sha", ["../../victim/written", "/tmp/written", "..", "a/../../b", "\0", 5, b"\xff"])
def test_a_hash_of_an_image_is_no_path(folder: Path, sha: object) -> None:
    before = contents(folder.parent / "victim")
    sql(folder, "UPDATE cells SET image_sha256 = ?, made_width = 640, made_height = 640", sha)
    run("report", folder)
    assert contents(folder.parent / "victim") == before
    outside = {p.name for p in folder.parent.iterdir()} - {"run", "victim"}
    assert not outside
    assert {p.parent for p in folder.rglob("*.webp")} <= {folder / "thumbs"}


@pytest.mark.parametrize("command", ["report", "run"])
@pytest.mark.parametrize(
    "way", ["../victim/secret.png", "{victim}/secret.png", "images/link.png", "images/linked/secret.png"]
)
def test_an_image_elsewhere_is_not_read(folder: Path, made: Path, command: str, way: str) -> None:
    victim = folder.parent / "victim"
    (folder / "images/link.png").symlink_to(victim / "secret.png")
    (folder / "images/linked").symlink_to(victim)
    sql(folder, "UPDATE cells SET image_path = ?, image_sha256 = id, made_width = 640", way.format(victim=victim))
    before = contents(victim)
    arguments = (folder,) if command == "report" else (made.parent / "sweep.yaml", "-o", folder)
    assert run(command, *arguments).code == 0
    assert red_pixels(folder) == 0
    assert contents(victim) == before
    assert "secret.png" not in (folder / "report.html").read_text() or "link" in way


@pytest.mark.parametrize("path", ["../fifo", "images/fifo", "images", ".", "", "/dev/zero", 5, None])
def test_what_is_no_image_file_is_not_waited_for(folder: Path, path: object) -> None:
    os.mkfifo(folder.parent / "fifo")
    os.mkfifo(folder / "images/fifo")
    sql(folder, "UPDATE cells SET image_path = ?, made_width = NULL", path)
    run("report", folder)


@pytest.mark.parametrize("name", RUN_FOLDERS)
def test_a_linked_folder_is_not_followed(folder: Path, made: Path, name: str) -> None:
    victim = folder.parent / "victim"
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).symlink_to(victim)
    before = contents(victim)
    sql(folder, "UPDATE cells SET made_width = 640, made_height = 640")
    for command in (("report", folder), ("run", made.parent / "sweep.yaml", "-o", folder)):
        found = run(*command)
        assert contents(victim) == before
        assert found.code == 0 or f"{name} is a link" in found.err
    sql(folder, "UPDATE cells SET status = 'failed'")
    for more in ((), ("--fresh",)):
        found = run("run", made.parent / "sweep.yaml", "-o", folder, *more)
        assert contents(victim) == before
        assert found.code == 0 or f"{name} is a link" in found.err


@pytest.mark.parametrize("name", ["run.sqlite", "run.sqlite-journal", "run.sqlite-wal", ".run.lock"])
def test_a_linked_database_or_lock_is_refused(folder: Path, made: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder.parent / "victim/notes.txt")
    for command in (("report", folder), ("recommend", folder), ("run", made.parent / "sweep.yaml", "-o", folder)):
        found = run(*command)
        assert (found.code, (folder.parent / "victim/notes.txt").read_text()) == (2, "mine")
        assert f"{folder / name}: is a link" in found.err


def test_what_its_user_put_into_a_run_stays(folder: Path, made: Path) -> None:
    own = [
        "plots/my.svg",
        "plots/my.png",
        "thumbs/mine.webp",
        "grids/grid_mine.png",
        "grids/own.png",
        "plots/notes.txt",
    ]
    own += ["timings.bak", "images/mine.png", "latents/mine.npy", "images/.mine.part"]
    for name in own:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    assert run("report", folder).code == 0
    assert run("run", made.parent / "sweep.yaml", "-o", folder, "--fresh").code == 0
    assert {name for name in own if (folder / name).read_text() == "mine"} == {*own}


def test_fresh_removes_what_the_run_made(folder: Path, write_sweep: Write) -> None:
    sweep = write_sweep(schedulers=["heun"], steps=[3], seeds=0)
    assert run("run", sweep, "-o", folder, "--fresh").code == 0
    assert [str(p.relative_to(folder)) for p in folder.rglob("seed-*.png")] == ["images/heun/steps-003/seed-0000.png"]
    assert not [*folder.rglob("*.npy"), *folder.glob("references/*"), *folder.glob("images/ddim")]


@pytest.mark.parametrize("crafted", CRAFTED_LISTS)
def test_a_crafted_list_removes_nothing_that_the_run_did_not_write(folder: Path, crafted: object) -> None:
    digest = blake2s(b"mine", digest_size=16).hexdigest()
    (folder / "plots/my.svg").write_text("mine")
    before = contents(folder.parent / "victim") | {"page": (folder / "report.html").read_bytes()}
    (folder / "plots" / LIST).write_text(json.dumps(crafted).replace("{digest}", digest))
    written = Written(folder, "plots")
    written.close()
    assert contents(folder.parent / "victim") | {"page": (folder / "report.html").read_bytes()} == before
    assert (folder / "plots/my.svg").exists()


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": ', "\x00", '{"a": 1}'])
def test_a_broken_list_says_nothing(folder: Path, text: str) -> None:
    (folder / "grids" / LIST).write_text(text)
    assert Written(folder, "grids").names == []


def test_what_was_written_and_then_changed_stays(tmp_path: Path) -> None:
    first = Written(tmp_path, "plots")
    for name in ("a.svg", "b.svg", "c.svg"):
        first.write(name, b"drawn")
    first.close()
    (tmp_path / "plots/b.svg").write_bytes(b"edited")
    second = Written(tmp_path, "plots")
    second.keep("c.svg")
    second.close()
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"b.svg", "c.svg", LIST}
    assert Written(tmp_path, "plots").names == ["c.svg"]
    Written(tmp_path, "plots").clear()
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"b.svg"}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("what", [place, open_file, remove_file, lambda f, n: write_file(f, n, b"")])
def test_a_name_that_is_none_of_a_runs_is_no_path(tmp_path: Path, name: object, what: Callable[..., object]) -> None:
    with pytest.raises(OSError, match="none of a run's files"):
        what(tmp_path, name)
    assert not list(tmp_path.iterdir())
    assert not is_an_image(name)


def test_a_link_in_the_place_of_a_file_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "results.csv").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="is a link"):
        open_file(tmp_path, "results.csv")
    write_file(tmp_path, "results.csv", b"ours")
    assert (tmp_path / "other").read_text() == "mine"
    assert not (tmp_path / "results.csv").is_symlink()


def test_images_are_read_as_png_and_nothing_else(tmp_path: Path) -> None:
    """Pillow starts another program for some formats."""
    (tmp_path / "images").mkdir()
    for kind in ("EPS", "GIF", "TIFF"):
        data = BytesIO()
        Image.new("RGB", (8, 8)).save(data, kind)
        (tmp_path / "images/a.png").write_bytes(data.getvalue())
        with pytest.raises(OSError, match="cannot identify"), opened(tmp_path, "images/a.png"):
            pass


def test_a_refused_run_leaves_a_new_folder_to_whoever_used_it(tmp_path: Path) -> None:
    for name, stays in (("empty", False), ("used", True)):
        with Store.create(tmp_path / name):
            if stays:
                (tmp_path / name / "mine.txt").write_text("mine")
        assert (tmp_path / name).exists() == stays
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["mine.txt"]


def test_a_pipe_is_no_database(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.sqlite")
    for open_store in (Store.open, Store.create):
        with pytest.raises(RunFolderError, match="is a link or no file"):
            open_store(tmp_path)


@pytest.mark.parametrize("statement", COMPUTING)
def test_a_database_that_computes_is_refused(folder: Path, made: Path, statement: str) -> None:
    sql(folder, statement)
    for command in (("report", folder), ("recommend", folder), ("run", made.parent / "sweep.yaml", "-o", folder)):
        found = run(*command)
        assert (found.code, "has 'more" in found.err) == (2, True)


def test_a_database_that_computes_is_not_rescued(folder: Path) -> None:
    for statement in (
        "DROP TABLE metrics",
        "CREATE VIEW metrics AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "UPDATE cells SET id = '../victim/id' WHERE rowid = 1",
    ):
        sql(folder, statement)
    assert run("check", folder, "--repair").code == 2
    assert (folder.parent / "victim/id.npy").read_text() == "mine"


def test_a_linked_database_is_not_checked(folder: Path) -> None:
    (folder / "run.sqlite").rename(folder.parent / "victim/run.sqlite")
    (folder / "run.sqlite").symlink_to(folder.parent / "victim/run.sqlite")
    before = contents(folder.parent / "victim")
    for more in ((), ("--repair",)):
        found = run("check", folder, *more)
        assert (found.code != 0, "run.sqlite: is a link" in found.err) == (True, True)
    assert contents(folder.parent / "victim") == before
