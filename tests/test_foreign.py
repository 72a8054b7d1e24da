"""Code from elsewhere that misbehaves fails its own cells, with the reason, and nothing else."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greenlet import GreenletExit

from schedcmp.cli import app
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.engine.trials import drawn_from, exact
from schedcmp.errors import RegistryError
from schedcmp.guard.foreign import OvertimeError, contained
from schedcmp.records import Cell, CellResult
from schedcmp.registry import build, table
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.verify import verdict_on

REGISTRY = builtin_registry()

PLUGIN = '''
import random, sys, time
import numpy as np
import torch
from diffusers import EulerDiscreteScheduler as Euler

class Fine(Euler):
    pass

class Exits(Euler):
    """In its steps, of real latents only."""
    def step(self, output, t, sample, **named):
        if sample.shape[-1] > 8:
            sys.exit(0)
        return super().step(output, t, sample, **named)

class ExitsWhenTried(Euler):
    def set_timesteps(self, *args, **named):
        sys.exit(0)

class ExitsWhenMade(Euler):
    def __init__(self, **options):
        sys.exit(0)

def sample_exits(model, x, sigmas):
    denoised = model(x, sigmas[0])
    if x.shape[-1] > 8:
        exit(0)
    return denoised

def sample_exits_when_tried(model, x, sigmas):
    raise BaseException("no")

class Shape(Euler):
    def step(self, *args, **named):
        return (super().step(*args, **named)[0][..., :8],)

class Whole(Euler):
    def step(self, *args, **named):
        return (super().step(*args, **named)[0].to(torch.int64),)

class Array(Euler):
    def step(self, *args, **named):
        return (super().step(*args, **named)[0].numpy(),)

class Hangs(Euler):
    """On real latents only."""
    def step(self, output, t, sample, **named):
        while sample.shape[-1] > 8:
            time.sleep(0.01)
        return super().step(output, t, sample, **named)

class HangsWhenTried(Euler):
    def set_timesteps(self, *args, **named):
        while True:
            pass

class Moved(Euler):
    """By numbers of a global generator, which it draws from after its third step."""
    def step(self, *args, **named):
        moved, = super().step(*args, **{**named, "return_dict": False})[:1]
        return (moved + (self.draw(moved) if self.step_index > 2 else 0),)

class Torch(Moved):
    def draw(self, x):
        return torch.randn_like(x)

class Python(Moved):
    def draw(self, x):
        return random.gauss(0, 1)

class Numpy(Moved):
    def draw(self, x):
        return np.random.standard_normal()

class Made(Moved):
    def __init__(self, beta_start=0.0001, beta_end=0.02):
        super().__init__(beta_start=beta_start, beta_end=beta_end)
        self.shift = random.random()

    def draw(self, x):
        return self.shift

class Unseeded(Moved):
    def draw(self, x):
        return random.SystemRandom().random()

def sample_python(model, x, sigmas):
    for sigma in sigmas[:-1]:
        x = model(x, sigma) + random.random()
    return x

class Interrupted(Euler):
    def step(self, output, t, sample, **named):
        if sample.shape[-1] > 8:
            raise KeyboardInterrupt
        return super().step(output, t, sample, **named)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "misbehaving.py").write_text(PLUGIN)
    (tmp_path / "exits_at_import.py").write_text("import sys\nsys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("misbehaving", None)


def recipe_of(name: str, config: dict[str, Any]) -> Recipe:
    return resolve(REGISTRY.entry(f"misbehaving.{name}"), config)


def cell_of(name: str, seed: int = 0) -> Cell:
    return Cell(f"{name}/{seed}", 0, name, "", "default", 4, seed, "p", "a b", "", 3.0, 32, 32)


def ran(
    engine: str,
    pipeline: Any,
    recipes: dict[str, Recipe],
    seeds: tuple[int, ...] = (0, 1),
    most: int | None = None,
    **bench: Any,
) -> Any:
    """Results by scheduler and seed."""
    on = Workbench(pipeline, recipes, **bench)
    cells = [cell_of(name, seed) for name in recipes for seed in seeds]
    chosen = (
        PackedEngine(on, lambda c: c.steps, most)
        if engine == "packed"
        else SoloEngine(on, Measuring(timed=engine == "timed"))
    )
    results: list[CellResult] = list(chosen.run(cells))
    return {(r.cell.scheduler, r.cell.seed): r for r in results}


def exit_code(*arguments: object) -> object:
    with pytest.raises(SystemExit) as ended:
        app([str(a) for a in arguments])
    return ended.value.code


ENGINES = pytest.mark.parametrize("engine", ["packed", "solo", "timed"])


@ENGINES
@pytest.mark.parametrize("name", ["Exits", "sample_exits"])
@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_ends_the_process_fails_its_cells_alone(
    engine: str, name: str, pipeline: Any, config: dict[str, Any]
) -> None:
    results = ran(engine, pipeline, {n: recipe_of(n, config) for n in (name, "Fine")})
    assert [results["Fine", seed].error for seed in (0, 1)] == [None, None]
    for seed in (0, 1):
        assert results[name, seed].status == "failed"
        assert "SystemExit(0) at " in str(results[name, seed].error)
        assert "misbehaving.py:" in str(results[name, seed].error)


@pytest.mark.usefixtures("plugin")
def test_a_run_with_such_a_plugin_ends_as_with_any_failed_cell(
    write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(schedulers=["misbehaving.ExitsWhenTried", "ddim"])
    assert exit_code("check", path) == 2
    assert "schedulers.0: ExitsWhenTried" in (told := " ".join(capsys.readouterr().err.split()))
    assert "SystemExit(0) at ExitsWhenTried.set_timesteps" in told
    path = write_sweep(schedulers=["misbehaving.Exits", "ddim"], steps=[2], width=32, height=32)
    assert exit_code("run", path, "-o", tmp_path / "run") == 1
    csv = (tmp_path / "run/results.csv").read_text()
    assert (csv.count(",ok,"), csv.count(",failed,")) == (2, 2)


@pytest.mark.usefixtures("plugin")
def test_ctrl_c_still_ends_a_run(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    path = write_sweep(schedulers=["misbehaving.Interrupted", "ddim"], steps=[2], width=32, height=32)
    assert exit_code("run", path, "-o", tmp_path / "run") == 130


@pytest.mark.parametrize("name", ["ExitsWhenTried", "ExitsWhenMade", "sample_exits_when_tried"])
@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_ends_the_process_when_it_is_tried_is_refused(name: str, config: dict[str, Any]) -> None:
    recipe = recipe_of(name, config)
    with pytest.raises(RegistryError, match=r"would have ended the run"):
        preflight(recipe, 4)
    assert not exact(recipe)
    assert "would have ended the run" in verdict_on(recipe.entry, config).text + verdict_on(recipe.entry, config).why


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_ends_the_process_when_it_is_imported_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match=r"SystemExit\(0\) at <module> \(.*exits_at_import.py:2\)"):
        build.load_class("exits_at_import.Thing")
    points = [EntryPoint("bad", "exits_at_import:Thing", table.ENTRY_POINTS)]
    monkeypatch.setattr(table, "entry_points", lambda group: points)
    with pytest.raises(RegistryError, match=r"entry point 'bad'.*SystemExit\(0\)"):
        builtin_registry.__wrapped__()


@pytest.mark.parametrize("meant", [KeyboardInterrupt, GreenletExit, GeneratorExit, ValueError])
def test_what_ends_a_run_by_right_passes(meant: type[BaseException]) -> None:
    with pytest.raises(meant), contained(5):
        raise meant


def spin() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def test_code_that_does_not_end_is_interrupted_in_any_thread() -> None:
    seen: list[str] = []

    def tried() -> None:
        with pytest.raises(OvertimeError) as caught, contained(0.1):
            spin()
        seen.append(str(caught.value))

    tried()
    thread = threading.Thread(target=tried)
    thread.start()
    thread.join()
    assert len(seen) == 2
    assert all("after 0.1 s, when it was at spin (" in text for text in seen)


def test_code_that_sleeps_is_interrupted_and_the_timer_before_goes_on() -> None:
    import signal

    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with pytest.raises(OvertimeError), contained(0.05, wall=0.1):
            time.sleep(100)
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] < 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@ENGINES
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Shape", r"(1, 4, 16, 8) for latents of shape (1, 4, 16, 16)"),
        ("Whole", "torch.int64 for latents of torch.float32"),
        ("Array", "ndarray for latents"),
    ],
)
@pytest.mark.usefixtures("plugin")
def test_a_step_that_returns_something_else_than_latents_fails_its_cell(
    engine: str, name: str, reason: str, pipeline: Any, config: dict[str, Any]
) -> None:
    results = ran(engine, pipeline, {n: recipe_of(n, config) for n in (name, "Fine")}, seeds=(0,))
    assert results["Fine", 0].error is None
    assert results[name, 0].error == f"TypeError: {name}.step returned {reason}: mend it, or take another scheduler"


@ENGINES
@pytest.mark.usefixtures("plugin")
def test_a_step_that_hangs_fails_its_cell_after_the_steps_limit(
    engine: str, pipeline: Any, config: dict[str, Any]
) -> None:
    recipes = {n: recipe_of(n, config) for n in ("Hangs", "Fine")}
    results = ran(engine, pipeline, recipes, seeds=(0,), step_limit=0.3)
    assert results["Fine", 0].error is None
    assert "it had not ended after 0.3 s, when it was at Hangs.step (" in str(results["Hangs", 0].error)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_hangs_when_it_is_tried_is_waited_for_once(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.recipe, "TRIAL_S", 0.2)
    recipe, appraisal = recipe_of("HangsWhenTried", config), Appraisal(config)
    with pytest.raises(RegistryError, match=r"had not ended after 0.28 s, when it was at HangsWhenTried.set_timesteps"):
        appraisal.trajectory(recipe.entry, 4)
    monkeypatch.setattr(build.recipe, "TRIAL_S", 1000)
    with pytest.raises(RegistryError, match=r"had not ended after 0.28 s"):
        appraisal.trajectory(recipe.entry, 5)


@pytest.mark.parametrize("name", ["Torch", "Python", "Numpy", "Made", "sample_python"])
@pytest.mark.usefixtures("plugin")
def test_global_random_numbers_of_a_plugin_are_the_cells_own(name: str, pipeline: Any, config: dict[str, Any]) -> None:
    def made(engine: str, *also: str, seeds: tuple[int, ...] = (0, 1, 2)) -> list[str]:
        results = ran(engine, pipeline, {n: recipe_of(n, config) for n in (name, *also)}, seeds, most=1)
        assert not [r.error for r in results.values() if r.status == "failed"]
        return [results[name, seed].image_sha256 for seed in seeds]

    alone = made("solo")
    assert len(set(alone)) == 3
    assert made("packed") == made("packed", "Fine") == made("timed") == alone
    assert made("solo", seeds=(2,)) == alone[2:]


@pytest.mark.usefixtures("plugin")
def test_only_schedulers_that_draw_are_given_generators(config: dict[str, Any]) -> None:
    drawn = {n: drawn_from(recipe_of(n, config), 5) for n in ("Fine", "Torch", "Python", "Numpy", "Unseeded")}
    assert drawn == {
        "Fine": set(), "Torch": {"torch"}, "Python": {"random"}, "Numpy": {"numpy"}, "Unseeded": set(),
    }  # fmt: skip


@pytest.mark.usefixtures("plugin")
def test_global_generators_are_left_as_they_were(pipeline: Any, config: dict[str, Any]) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    ran("packed", pipeline, {n: recipe_of(n, config) for n in ("Torch", "Python", "Numpy")})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.usefixtures("plugin")
def test_a_plugin_whose_images_cannot_be_made_again_is_told(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["misbehaving.Unseeded", "misbehaving.Torch", "misbehaving.Fine"]
    assert exit_code("check", write_sweep(schedulers=names, steps=[5])) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "Unseeded: draws random numbers that no seed governs" in told
    assert told.count("no seed governs") == 1
