"""What schedulers import and construct at once without needing it waits, and is there when it is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from schedcmp.registry.postpone import postponed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package whose module `late` has a number and a module of its own."""
    name = f"package_{tmp_path.name.replace('-', '_')}"
    late = tmp_path / name / "late"
    late.mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (late / "__init__.py").write_text("number = 5\n")
    (late / "inner.py").write_text("number = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_postponed_module_is_loaded_once_something_of_it_is_used(package: str) -> None:
    late = f"{package}.late"
    with postponed(late):
        stand_in = import_module(late)
    assert late not in sys.modules
    assert stand_in.number == 5
    assert sys.modules[late].number == 5


def test_what_is_used_at_once_is_loaded_at_once(package: str) -> None:
    with postponed(f"{package}.late"):
        assert import_module(f"{package}.late").number == 5
        assert sys.modules[f"{package}.late"].number == 5
    assert f"{package}.late" in sys.modules


def test_a_module_inside_a_postponed_one_can_be_imported(package: str) -> None:
    with postponed(f"{package}.late"):
        assert import_module(f"{package}.late.inner").number == 7
    assert import_module(f"{package}.late").number == 5


@pytest.mark.slow
def test_schedulers_load_no_statistics_before_beta_sigmas_need_them() -> None:
    code = """
import sys
from schedcmp.registry.build import resolve
from schedcmp.registry.table import builtin_registry
def made(name):
    scheduler = resolve(builtin_registry().entry(name), {"_class_name": "PNDMScheduler"}).build()
    scheduler.set_timesteps(4)
    return scheduler
made("euler"), made("dpmpp-2m-karras")
import diffusers
from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.loading.load import load
load(inspect(ModelSpec("builtin:tiny")))
assert not {"scipy.stats", "scipy.integrate"} & set(sys.modules)
lms = made("lms")
lms.get_lms_coefficient(1, 0, 0)
assert made("euler-beta").timesteps[0] > 900
assert "scipy.stats" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
