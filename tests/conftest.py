from __future__ import annotations

import gc
import os
import signal

# One thread: the same sums in the same order everywhere, and test workers that share cores do not wait on each other
os.environ["OMP_NUM_THREADS"] = "1"
# Programs that run for milliseconds are not worth their compilation
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import settings

if TYPE_CHECKING:
    from latents import Latents

# Nothing heavy is imported here: the process that hands out tests would have it before the others begin

# A shell's background jobs ignore it, and so would the runs that the tests start and stop
signal.signal(signal.SIGINT, signal.default_int_handler)

# What shares the machine may stop a test for longer than its examples take
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_configure() -> None:
    """Thousands of small files, synchronised and soon removed, are in the memory where it has the room."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of clusters begin: they mostly wait, and as the last they would leave processors without work."""
    items.sort(key=lambda item: item.path.stem != "test_ray")


def pytest_collection_finish() -> None:
    """What was imported stays: it need not be searched for garbage whenever a run lets go of a checkpoint."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Answers that a test has bent are kept for nobody else; matplotlib's list of fonts takes seconds to make."""
    import matplotlib

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion 1.x pipeline, saved; not to be changed."""
    from checkpoints import save_sd1

    return save_sd1(tmp_path_factory.mktemp("checkpoints") / "sd1")


@pytest.fixture(scope="module", autouse=True)
def blank_plots(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each run writes some, which takes longer than its images; the tests of plots have the mark `plots`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("plots") is None:
            patch.setattr("schedcmp.report.plots.rendered", lambda fig, file_format: f"{file_format}".encode())
        yield


@pytest.fixture(scope="module")
def pipeline(sd1: Path) -> Any:
    """It, loaded; a test that changes it puts it right again."""
    from schedcmp.checkpoint import ModelSpec, inspect
    from schedcmp.checkpoint.loading.load import load

    return load(inspect(ModelSpec(str(sd1))), "cpu")


@pytest.fixture(scope="module")
def config(sd1: Path) -> dict[str, Any]:
    """Its scheduler's config."""
    from schedcmp.checkpoint import ModelSpec, inspect
    from schedcmp.registry.build import mended

    return mended(inspect(ModelSpec(str(sd1))).scheduler_config, "StableDiffusionPipeline")


@pytest.fixture(scope="module")
def coarse_references() -> Iterator[None]:
    """For tests that ask for references, not how good they are."""
    from quick import fewer_steps

    with pytest.MonkeyPatch.context() as patch:
        fewer_steps(patch)
        yield


@pytest.fixture
def write_sweep(tmp_path: Path, sd1: Path) -> Callable[..., Path]:
    """Writes a small sweep on `sd1` and returns its path."""

    def write(**changes: object) -> Path:
        sweep = {
            "model": str(sd1),
            "prompt": "a b",
            "guidance_scale": 3,
            "schedulers": ["ddim", "euler-a", "heun"],
            "steps": [2, 3],
            "seeds": "0..1",
            "metrics": "off",  # on random weights they say nothing and cost much
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(sweep | changes, allow_unicode=True), encoding="utf-8")
        return path

    return write


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> Latents:
    from latents import Latents

    return Latents(monkeypatch)
