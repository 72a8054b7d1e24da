"""Each cell's image has a place of its own, whatever plans a folder has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run import run
from test_store import PNG, result, same_key

from schedcmp.axes import FOLDERS
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.runs.paths import ImagePaths
from schedcmp.store.held import Held, held
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import parse

pytestmark = pytest.mark.usefixtures("coarse_references")
BASE = {"name": "paths", "model": "builtin:tiny", "prompt": "a", "schedulers": ["euler"], "steps": 2, "metrics": "off"}


def prepared(**changes: Any) -> Prepared:
    return prepare_sweep(Sweep.model_validate(BASE | changes), parse("model: builtin:tiny", "paths"))


def made(folder: Path, sweep: Prepared) -> dict[str, str]:
    """Store what is missing of a sweep, as a run does; returns the places by id."""
    with Store.create(folder) as store:
        with store.database.reading() as database:
            database.execute("PRAGMA synchronous = OFF")
        pending = store.pending(sweep.supported, same_key)
        paths = ImagePaths(sweep.sweep, pending, held(store.database), sweep.mark)
        store.begin(sweep.plan.cells, {})
        for c in pending:
            store.add(replace(result(0), cell=c), "key", "machine", paths(c), PNG + c.id.encode() + PNG)
        assert not store.pending(sweep.supported, same_key)
        assert len(list(store.cells())) == len(sweep.supported)
        return dict(held(store.database).paths)


def mine(**options: Any) -> dict[str, Any]:
    return {"name": "mine", "base": "dpmpp-2m", "options": options}


SOME = st.sampled_from
SWEEPS = st.fixed_dictionaries(
    {
        "prompt": SOME(["a", "b", ["a", "b"], ["b", "a"], ["c", "b", "a"], {"p0": "c"}, {"p0": "a", "a": "b"}]),
        "negative_prompt": SOME(["", "none", ["", "none"], ["x", ""]]),
        "guidance_scale": SOME([2, 3, [3, 2], [2, 2.5]]),
        "size": SOME([None, ["32x32"], ["64x64", "32x32"]]),
        "schedulers": SOME([["euler"], ["euler", mine(solver_order=1)], [mine(solver_order=3)], ["ddim", mine()]]),
        "steps": SOME([2, [2, 3]]),
        "seeds": SOME([0, [0, 1], [1]]),
        "generator": SOME(["cpu", "device"]),
    }
)


@given(st.lists(SWEEPS, min_size=2, max_size=4))
@settings(max_examples=25)
def test_no_plan_takes_what_another_has(tmp_path_factory: pytest.TempPathFactory, sweeps: list[dict[str, Any]]) -> None:
    folder = tmp_path_factory.mktemp("plans") / "run"
    before: dict[str, str] = {}
    for sweep in sweeps:
        now = made(folder, prepared(**sweep))
        assert before.items() <= now.items()
        assert len({path.lower() for path in now.values()}) == len(now)
        assert all((folder / path).read_bytes() == PNG + id_.encode() + PNG for id_, path in now.items())
        before = now


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ({}, {"prompt": "a big cat"}, "images/a-big-cat-b7cdec/euler"),
        ({"prompt": ["a", "b"]}, {"prompt": ["b", "c"]}, "images/c/euler"),
        ({"guidance_scale": 2}, {"guidance_scale": 3}, "images/guidance-3/euler"),
        ({"negative_prompt": "x"}, {}, "images/negative-none/euler"),
        ({"width": 64, "height": 64}, {}, "images/size-own/euler"),
        ({"schedulers": ["euler"]}, {"schedulers": ["ddim"]}, "images/ddim"),
        ({}, {"seeds": [0, 1]}, "images/euler"),
        ({}, {"steps": [2, 3]}, "images/euler"),
    ],
)  # fmt: skip
def test_folders_say_what_tells_a_new_plan_from_the_old(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], place: str
) -> None:
    before, after = made(tmp_path / "run", prepared(**old)), made(tmp_path / "run", prepared(**new))
    assert {after[i].rsplit("/", 2)[0] for i in after.keys() - before.keys()} == {place}


def test_changed_options_under_one_name_have_a_folder_of_their_own(tmp_path: Path) -> None:
    places = [made(tmp_path / "run", prepared(schedulers=[mine(solver_order=n)])) for n in (1, 2, 3)]
    *_, third = places[2].values()
    assert third.startswith("images/mine-")
    assert made(tmp_path / "run", prepared(schedulers=[mine(solver_order=3)])) == places[2]


def test_what_the_sweep_itself_has_under_one_name_is_kept_apart() -> None:
    sweep = prepared(negative_prompt=["", "none"])
    nothing = Held({}, {}, {axis.name: set() for axis in FOLDERS})
    paths = ImagePaths(sweep.sweep, sweep.supported, nothing, sweep.mark)
    assert len({*map(paths, sweep.supported)}) == 2


def test_a_place_that_two_rows_claim_is_nobodys_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = made(folder, prepared(prompt=["a", "b"]))
    with Store.create(folder) as store:
        one, other = first
        with store.database.writing() as database:
            database.execute("UPDATE cells SET image_path = ? WHERE id = ?", (first[one], other))
            database.execute("UPDATE cells SET key = 'old'")
    again = made(folder, prepared(prompt=["a", "b"]))
    assert again.keys() == first.keys()
    assert again[one] != again[other]


def test_a_finished_image_of_the_plan_outlives_changes_of_its_axes(tmp_path: Path, write_sweep: Any) -> None:
    out = tmp_path / "out"
    fixed: dict[str, Any] = {"schedulers": ["ddim", "heun"], "seeds": 0, "steps": 2, "timing": {"mode": "off"}}
    fixed["metrics"] = ["reference"]
    assert run("run", write_sweep(**fixed, prompt={"first": "a b", "second": "b"}), "-o", out) == 0
    files = {path: path.read_bytes() for top in ("images", "references") for path in (out / top).rglob("*.png")}
    assert len(files) == 8
    for prompts in ({"first": "b", "second": "b a"}, "b a", ["b a", "a b"]):
        assert run("run", write_sweep(**fixed, prompt=prompts), "-o", out) == 0
        assert all(path.read_bytes() == content for path, content in files.items())
    assert len(list((out / "images").rglob("*.png"))) == 6
    assert len(list((out / "references").rglob("*.png"))) == 6
