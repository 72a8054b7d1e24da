"""Axes of a sweep: budgets, pairs, gaps, and settings that change nothing."""

from __future__ import annotations

import linecache
import sys
from itertools import product
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
from asked import prepare
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from test_run import Write, rows, run
from test_sweep import plan_of, refusal

from schedcmp.errors import SweepError
from schedcmp.pictures.image import fingerprint
from schedcmp.report.axes import GridAxes, plan_pages
from schedcmp.report.inert import repeats
from schedcmp.report.write import write_reports
from schedcmp.store.store import Store
from schedcmp.sweep.values import numbers, sizes


def test_a_budget_gives_each_scheduler_the_most_steps_that_it_pays_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, schedulers=["euler", "heun"], steps=None, nfe=[5, 10], seeds=0)
    found = [(c.scheduler, c.steps, c.nfe_budget) for c in plan.cells]
    assert found == [("euler", 5, 5), ("euler", 10, 10), ("heun", 3, 5), ("heun", 5, 10)]
    assert plan.sweep.grid.cols == ("nfe",)


def test_a_budget_is_kept_by_what_schedulers_really_cost(write_sweep: Write) -> None:
    names = ["ddim", "pndm", "heun", "kdpm2", "dpmpp-sde", "dpmpp-2m-karras"]
    path = write_sweep(schedulers=names, nfe=[4, 7], seeds=0)
    prepared = prepare(path, ("steps=",))
    spent = {(c.scheduler, c.nfe_budget): (c.steps, prepared.cost(c)) for c in prepared.plan.cells}
    assert spent["heun", 7] == (4, 7)
    assert spent["pndm", 4] == (3, 4)
    for (_, budget), (_, nfe) in spent.items():
        assert budget - 2 < nfe <= budget


def test_what_chooses_its_own_steps_keeps_to_no_budget(write_sweep: Write) -> None:
    prepared = prepare(write_sweep(schedulers=["euler", "dpm-adaptive"], nfe=[30], seeds=0), ("steps=",))
    assert [c.scheduler for c in prepared.plan.cells] == ["euler"]
    assert any("dpm-adaptive" in warning for warning in prepared.warnings)


def test_two_budgets_that_buy_the_same_are_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, schedulers=["heun"], steps=None, nfe=[9, 10], seeds=0)
    assert [(c.steps, c.nfe_budget) for c in plan.cells] == [(5, 9)]
    assert plan.warnings == ("left out: heun at 10 NFE is heun at 5 steps again",)


@given(st.integers(1, 4), st.integers(1, 3))
def test_keys_that_are_zipped_advance_together(
    tmp_path_factory: pytest.TempPathFactory, pairs: int, seeds: int
) -> None:
    values = {"steps": [*range(3, 3 + pairs)], "guidance_scale": [*range(1, 1 + pairs)]}
    changes = values | {"schedulers": ["ddim", "euler"], "seeds": [*range(seeds)], "zip": ["steps", "guidance_scale"]}
    plan = plan_of(tmp_path_factory.mktemp("zip"), **changes)
    found = [(c.scheduler, c.steps, c.guidance_scale, c.seed) for c in plan.cells]
    paired = zip(values["steps"], values["guidance_scale"], strict=True)
    assert set(found) == {(s, n, g, i) for s, (n, g), i in product(changes["schedulers"], paired, range(seeds))}
    assert [c.index for c in plan.cells] == [*range(len(found))]


def test_a_scheduler_and_its_sigma_schedule_can_be_given_as_pairs(tmp_path: Path) -> None:
    pairs = {"schedulers": ["heun", "euler"], "sigmas": ["karras", "exponential"], "zip": ["schedulers", "sigmas"]}
    assert list(plan_of(tmp_path, **pairs).entries) == ["heun-karras", "euler-exponential"]


