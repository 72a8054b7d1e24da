"""How many steps are enough: found in few tries, gone on with where it stopped, and told with how sure that is."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked import prepare
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from quick import fewer_steps
from test_answer import stored
from test_reference import TINY, make
from test_sweep import refusal, sweep_of, write

from schedcmp.prepare.preparing import with_steps
from schedcmp.readings import readings
from schedcmp.report.answer import answer, near_enough, tolerance
from schedcmp.report.answer_json import as_json
from schedcmp.report.enough import enough
from schedcmp.report.plots.convergence import convergence_data
from schedcmp.report.words.markdown import markdown
from schedcmp.report.write import write_reports
from schedcmp.runs.execution import Execution, rounds
from schedcmp.runs.search import Known, next_count
from schedcmp.store.store import Store
from schedcmp.sweep.document import dump
from schedcmp.sweep.parts.steps import Search

AUTO = TINY | {"schedulers": ["ddim", "dpmpp-2m-karras"], "steps": {"auto": {"tolerance": 0.15}}, "seeds": "0..2"}


# --- a round, and what it shares with the others


def test_a_round_has_what_was_found_before_it_and_a_workers_word(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    first = prepare(write(tmp_path, AUTO | {"image": str(tmp_path / "a.png"), "strength": 1.0}))
    (tmp_path / "a.png").unlink()
    elsewhere = replace(first.origin, machine="another")
    second = with_steps(replace(first, maker=elsewhere), {"ddim": (3, 5), "dpmpp-2m-karras": (4,)})
    assert {(c.scheduler, c.steps) for c in second.supported} == {("ddim", 3), ("ddim", 5), ("dpmpp-2m-karras", 4)}
    assert second.origin is elsewhere
    assert second.loader is first.loader
    assert first.origin.machine != "another"
    assert {c.steps for c in first.supported} == {*first.sweep.steps.first}
    with pytest.raises(FrozenInstanceError):
        first.maker = elsewhere


# --- where to look next


@given(st.integers(1, 300), st.integers(0, 100), st.integers(1, 200))
def test_the_fewest_steps_that_are_enough_are_found_in_few_tries(least: int, unsure: int, most: int) -> None:
    known: Known = {}
    first = Search.model_validate({"auto": {"most": most}}).first
    tries = 0
    for n in first:
        known[n] = "short" if n < least else "enough" if n < least + unsure else "surely enough"
    while (n := next_count(known, most)) is not None:
        assert n not in known
        assert n <= most
        known[n] = "short" if n < least else "enough" if n < least + unsure else "surely enough"
        tries += 1
    if least <= most:
        assert known[least] != "short"
        assert least == 1 or known[least - 1] == "short"
    else:
        assert known[most] == "short"
    assert tries <= 18


def test_what_is_not_monotone_ends_too() -> None:
    known: Known = {4: "enough", 8: "short", 16: "enough"}
    while (n := next_count(known, 20)) is not None:
        known[n] = "short"
    assert len(known) < 12


def test_of_what_cannot_be_measured_nothing_is_looked_for() -> None:
    assert next_count({}, 100) is None


# --- in a sweep


def test_steps_that_are_looked_for_are_read_and_written(tmp_path: Path) -> None:
    for value in ("auto", {"auto": {}}, {"auto": {"tolerance": 0.05, "most": 40}}):
        sweep = sweep_of(tmp_path, steps=value)
        assert isinstance(sweep.steps, Search)
        assert yaml.safe_load(dump(sweep))["steps"]["auto"] == sweep.steps.auto.model_dump()
    assert sweep_of(tmp_path, "steps=auto").steps == Search()
    assert tolerance(yaml.safe_load(dump(sweep))) == 0.05
    assert tolerance({"steps": [3]}) == tolerance({}) == 0.1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": {"auto": {"most": 0}}}, "steps.auto.most"),
        ({"steps": {"auto": {"tolerance": -1}}}, "steps.auto.tolerance"),
        ({"steps": {"auto": {"tolerence": 1}}}, "did you mean 'tolerance'"),
        ({"steps": {"atuo": {}}}, "unknown key 'steps.atuo'"),
        ({"steps": "auot"}, "steps"),
        ({"steps": "auto", "zip": [["steps", "seeds"]]}, "'steps' is no key of this sweep with several values"),
        ({"steps": "auto", "executor": "ray"}, "one process; give numbers"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    from test_sweep import GOOD

    assert told in refusal(tmp_path, GOOD | changes)


def test_of_which_schedulers_nothing_can_be_found_is_told(tmp_path: Path) -> None:
    schedulers = ["ddim", "euler-a", "euler-cfgpp"]
    told = "\n".join(prepare(write(tmp_path, AUTO | {"schedulers": schedulers})).warnings)
    assert "euler-a: draws noise, so how many steps it needs takes 8 seeds: tried at 4, 8, 16" in told
    assert "euler-cfgpp: solves another equation" in told
    assert "ddim:" not in told
    more = prepare(write(tmp_path, AUTO | {"schedulers": schedulers, "seeds": "0..7"})).warnings
    assert "draws noise" not in "\n".join(more)


# --- a run


def run(folder: Path, most_rounds: int = 100) -> list[int]:
    """How many cells each round has made."""
    sweep = prepare(write(folder.parent, AUTO))
    made = []
    with Store.create(folder) as store:
        for execution, _ in zip(rounds(Execution.begin(sweep, store)), range(most_rounds), strict=False):
            made.append(len(list(execution.run())))
            execution.measure()
        write_reports(store)
    return made


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """A run that was stopped after two rounds, gone on with, and repeated."""
    folder = tmp_path_factory.mktemp("searched") / "out"
    with pytest.MonkeyPatch.context() as patch:
        fewer_steps(patch)
        return folder, [run(folder, 2), run(folder), run(folder)]


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_and_makes_nothing_twice(searched: tuple[Path, list[list[int]]]) -> None:
    folder, (first, second, third) = searched
    assert first[0] == 2 * 3 * 3
    assert second[0] == 0
    assert sum(second) > 0
    assert sum(third) == 0
    with Store.open(folder) as store:
        assert sum(first) + sum(second) == len(list(store.cells())) == store.planned()


@pytest.mark.slow
def test_the_answer_says_how_many_are_enough(searched: tuple[Path, list[list[int]]]) -> None:
    folder, _ = searched
    with Store.open(folder) as store:
        (found,) = answer(list(store.cells()), store.references().values(), known=store.readings(), limit=0.15)
        orders = store.meta("orders")
    for row in enough(found):
        assert row.tried
        assert row.tried - (row.short or 0) == 1
        assert row.steps == row.tried
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.steps <= row.high
        assert row.order
        assert row.order.order == pytest.approx(orders[row.names[0]]["order"], abs=0.7)
    assert [row.names[0] for row in enough(found)] == ["dpmpp-2m-karras", "ddim"]
    assert "The fewest steps for that, with 95 % intervals: dpmpp-2m-karras" in (folder / "answer.md").read_text(
        "utf-8"
    )
    assert json.loads(json.dumps(as_json(found)))["steps_needed"][0]["names"] == ["dpmpp-2m-karras"]


def test_a_grid_that_asks_for_references_has_its_orders_beside_the_oracles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer_steps(monkeypatch)
    sweep: dict[str, Any] = TINY | {
        "schedulers": ["ddim", "euler-a", {"name": "two", "base": "euler", "steps": [2, 4]}]
    }
    make(sweep | {"steps": [2, 4, 8], "seeds": [0]}, tmp_path / "out")
    with Store.open(tmp_path / "out") as store:
        orders = store.meta("orders")
        (found,) = answer(list(store.cells()), store.references().values(), known=store.readings())
    assert orders.keys() == {"ddim"}
    assert orders["ddim"]["order"] == pytest.approx(1, abs=0.1)
    (line,) = [line for line in convergence_data(found, orders) if line.name.startswith("ddim")]
    assert re.fullmatch(r"ddim(, order \d\.\d)?, oracle's order 1\.0", line.name)
    assert "the oracle's |" in markdown([found], orders=orders)


# --- from any run's points


def test_between_points_that_are_far_apart_the_steps_are_interpolated() -> None:
    """An error of 10 / n² is 0.1 at 10 steps."""
    cells = [stored("euler", n, seed, metrics={"reference_rmse": 10 / n**2}) for n in (4, 8, 16) for seed in range(3)]
    (found,) = answer(cells, known=readings(None))
    (row,) = enough(found)
    assert (row.steps, row.short, row.tried) == (10, 8, 16)
    assert (row.low, row.high) == (10, 10)
    assert row.order
    assert row.order.order == pytest.approx(2)
    assert "| euler | 10 | [10, 10] | 8 | 16 | 16 | 2.0 ± 0.0 |" in markdown([found])


def test_an_energy_distance_is_near_as_its_square() -> None:
    energy = readings(None)["energy_distance"]
    assert near_enough(energy, 0.1) == energy.near
    assert near_enough(energy, 0.2) == pytest.approx(4 * (energy.near or 0))
