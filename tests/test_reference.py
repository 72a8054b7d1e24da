from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from asked import prepare

from schedcmp.prepare import prepare_sweep
from schedcmp.records import Reference, StoredCell
from schedcmp.runs.execution import Execution
from schedcmp.store.store import Store
from schedcmp.truth import reference

Write = Callable[..., Path]

DETERMINISTIC = ["ddim", "euler", "dpmpp-2m-karras", "heun-karras"]
STOCHASTIC = [
    "euler-a",
    {"name": "sde", "base": "dpmpp-2m", "options": {"algorithm_type": "sde-dpmsolver++"}},
    {"name": "mine", "class": "schedcmp.samplers.ancestral.euler_ancestral"},
]
TINY = {
    "metrics": "reference",
    "model": "builtin:tiny",
    "prompt": "a large striped red heart on a white background",
    "guidance_scale": 2,
    "timing": "off",
}


def make(sweep: Path | dict[str, Any], folder: Path, pipeline: Any = None, *, fresh: bool = False) -> int:
    """Run a sweep into a folder; returns how many of its cells were made."""
    if isinstance(sweep, dict):
        path = folder.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
        sweep = path
    with Store.create(folder) as store:
        execution = Execution.begin(prepare(sweep), store, pipeline, fresh=fresh)
        made = len(list(execution.run()))
        execution.measure()
    return made


def cells(folder: Path) -> list[StoredCell]:
    with Store.open(folder) as store:
        return list(store.cells())


def rmse(folder: Path) -> dict[tuple[str, int], float]:
    """By scheduler and steps, of seed 0."""
    found = {(c.cell.scheduler, c.cell.steps): c for c in cells(folder) if c.cell.seed == 0}
    return {key: c.metrics["reference_rmse"] for key, c in found.items() if "reference_rmse" in c.metrics}


def only_reference(folder: Path) -> Reference:
    with Store.open(folder) as store:
        (found,) = store.references().values()
    return found


@pytest.fixture(scope="module")
def converging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converging") / "out"
    schedulers = [*DETERMINISTIC, *STOCHASTIC, {"name": "res-multistep-karras", "steps": [100]}]
    make(TINY | {"schedulers": schedulers, "steps": [10, 40]}, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "order"), [("ddim", 1), ("euler", 1), ("dpmpp-2m-karras", 2), ("heun-karras", 2)]
)
def test_the_distance_falls_with_steps_at_about_the_solvers_order(scheduler: str, order: int, converging: Path) -> None:
    found = rmse(converging)
    fall = math.log(found[scheduler, 10] / found[scheduler, 40]) / math.log(4)
    assert order - 0.5 < fall < order + 0.7


@pytest.mark.slow
def test_pixels_say_the_same_as_latents(converging: Path) -> None:
    measured = [c.metrics for c in cells(converging) if "reference_rmse" in c.metrics]
    for name, sign in (("reference_psnr_db", -1), ("reference_ssim", -1)):
        ranks = [np.argsort(np.argsort([m[key] for m in measured])) for key in ("reference_rmse", name)]
        assert sign * np.corrcoef(*ranks)[0, 1] > 0.9


@pytest.mark.slow
def test_the_uncertainty_is_the_distance_of_two_solvers_and_a_third_agrees(converging: Path) -> None:
    found = only_reference(converging)
    with Store.open(converging) as store:
        one, other = (store.latents(part.partition(":")[0]) for part in found.origin.split())
    assert one is not None
    assert other is not None
    assert found.uncertainty == pytest.approx(np.sqrt(np.mean((one - other) ** 2)) / one.std(), rel=1e-5)
    assert found.uncertainty < 0.01
    assert rmse(converging)["res-multistep-karras", 100] < found.uncertainty
    assert not found.note
    assert (converging / str(found.image)).is_file()


@pytest.mark.slow
def test_what_draws_noise_has_no_distance(converging: Path) -> None:
    names = {c.cell.scheduler for c in cells(converging) if "reference_rmse" in c.metrics}
    assert names == {*DETERMINISTIC, "res-multistep-karras"}


def test_cfg_plus_plus_solves_another_equation() -> None:
    plan = planned(["euler-cfgpp", "ddim"])
    assert plan.comparable == {"ddim"}


def test_what_its_call_makes_draw_noise_has_no_distance() -> None:
    for eta, names in ((0, {"ddim", "euler"}), ([0, 1], {"euler"})):
        assert planned(["ddim", "euler"], call={"eta": eta}).comparable == names


def planned(schedulers: list[Any], **more: Any) -> reference.References:
    from schedcmp.sweep.document import Sweep
    from schedcmp.sweep.source import parse

    data = TINY | {"schedulers": schedulers, "steps": [4]} | more
    found = prepare_sweep(Sweep.model_validate(data), parse(yaml.safe_dump(data), "sweep")).references
    assert found is not None
    return found