@given(st.sets(st.sampled_from([4, 8, 15])), st.sets(st.sampled_from(["ddim", "euler"])), st.sets(st.integers(0, 2)))
def test_a_rule_leaves_out_what_has_all_of_its_values(
    tmp_path_factory: pytest.TempPathFactory, steps: set[int], schedulers: set[str], seeds: set[int]
) -> None:
    keys = {"steps": sorted(steps), "schedulers": sorted(schedulers), "seed": sorted(seeds)}
    rule = {key: value for key, value in keys.items() if value}
    base = {"schedulers": ["ddim", "euler", "heun"], "steps": [4, 8, 15], "seeds": [0, 1, 2]}
    folder = tmp_path_factory.mktemp("exclude")
    everything = plan_of(folder, **base).cells
    assume(
        rule
        and rule != {"seed": [0, 1, 2]}
        and rule not in ({"steps": [4, 8, 15]}, {"steps": [4, 8, 15], "seed": [0, 1, 2]})
    )
    left = plan_of(folder, **base, exclude=[rule]).cells

    def is_out(cell: Any) -> bool:
        by_steps, by_scheduler = not steps or cell.steps in steps, not schedulers or cell.scheduler in schedulers
        return by_steps and by_scheduler and (not seeds or cell.seed in seeds)

    assert [c.id for c in left] == [c.id for c in everything if not is_out(c)]


def test_rules_take_names_as_sweeps_do_and_one_that_matches_nothing_is_told(tmp_path: Path) -> None:
    rules = [{"scheduler": "Euler a"}, {"sigmas": "karras", "steps": "5..9"}, {"seed": 77}]
    axes = {"schedulers": ["euler", "euler-a"], "sigmas": ["default", "exponential", "karras"]}
    plan = plan_of(tmp_path, **axes, exclude=rules)
    assert {(c.scheduler, c.steps) for c in plan.cells} == {
        ("euler", 4), ("euler", 8), ("euler-exponential", 4), ("euler-exponential", 8), ("euler-karras", 4),
    }  # fmt: skip
    assert plan.warnings == ("exclude.2 matches no cell",)
    with pytest.raises(SweepError, match=r"exclude.0: unknown scheduler 'eulr'"):
        plan_of(tmp_path, exclude=[{"scheduler": "eulr"}])
    with pytest.raises(SweepError, match="no cell is left"):
        plan_of(tmp_path, exclude=[{"steps": "1..99"}])


def test_options_with_several_values_make_an_entry_of_each(tmp_path: Path) -> None:
    item = {"name": "dpmpp-2m", "options": {"solver_order": [1, 2], "solver_type": ["midpoint", "heun"]}}
    plan = plan_of(
        tmp_path, schedulers=[item, {"name": "mine", "base": "euler", "options": {"trained_betas": [[0.1]]}}]
    )
    assert [*plan.entries] == [
        "dpmpp-2m solver_order=1 solver_type=midpoint", "dpmpp-2m solver_order=1 solver_type=heun",
        "dpmpp-2m solver_order=2 solver_type=midpoint", "dpmpp-2m solver_order=2 solver_type=heun",
        "mine trained_betas=[0.1]",
    ]  # fmt: skip
    assert plan.entries["dpmpp-2m solver_order=1 solver_type=heun"].options["solver_order"] == 1


def test_sizes_and_ranges_of_numbers() -> None:
    assert sizes(["512x768", "64 x 64", 128]) == ("512x768", "64x64", "128x128")
    assert numbers("1..2 step 0.1") == tuple(i / 10 for i in range(10, 21))
    assert numbers([1, "3..4"]) == (1.0, 3.0, 4.0)


def test_sizes_and_negative_prompts_are_axes(write_sweep: Write, tmp_path: Path) -> None:
    sweep = write_sweep(schedulers="ddim", steps=2, seeds=0, size=["32x24", "16x16"], negative_prompt=["", "b"])
    out = tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    found = {(r["width"], r["height"], r["negative_prompt"]): r["image"] for r in rows(out / "results.csv")}
    assert {*found} == {(w, h, n) for (w, h), n in product([("32", "24"), ("16", "16")], ["", "b"])}
    assert len({*found.values()}) == 4
    assert found["16", "16", ""].startswith("images/negative-none/size-16x16/ddim")
    assert refusal(tmp_path, {"model": "x", "prompt": "a", "schedulers": "ddim", "steps": 2, "size": 64, "width": 64})


