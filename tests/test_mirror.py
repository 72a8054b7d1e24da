"""Runs at addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from test_run import Write, fingerprints, killed_run, run

from schedcmp.addresses import following
from schedcmp.addresses.claim import STALE_S, WRITER
from schedcmp.addresses.mirror import LIST, Mirror
from schedcmp.addresses.remote import Remote
from schedcmp.errors import RunError
from schedcmp.store.folder import DATABASE, is_of_a_run
from schedcmp.store.store import Store

Host = Callable[[str], Path]


class Shaky(MemoryFileSystem):  # type: ignore[misc]
    """A file system whose network may go."""

    protocol = "shaky"
    store: dict[str, Any] = {}  # noqa: RUF012  fsspec's own way
    pseudo_dirs = [""]  # noqa: RUF012
    files_left = 10**9

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if Shaky.files_left <= 0:
            raise OSError("the network is\n gone")
        Shaky.files_left -= 1
        super().put_file(lpath, rpath, **options)


class Bucket(AsyncFileSystemWrapper):  # type: ignore[misc]
    """A file system of many transfers at once, as object stores are."""

    protocol = "bucket"

    def __init__(self, **options: Any) -> None:
        super().__init__(fs=MemoryFileSystem(), asynchronous=False, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(str(path).removeprefix("bucket://")))


fsspec.register_implementation("bucket", Bucket)
fsspec.register_implementation("shaky", Shaky)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Makes this process a host of that name, which has caches of its own; returns its folder of runs."""

    def be(name: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        monkeypatch.setattr("platform.node", lambda: name)
        return tmp_path / name / "schedcmp" / "runs"

    be("one")
    return be


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"memory://{tmp_path}/there"


@pytest.fixture
def shaky(tmp_path: Path) -> Iterator[str]:
    yield f"shaky://{tmp_path}/there"
    Shaky.files_left = 10**9


def there(address: str, target: Path) -> Path:
    """What is at an address, without its list."""
    fs, root = fsspec.url_to_fs(address)
    for path in fs.find(root):
        name = path.removeprefix(root).lstrip("/")
        if name != LIST:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(path, str(target / name))
    return target


def names(folder: Path) -> set[str]:
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {name for name in found if is_of_a_run(name)}


def images(folder: Path) -> list[str]:
    """The images that a run's database speaks of."""
    with Store.open(folder) as store:
        return [cell.image_path for cell in store.cells() if cell.image_path]


@pytest.mark.parametrize("scheme", ["file", "memory", "bucket"])
def test_a_run_at_an_address_is_the_run_in_a_folder(
    scheme: str, write_sweep: Write, tmp_path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, address = write_sweep(timing={"mode": "off"}), f"{scheme}://{tmp_path}/deep/there"
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    capsys.readouterr()
    assert run("run", sweep, "-o", address) == 0
    shown = capsys.readouterr().out
    assert f"page     {address}/report.html" in shown
    assert str(host("one")) not in shown
    found, out = there(address, tmp_path / "found"), tmp_path / "out"
    assert names(found) == names(out)
    assert fingerprints(found) == fingerprints(out)
    assert (found / "results.csv").read_text() == (out / "results.csv").read_text()
    for name in names(out):
        assert not name.startswith("images") or (found / name).read_bytes() == (out / name).read_bytes()
    assert not [name for name in names(found) if not is_of_a_run(name)]


def test_another_host_goes_on_and_the_first_one_sees_it(
    write_sweep: Write, address: str, tmp_path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_sweep(seeds=0), "-o", address) == 0
    first = fingerprints(there(address, tmp_path / "a"))
    host("two")
    assert run("run", write_sweep(), "-o", address) == 0
    assert "6 cells are there already" in capsys.readouterr().out
    second = fingerprints(there(address, tmp_path / "b"))
    assert first.items() <= second.items()
    assert len(second) == 12
    host("one")
    assert run("run", write_sweep(), "-o", address) == 0
    assert "12 cells are there already" in capsys.readouterr().out
    assert fingerprints(there(address, tmp_path / "c")) == second


def test_reading_commands_take_addresses(
    write_sweep: Write, address: str, tmp_path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_sweep(), "-o", address) == 0
    fs, root = fsspec.url_to_fs(address)
    fs.rm(f"{root}/results.csv")
    runs = host("two")
    assert run("recommend", address) == 0
    assert not list(runs.rglob("*.png"))  # it needs none
    capsys.readouterr()
    assert run("compare", address, address, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accepted"]
    assert run("report", address) == 0
    assert fs.exists(f"{root}/results.csv")
    assert not fs.exists(f"{root}/{WRITER}")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_sends_what_it_has(
    stop: signal.Signals, write_sweep: Write, tmp_path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, address = write_sweep(seeds="0..11", engine="solo"), f"file://{tmp_path}/there"
    assert killed_run(sweep, address, stop, images=7, seen=Mirror(address).folder) == 130
    done = fingerprints(tmp_path / "there")
    assert 5 <= len(done) < 72
    assert all((tmp_path / "there" / i).is_file() for i in images(tmp_path / "there"))
    host("two")
    assert run("run", sweep, "-o", address) == 0
    assert f"{len(done)} cells are there already" in capsys.readouterr().out
    assert done.items() <= fingerprints(tmp_path / "there").items()


def test_what_others_read_is_a_run_at_every_moment(
    write_sweep: Write, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_S", 0.05)
    monkeypatch.setattr(following, "_SHARE", 1.0)
    found: list[int] = []
    fs, root = fsspec.url_to_fs(address)

    def looked(self: Remote, local: Path, name: str) -> None:
        put(self, local, name)
        if not fs.exists(f"{root}/{DATABASE}"):
            return
        copy = tmp_path / "copy"
        copy.mkdir(exist_ok=True)
        fs.get_file(f"{root}/{DATABASE}", str(copy / DATABASE))
        assert all(fs.exists(f"{root}/{image}") for image in images(copy))
        found.append(len(images(copy)))

    put = Remote.put
    monkeypatch.setattr(Remote, "put", looked)
    assert run("run", write_sweep(seeds="0..9"), "-o", address) == 0
    assert len({*found} - {0, 60}) > 1  # it was there in between
    assert found[-1] == 60


@pytest.mark.parametrize("after", [0, 5])
def test_a_run_goes_on_without_its_address(
    after: int,
    write_sweep: Write,
    shaky: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: Host,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(following, "EVERY_S", 0.05)
    Shaky.files_left = after
    assert run("run", write_sweep(), "-o", shaky) == 1
    shown = capsys.readouterr()
    assert f"warning: {shaky}: cannot be written: the network is gone; the run goes on" in shown.err
    folder = Mirror(shaky).folder
    assert f"All of it is in {folder}; repeat the command" in shown.err
    assert "Traceback" not in shown.err
    assert len(fingerprints(folder)) == 12
    Shaky.files_left = 10**9
    assert run("run", write_sweep(), "-o", shaky) == 0
    assert "12 cells are there already" in capsys.readouterr().out
    assert fingerprints(there(shaky, tmp_path / "found")) == fingerprints(folder)


def test_a_failed_attempt_is_not_repeated_from_its_beginning(write_sweep: Write, shaky: str, tmp_path: Path) -> None:
    mirror = Mirror(shaky)
    with mirror.writing():
        assert run("run", write_sweep(), "-o", mirror.folder) == 0
        Shaky.files_left = 7
        with pytest.raises(RunError, match="the network is gone"):
            mirror.send()
        Shaky.files_left = 10**9
        assert mirror.send() == len(names(mirror.folder)) - 7
        assert mirror.send() == 0


def test_only_a_runs_own_files_are_removed(write_sweep: Write, address: str, host: Host) -> None:
    assert run("run", write_sweep(), "-o", address) == 0
    fs, root = fsspec.url_to_fs(address)
    mine = {f"{root}/images/mine.png": b"1", f"{root}/notes.txt": b"2", f"{root}/.run.mine": b"3"}
    fs.pipe(mine)
    host("two")
    assert run("run", write_sweep(schedulers=["ddim"], steps=[2]), "-o", address, "--fresh") == 0
    assert [p for p in fs.find(f"{root}/images") if p not in mine] == [
        f"{root}/images/ddim/steps-002/seed-000{n}.png" for n in (0, 1)
    ]
    assert {path: fs.cat(path) for path in mine} == mine


@pytest.mark.parametrize("command", ["run", "report"])
def test_strangers_are_left_alone(
    command: str, write_sweep: Write, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fs, root = fsspec.url_to_fs(address)
    fs.pipe(f"{root}/images/thesis.png", b"years of work")
    assert run(*([command, write_sweep(), "-o", address] if command == "run" else [command, address])) == 2
    shown = capsys.readouterr().err
    assert f"{address}: {'holds files that are not' if command == 'run' else 'has no run.sqlite'}" in shown
    assert fs.find(root) == [f"{root}/images/thesis.png"]


NOWHERE = {
    "odd://bucket/x": "cannot be reached: Protocol not known: odd",
    "memory://nowhere": "has no run.sqlite; give the address of a run",
    "s3://bucket/x": "cannot be reached: Install s3fs to access S3; install that with pip, or",
    "http://127.0.0.1:9/x": "cannot be re",
}


@pytest.mark.parametrize(
    ("command", "address"),
    [
        (command, address)
        for command in ("run", "report", "compare", "recommend")
        for address in NOWHERE
        if (command, address) != ("run", "memory://nowhere")  # there it may begin
    ],
)
def test_an_address_of_nothing_is_one_message(
    command: str, address: str, write_sweep: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("s3fs") and address.startswith("s3"):
        pytest.skip("S3 is asked, and this host may have no network")
    arguments = {"run": (write_sweep(), "-o", address), "compare": (address, address)}.get(command, (address,))
    assert run(command, *arguments) == 2
    shown = capsys.readouterr().err
    assert f"error: {address}: {NOWHERE[address]}" in shown
    assert "Traceback" not in shown


def test_nothing_leaves_the_folder_whatever_a_list_says(write_sweep: Write, address: str, host: Host) -> None:
    assert run("run", write_sweep(seeds=0), "-o", address) == 0
    fs, root = fsspec.url_to_fs(address)
    listed = json.loads(fs.cat(f"{root}/{LIST}"))
    for name in ("images/../../../escaped.png", "../escaped.png", "/escaped.png", "notes.txt"):
        listed["files"][name] = 1
        fs.pipe(f"{root}/{name}", b"mine")
    fs.pipe(f"{root}/{LIST}", json.dumps(listed).encode())
    runs = host("two")
    assert run("run", write_sweep(seeds=1), "-o", address, "--fresh") == 0
    assert not list(runs.parent.parent.rglob("escaped.png"))
    assert not list(runs.rglob("notes.txt"))
    assert fs.cat(f"{root}/notes.txt") == b"mine"


@given(st.text(alphabet="./\\ab", max_size=12), st.sampled_from(["", "images/", "grids/", "timings."]))
def test_no_name_of_a_runs_file_leads_elsewhere(name: str, start: str) -> None:
    folder = Path("/runs/one")
    if is_of_a_run(start + name):
        assert Path(os.path.normpath(folder / (start + name))).is_relative_to(folder)


def test_two_hosts_do_not_write_at_once(
    write_sweep: Write, address: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    fs, root = fsspec.url_to_fs(address)
    other = {"host": "two", "folder": "/x", "process": 1}
    fs.pipe(f"{root}/{WRITER}", json.dumps(other | {"time": time.time() - 5}).encode())
    assert run("run", write_sweep(seeds=0), "-o", address) == 2
    said = capsys.readouterr().err
    assert f"{address}: two is writing there, heard of " in said
    assert " s ago; wait" in said
    assert fs.find(root) == [f"{root}/{WRITER}"]
    killed = {"host": "one", "folder": str(Mirror(address).folder), "process": 1, "time": time.time() - 5}
    fs.pipe(f"{root}/{WRITER}", json.dumps(killed).encode())
    assert run("run", write_sweep(seeds=0), "-o", address) == 0
    fs.pipe(f"{root}/{WRITER}", json.dumps(other | {"time": time.time() - STALE_S}).encode())
    assert run("run", write_sweep(seeds=0), "-o", address) == 0
    assert not fs.exists(f"{root}/{WRITER}")


def test_a_second_run_of_one_host_is_refused_and_reading_is_not(
    write_sweep: Write, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_sweep(), "-o", address) == 0
    with Mirror(address).writing():
        assert run("run", write_sweep(), "-o", address) == 2
        assert "another run of this host is writing there" in capsys.readouterr().err
        assert run("recommend", address) == run("compare", address, address) == 0


def test_what_was_not_sent_is_kept_when_another_host_went_on(
    write_sweep: Write, shaky: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_sweep(seeds=0), "-o", shaky) == 0
    Shaky.files_left = 0
    assert run("run", write_sweep(), "-o", shaky) == 1
    Shaky.files_left = 10**9
    runs = host("two")
    assert run("run", write_sweep(seeds="0..2"), "-o", shaky) == 0
    runs = host("one")
    assert run("run", write_sweep(seeds="0..2"), "-o", shaky) == 0
    aside = next(runs.glob("there-*-unsent-*"))
    shown = capsys.readouterr()
    assert f"what this host had not sent is in {aside}" in shown.err
    assert "18 cells are there already" in shown.out
    assert len(fingerprints(aside)) == 12


def test_a_run_that_was_copied_there_or_removed_there_is_taken_as_it_is(
    write_sweep: Write, address: str, tmp_path: Path, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("run", write_sweep(), "-o", out) == 0
    fs, root = fsspec.url_to_fs(address)
    fs.put(f"{out}/", root, recursive=True)
    capsys.readouterr()
    assert run("run", write_sweep(), "-o", address) == 0
    assert "12 cells are there already" in capsys.readouterr().out
    assert fs.exists(f"{root}/{LIST}")
    fs.rm(root, recursive=True)
    assert run("run", write_sweep(), "-o", address) == 0
    assert "there already" not in capsys.readouterr().out


def test_a_refused_request_leaves_nothing(
    write_sweep: Write, address: str, host: Host, capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(sd1, broken)
    weights = next((broken / "text_encoder").glob("*.safetensors"))
    shutil.copy(next((broken / "vae").glob("*.safetensors")), weights)
    assert run("run", write_sweep(model=str(broken)), "-o", address) == 2
    fs, root = fsspec.url_to_fs(address)
    assert not fs.exists(root) or not fs.find(root)
    assert not [p for p in host("one").iterdir() if p.is_dir()]


def test_a_dry_run_says_whether_there_is_one(
    write_sweep: Write, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", write_sweep(), "-o", address, "--dry-run") == 0
    assert f"folder   {address}\n" in capsys.readouterr().out
    assert run("run", write_sweep(), "-o", address) == 0
    assert run("run", write_sweep(), "-o", address, "--dry-run") == 0
    assert f"folder   {address} (exists;" in capsys.readouterr().out


BROKEN = [
    b"{",
    b"",
    b"[]",
    b"5",
    b"\xff",
    b'{"version": 5, "files": {}}',
    b'{"version": "a", "files": {"a": "x"}}',
    b"null",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_mark_is_named_with_what_to_do(
    content: bytes, write_sweep: Write, address: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(timing={"mode": "off"}, schedulers=["ddim"], seeds=0)
    assert run("run", sweep, "-o", address) == 0
    fs, root = fsspec.url_to_fs(address)
    capsys.readouterr()
    for name in (LIST, *([WRITER] if content else [])):
        before = fs.cat_file(f"{root}/{name}") if fs.exists(f"{root}/{name}") else None
        fs.pipe_file(f"{root}/{name}", content)
        host("two")
        assert run("run", sweep, "-o", address) == 2
        said = capsys.readouterr().err
        assert f"{address}/{name}: " in said
        assert "remove it" in said
        fs.rm_file(f"{root}/{name}")
        if before:
            fs.pipe_file(f"{root}/{name}", before)
    assert run("run", sweep, "-o", address) == 0
    fs.pipe_file(f"{root}/{LIST}", content)
    fs.rm_file(f"{root}/{LIST}")
    host("three")
    assert run("run", sweep, "-o", address) == 0
    assert "2 cells are there already" in capsys.readouterr().out


def test_a_host_that_forgot_what_it_has_fetches_it_again(
    write_sweep: Write, address: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(timing={"mode": "off"}, schedulers=["ddim"], seeds=0)
    assert run("run", sweep, "-o", address) == 0
    (state,) = host("one").glob("*.json")
    state.write_bytes(b"{")
    assert run("run", sweep, "-o", address) == 0
    assert "2 cells are there already" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_named(
    write_sweep: Write,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run("run", write_sweep(), "-o", address) == 2
    assert f"{tmp_path}/file/schedcmp/runs: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images", ".run.part", "run.sqlite", ".run.writer.json", ".run.files.json"])
def test_a_link_at_an_address_is_not_followed(tmp_path: Path, name: str) -> None:
    victim, there = tmp_path / "victim", tmp_path / "there"
    for folder in (victim, there):
        folder.mkdir()
    (victim / "notes.txt").write_text("mine")
    (there / name).symlink_to(victim if name == "images" else victim / "notes.txt")
    mirror = Mirror(f"file://{there}")
    Store.create(mirror.folder).close()
    (mirror.folder / "images/ddim").mkdir(parents=True)
    (mirror.folder / "images/ddim/a.png").write_text("mine")
    with pytest.raises(RunError, match=f"{name} is a link"):
        mirror.send()
    assert [(p.name, p.read_text()) for p in victim.iterdir()] == [("notes.txt", "mine")]