def test_too_uncertain_a_reference_is_withheld_until_it_is_better(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, out = TINY | {"model": str(sd1), "schedulers": ["ddim", "heun"], "steps": [3]}, tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(reference, "_SOLVER", ("dpmpp-2m-karras", 3))
        patch.setattr(reference, "_OTHERS", (("heun-karras", 3),))
        assert make(sweep, out) == 2
    found = only_reference(out)
    assert found.image is None
    assert "dpmpp-2m-karras at 3 steps and heun-karras at 3 end" in found.note
    assert not rmse(out)
    assert make(sweep, out) == 0
    assert not only_reference(out).note
    assert len(rmse(out)) == 2


def test_a_reference_that_cannot_tell_the_cells_apart_is_withheld(sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(TINY | {"model": str(sd1), "schedulers": ["ipndm-v-karras"], "steps": [99]}, out)
    found = only_reference(out)
    assert "most cells are less than twice that away" in found.note
    assert not rmse(out)


@pytest.fixture
def small(write_sweep: Write) -> Callable[..., Path]:
    def write(**changes: object) -> Path:
        defaults = {"schedulers": ["ddim", "heun", "euler-a"], "metrics": "reference", "timing": "off"}
        return write_sweep(**defaults | changes)

    return write


def test_packed_cells_have_the_distances_of_solo_ones(small: Write, tmp_path: Path) -> None:
    for engine in ("packed", "solo"):
        make(small(engine=engine, seeds=0), tmp_path / engine)
    packed, solo = ({c.cell.id: c.metrics for c in cells(tmp_path / name)} for name in ("packed", "solo"))
    assert packed.keys() == solo.keys()
    assert sum("reference_rmse" in metrics for metrics in solo.values()) == 4
    for id_, metrics in solo.items():
        assert packed[id_] == pytest.approx(metrics, rel=2e-3)


def test_a_metric_that_is_asked_for_later_remakes_only_what_it_needs(small: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(small(metrics="off"), out) == 12
    assert not list(out.rglob("*.npy"))
    assert make(small(), out) == 8  # not the stochastic ones
    before = {c.cell.id: c.metrics for c in cells(out)}
    assert make(small(), out) == 0
    shutil.rmtree(out / "latents")
    assert make(small(), out) == 0  # all is measured
    assert {c.cell.id: c.metrics for c in cells(out)} == before
    next(out.glob("images/ddim/**/*.png")).unlink()
    assert make(small(), out) == 1
    for c in cells(out):  # in a batch of another size sums are rounded otherwise
        assert c.metrics == pytest.approx(before[c.cell.id], rel=1e-6)


def test_a_stopped_run_goes_on_to_the_same_distances(small: Write, tmp_path: Path) -> None:
    sweep, out, whole = small(engine="solo", seeds=0), tmp_path / "out", tmp_path / "whole"
    with Store.create(out) as store, closing(Execution.begin(prepare(sweep), store).run()) as results:
        for _ in range(3):
            next(results)
    assert make(sweep, out) < 6
    make(sweep, whole)
    assert {c.cell.id: c.metrics for c in cells(out)} == {c.cell.id: c.metrics for c in cells(whole)}


def test_a_fresh_run_forgets_latents_and_references(small: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(small(), out)
    assert {p.name for p in out.iterdir()} >= {"latents", "references"}
    make(small(metrics="off"), out, fresh=True)
    assert not {p.name for p in out.iterdir()} & {"latents", "references"}
    assert not rmse(out)


def test_each_prompt_guidance_and_seed_has_a_reference_of_its_own(small: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(small(prompt=["a", "b"], guidance_scale=[1, 3], schedulers=["ddim"], steps=[2]), out)
    with Store.open(out) as store:
        found = store.references()
    assert len({r.image or r.note for r in found.values()}) == len(found) == 8
    assert {c.cell.task for c in cells(out)} == found.keys()


def test_a_solver_that_diverges_has_no_distance(small: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DDIMScheduler

    step, out = DDIMScheduler.step, tmp_path / "out"

    def diverging(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = step(self, *args, **kwargs)
        return (found[0] * float("inf"), *found[1:])

    monkeypatch.setattr(DDIMScheduler, "step", diverging)
    make(small(seeds=0), out)
    flagged = [c for c in cells(out) if c.result.status == "flagged"]
    assert {c.cell.scheduler for c in flagged} == {"ddim"}
    assert not any(c.metrics for c in flagged)
    assert make(small(seeds=0), out) == 0


def test_check_says_what_references_cost(small: Write) -> None:
    plan = prepare(small()).references
    assert plan is not None
    assert plan.nfe == 2 * (100 + 99)
    assert prepare(small(metrics="off")).references is None
    alone = prepare(small(schedulers=["euler-a"])).references
    assert alone is not None
    assert not alone.cells