def test_what_a_scheduler_cannot_do_is_a_cell_with_its_reason(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = write_sweep(schedulers=["pndm", "euler"], sigmas=["default", "karras"], seeds=0, steps=[2])
    assert run("run", sweep, "-o", out) == 0
    found = {r["scheduler"]: (r["status"], r["error"]) for r in rows(out / "results.csv")}
    assert {name: status for name, (status, _) in found.items()} == {
        "pndm": "ok", "pndm-karras": "unsupported", "euler": "ok", "euler-karras": "ok",
    }  # fmt: skip
    assert "karras" in found["pndm-karras"][1]
    assert "warning: unsupported: pndm-karras" in capsys.readouterr().err
    assert run("run", sweep, "-o", out) == 0
    assert "3 cells are there already" in capsys.readouterr().out


def flow_folder(path: Path) -> Path:
    families.ready(families.flux).save_pretrained(path)
    return path


def test_the_shift_of_flow_matching_is_an_axis(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = {"sigmas": ["simple"], "seeds": 0, "size": "16x16", "steps": [2], "timing": "off"}
    sweep = write_sweep(
        model=str(flow_folder(tmp_path / "flux")), schedulers=["euler", "er_sde"], shift=[1, 3, "0.5/1.15"],
        exclude=[{"shift": 3, "scheduler": "er_sde"}], grid={"rows": "scheduler", "cols": "shift"}, **more,
    )  # fmt: skip
    assert run("run", sweep, "-o", out) == 0
    found = {r["scheduler"]: r for r in rows(out / "results.csv")}
    assert {name: r["shift"] for name, r in found.items()} == {
        "euler-simple shift=1": "1", "euler-simple shift=3": "3", "euler-simple shift=0.5/1.15": "0.5/1.15",
        "er-sde-simple shift=1": "1", "er-sde-simple shift=0.5/1.15": "0.5/1.15",
    }  # fmt: skip
    assert {r["status"] for r in found.values()} == {"ok"}
    assert len({r["image_sha256"] for r in found.values()}) == 5
    plain = write_sweep(model=str(tmp_path / "flux"), schedulers=["euler"], **more)
    assert run("run", plain, "-o", tmp_path / "plain") == 0
    (alone,) = rows(tmp_path / "plain" / "results.csv")
    assert "shift" not in alone
    # of the checkpoint's own base and maximum
    assert alone["image_sha256"] == found["euler-simple shift=0.5/1.15"]["image_sha256"]
    assert alone["cell_id"] not in {r["cell_id"] for r in found.values()}
    with Store.open(out) as store:
        (page,) = plan_pages(store.cells(), GridAxes(("scheduler",), ("shift",)))
        assert page.rows == (("euler-simple",), ("er-sde-simple",))
        assert page.cols == (("1",), ("3",), ("0.5/1.15",))


@pytest.mark.parametrize(
    ("shift", "why"),
    [
        (3, "shift is for flow matching, and this checkpoint was not trained with that"),
        (-1, "above 0"),
        ("a/b", "finite number"),
        ("0.5/1.15/2", "finite number"),
    ],
)
def test_a_shift_that_cannot_be_is_refused_with_its_line(
    write_sweep: Write, capsys: pytest.CaptureFixture[str], shift: Any, why: str
) -> None:
    path = write_sweep(shift=shift)
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("shift"))
    assert run("check", path) == 2
    said = capsys.readouterr().err
    assert f"sweep.yaml:{line}: shift" in said.replace("\n", "")
    assert why in " ".join(said.split())


def test_a_setting_that_changes_nothing_is_said_to_be_inert(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    second = {"name": "third-order", "base": "dpmpp-2m", "options": {"solver_order": 3}}
    sweep = write_sweep(model="builtin:tiny", schedulers=["ddim", "dpmpp-2m", second], steps=[2, 8], seeds=0)
    assert run("run", sweep, "-o", out) == 0
    found = {(r["scheduler"], r["steps"]): r["inert"] for r in rows(out / "results.csv")}
    assert found["third-order", "2"] == "same image as dpmpp-2m at 2 steps"  # two steps have no history for order 3
    assert not found["dpmpp-2m", "2"]
    assert not found["third-order", "8"]
    with Store.open(out) as store:
        write_reports(store)
        trajectories = {(t["scheduler"], t["steps"]): t for t in store.meta("trajectories")}
        cells, prints = list(store.cells()), store.fingerprints()
        assert prints.keys() == {c.cell.id for c in cells}
        assert repeats(cells, out, prints) == repeats(cells, out, {})  # as of a run that has none yet
    assert trajectories["dpmpp-2m", 8]["sigmas"][-1] == 0


def test_settings_without_effect_are_said_across_tasks(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    again = {"name": "again", "base": "euler"}
    sweep = write_sweep(
        prompt=["a b", "a b a b a b a b a b a", "a b a b a b a b a b b"],  # the encoder reads eight tokens
        negative_prompt=["", "b"],
        guidance_scale=[0, 1, 3],
        schedulers=["euler", again],
        steps=[2],
        seeds="0..1",
        timing="off",
    )
    assert run("run", sweep, "-o", out) == 0
    told = [
        line.removeprefix("- ") for line in (out / "answer.md").read_text().splitlines() if "changed nothing" in line
    ]
    assert told == [
        "The scheduler changed nothing: euler, again made the same images.",
        "The prompt changed nothing: prompt p1, prompt p2 made the same images.",
        "Guidance changed nothing: guidance 0, guidance 1 made the same images.",
    ]
    shown = capsys.readouterr().err
    assert all(sentence.rstrip(".") in shown for sentence in told)
    found = {
        (r["scheduler"], r["prompt_name"], r["negative_prompt"], r["guidance_scale"]): r["inert"]
        for r in rows(out / "results.csv")
        if r["seed"] == "0"
    }
    assert found["euler", "p0", "", "0.0"] == ""
    assert found["euler", "p0", "", "1.0"] == "same image as guidance 0"
    assert found["again", "p0", "", "0.0"] == "same image as euler at 2 steps"
    assert found["euler", "p2", "", "3.0"] == "same image as prompt p1"
    assert found["euler", "p0", "b", "1.0"].startswith("same image as negative prompt: none")
    assert found["euler", "p1", "b", "3.0"] == ""


def test_a_negative_prompt_that_is_never_read_is_said(write_sweep: Write, tmp_path: Path) -> None:
    sweep = write_sweep(negative_prompt=["", "b"], guidance_scale=1, schedulers=["ddim"], steps=[2], timing="off")
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    said = "The negative prompt changed nothing: negative prompt: none, negative prompt: b made the same images."
    assert said in (tmp_path / "out/answer.md").read_text()


@given(st.integers(0, 2**32 - 1), st.sampled_from([(16, 16), (64, 64), (40, 72)]))
def test_images_that_differ_by_one_level_have_fingerprints_that_do(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(1, 255, (*size, 3))
    other = one + rng.integers(-1, 2, one.shape)
    a, b = (np.frombuffer(fingerprint(Image.fromarray(x.astype(np.uint8))), np.uint8).astype(int) for x in (one, other))
    assert np.abs(a - b).max() <= 1


def test_every_setting_is_timed_whatever_seeds_it_has(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = write_sweep(schedulers="ddim", steps=[2, 3], seeds=[0, 1], zip=["steps", "seeds"])
    assert run("run", sweep, "-o", out) == 0
    assert [(r["steps"], r["n"]) for r in rows(out / "timings.csv")] == [("2", "1"), ("3", "1")]


def test_an_empty_list_of_options_is_refused(tmp_path: Path) -> None:
    item = {"name": "gone", "base": "dpmpp-2m", "options": {"solver_order": []}}
    with pytest.raises(SweepError, match=r"options.solver_order is an empty list"):
        plan_of(tmp_path, schedulers=["ddim", item])


def test_an_entry_on_a_sigma_schedule_of_the_sweep_is_there_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, schedulers=["DPM++ 2M Karras", "dpmpp-2m"], sigmas=["default", "karras"])
    assert list(plan.entries) == ["dpmpp-2m-karras", "dpmpp-2m"]


def test_a_function_that_was_edited_makes_its_images_again(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module, found = tmp_path / "edited.py", []
    for factor in (1.0, 0.5):
        module.write_text(f"def sample(model, x, sigmas):\n    return {factor} * model(x, sigmas[0].repeat(len(x)))\n")
        sys.modules.pop("edited", None)
        linecache.checkcache()
        item = {"name": "mine", "class": "edited.sample"}
        found.append(prepare(write_sweep(schedulers=[item, "ddim"])).origin.keys)
    assert found[0]["mine"] != found[1]["mine"]
    assert found[0]["ddim"] == found[1]["ddim"]
