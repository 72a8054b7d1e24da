"""Sweeps on a real Ray cluster of two nodes on loopback, with what goes wrong there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_run import run, schedcmp

from schedcmp.records import StoredCell
from schedcmp.store.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the package ray"),
    # Ray starts its processes by fork and exec; JAX, which tests before these may have imported, warns of any fork
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

Write = Callable[..., Path]
SWEEP: dict[str, Any] = {"steps": [10, 20], "seeds": "0..11", "max_batch": 8, "timing": {"mode": "off"}}
POISON = """
import os
from diffusers import EulerDiscreteScheduler

class Poison(EulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, generator=None, **kwargs):
        generators = generator if isinstance(generator, list) else [generator]
        if any(g is not None and g.initial_seed() in (7, 12) for g in generators):  # also in a lane that seeds share
            os._exit(1)
        return super().step(model_output, timestep, sample, generator=generator, **kwargs)
"""


class Cluster:
    """Two nodes with a core each; each is a place for a worker."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Simulated

        self._nodes = Simulated(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._second: Any = None
        self.address = self._nodes.address

    def set_second(self, **environment: str) -> None:
        """A new second node, whose workers have a changed environment."""
        self.lose_second()
        self._second = self._nodes.add_node(num_cpus=1, env_vars=environment)

    def lose_second(self) -> None:
        if self._second:
            self._nodes.remove_node(self._second, allow_graceful=False)
            self._second = None

    def workers(self) -> list[int]:
        """Process ids of the actors."""
        raylets = {n.all_processes["raylet"][0].process.pid for n in self._nodes.list_all_nodes()}
        return [pid for pid in _pids() if _parent(pid) in raylets and b"ray::Worker" in _read(pid, "cmdline")]

    def close(self) -> None:
        self._nodes.shutdown()


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    return int((_read(pid, "stat").rpartition(b")")[2].split() or [b"", b"0"])[1])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the nodes and of those who drive them."""
    code = tmp_path_factory.mktemp("code")
    (code / "poison.py").write_text(POISON)
    short = Path(f"/tmp/ray-{os.getpid()}")  # sockets have short names
    (short / "ray").mkdir(parents=True, exist_ok=True)
    return {
        "PYTHONPATH": str(code),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": str(short),
    }


@pytest.fixture(scope="module")
def nodes(settings: dict[str, str]) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        found = Cluster()
    yield found
    found.close()


@pytest.fixture
def cluster(nodes: Cluster, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """With both nodes."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    nodes.set_second()
    return nodes


def started(cluster: Cluster, sweep: Path, out: Path) -> subprocess.Popen[str]:
    """The command, driving the cluster, in a process of its own."""
    executor = f"executor={{ray: {{address: '{cluster.address}', cpus_per_worker: 1}}}}"
    return subprocess.Popen(
        [sys.executable, "-m", "schedcmp", "run", str(sweep), "-o", str(out), "--set", executor],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for_images(process: subprocess.Popen[str], out: Path, images: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.glob("images/**/seed-*.png"))) < images:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(folder: Path) -> dict[str, StoredCell]:
    with Store.open(folder) as store:
        return {c.cell.id: c for c in store.cells()}


def assert_same_run(got: Path, expected: Path) -> None:
    """The same cells with the same fates; images equal to the last of 255 levels, as packed ones are."""
    one, other = stored(got), stored(expected)
    assert {i: c.result.status for i, c in one.items()} == {i: c.result.status for i, c in other.items()}
    for i, c in one.items():
        assert c.image_path == other[i].image_path
        with Image.open(got / str(c.image_path)) as a, Image.open(expected / str(other[i].image_path)) as b:
            assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1


def test_workers_and_a_node_die_and_the_store_is_that_of_one_machine(
    cluster: Cluster, write_sweep: Write, tmp_path: Path
) -> None:
    sweep, out = write_sweep(**SWEEP), tmp_path / "out"
    process = started(cluster, sweep, out)
    wait_for_images(process, out, 10)
    os.kill(cluster.workers()[0], signal.SIGKILL)
    wait_for_images(process, out, 30)
    cluster.lose_second()
    shown, _ = process.communicate(timeout=200)
    assert process.returncode == 0, shown
    assert "died; others take what it had" in shown
    assert "Traceback" not in shown
    assert run("run", sweep, "-o", tmp_path / "alone") == 0
    assert_same_run(out, tmp_path / "alone")
    assert not cluster.workers()


def test_cells_that_kill_workers_fail_and_no_other(cluster: Cluster, write_sweep: Write, tmp_path: Path) -> None:
    """Seed 7 kills those that time it, one after the other; seed 12 whoever has it, first beside others."""
    entry = {"name": "poison", "class": "poison.Poison"}
    changes = {"schedulers": [entry, "ddim"], "steps": [4], "seeds": "7..16", "timing": {"mode": "solo"}}
    process = started(cluster, write_sweep(**SWEEP | changes), tmp_path / "out")
    shown, _ = process.communicate(timeout=200)
    assert process.returncode == 1, shown
    found = {(c.cell.scheduler, c.cell.seed): c.result for c in stored(tmp_path / "out").values()}
    assert {of for of, result in found.items() if result.status == "failed"} == {("poison", 7), ("poison", 12)}
    assert len(found) == 20
    assert {of for of, result in found.items() if result.timings} == {("ddim", 7)}
    assert "failed: poison, 4 steps, seed 12: it killed 2 workers that were making nothing else" in shown


def test_a_driver_that_is_stopped_goes_on_where_it_was(cluster: Cluster, write_sweep: Write, tmp_path: Path) -> None:
    sweep, out = write_sweep(**SWEEP | {"timing": {"mode": "solo"}}), tmp_path / "out"
    done: dict[str, str | None] = {}
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = started(cluster, sweep, out)
        wait_for_images(process, out, len(done) + 8)
        process.send_signal(stop)
        shown, _ = process.communicate(timeout=60)
        assert process.returncode == code, shown
        found = {i: c.result.image_sha256 for i, c in stored(out).items()}
        assert done.items() <= found.items()
        assert len(done) + 6 <= len(found) < 72
        done = found
    process = started(cluster, sweep, out)
    shown, _ = process.communicate(timeout=200)
    assert process.returncode == 0, shown
    assert f"{len(done)} cells are there already" in shown
    results = {i: c.result for i, c in stored(out).items()}
    assert done.items() <= {i: result.image_sha256 for i, result in results.items()}.items()
    assert {result.cell.seed for result in results.values() if result.timings} == {0}
    assert len({result.machine for result in results.values()}) == 1
    assert run("run", sweep, "-o", tmp_path / "alone", "--set", "timing.mode=off") == 0
    assert_same_run(out, tmp_path / "alone")


def test_workers_with_other_versions_are_refused_unless_they_may_mix(
    cluster: Cluster, write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other version is that of a package's metadata, found before the real one's. `engine: solo`, beside it."""
    package = tmp_path / "other" / "diffusers-0.0.7.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.0.7\n")
    cluster.set_second(PYTHONPATH=str(package.parent))
    executor = f"executor={{ray: {{address: '{cluster.address}', cpus_per_worker: 1, mixed: %s}}}}"
    versions = {"0.0.7", version("diffusers")}

    sweep = write_sweep(engine="solo")
    assert run("run", sweep, "-o", tmp_path / "out", "--set", executor % "false") == 0
    told = " ".join(capsys.readouterr().err.split())
    refused = re.search(r"workers on \S+ are not used: diffusers (\S+) instead of (\S+); executor: \{ray:", told)
    assert refused, told
    assert {*refused.groups()} == versions
    assert told.count("are not used") == 1
    found = [c.result for c in stored(tmp_path / "out").values()]
    assert len(found) == 12
    assert all(result.timings and not result.packed for result in found)
    assert len({result.machine for result in found}) == 1

    sweep = write_sweep(**SWEEP | {"steps": [20]})
    assert run("run", sweep, "-o", tmp_path / "mixed", "--set", executor % "true") == 0
    assert "are not used" not in capsys.readouterr().err
    with Store.open(tmp_path / "mixed") as store:
        machines = store.meta("machines")
        made = Counter(c.result.machine for c in store.cells())
    assert {machines[name]["diffusers"] for name in made} == versions
    assert made.total() == 36


@pytest.mark.parametrize("changes", [{"model": "builtin:tiny", "metrics": "reference"}, {"backend": "jax"}])
def test_without_a_cluster_one_is_started_here_and_ends_with_the_run(
    changes: dict[str, Any], write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers make references too; they may have their denoiser in JAX. The run may be at an address."""
    home, executor = tmp_path / "home", "executor={ray: {address: local}}"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # for programs that JAX compiles
    sweep = write_sweep(**changes, schedulers=["ddim", "euler"], steps=3, max_batch=8)
    address = f"file://{tmp_path}/out"
    done = schedcmp("run", sweep, "-o", address, "--set", executor, HOME=str(home), TMPDIR="/tmp")
    assert done.returncode == 0, done.stderr
    assert not list(home.glob(".ray/*"))  # no token of a cluster that is gone
    told = [
        line for line in done.stderr.splitlines() if not line.startswith("warning: The")
    ]  # of latencies, of settings
    assert all("/4 cells" in line for line in told), done.stderr  # and no word of Ray's
    run("run", sweep, "-o", tmp_path / "alone")
    assert_same_run(tmp_path / "out", tmp_path / "alone")
    distances, alone = ({i: c.metrics for i, c in stored(tmp_path / name).items()} for name in ("out", "alone"))
    assert all(distances[i] == pytest.approx(alone[i], rel=1e-3) for i in alone)
    assert all(("reference_rmse" in found) is ("metrics" in changes) for found in distances.values())


def test_without_ray_the_message_says_how_to_install_it(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("run", write_sweep(executor="ray"), "-o", tmp_path / "out") == 2
    assert 'pip install "schedcmp[ray]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_imports_ray_unless_asked_to(write_sweep: Write, tmp_path: Path) -> None:
    code = "import sys; from schedcmp.cli import app\ntry: app()\nfinally: assert 'ray' not in sys.modules"
    arguments = ["run", str(write_sweep(seeds=0, schedulers=["ddim"], steps=2)), "-o", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_is_not_there_is_one_message(write_sweep: Write, tmp_path: Path) -> None:
    done = schedcmp("run", write_sweep(), "-o", tmp_path / "out", "--set", "executor={ray: {address: 'localhost:9'}}")
    assert done.returncode == 2
    assert "error: executor: the Ray cluster at localhost:9 cannot be used" in done.stderr
    assert not (tmp_path / "out").exists()
