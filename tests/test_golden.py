"""What four small runs, of every axis that a sweep has, are called and show: held byte by byte.

`GOLDEN=write pytest tests/test_golden.py` writes the files anew, to be read as any other change is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_sweep import Known

from schedcmp.records import Cell, CellResult, Reference, StoredCell, Timing
from schedcmp.registry.table import builtin_registry
from schedcmp.report.answer import answer
from schedcmp.report.answer_json import as_json
from schedcmp.report.axes import GridAxes, plan_pages
from schedcmp.report.grid import _stems
from schedcmp.report.labels import facts_line, prompt_line, text_lines, value_label
from schedcmp.report.page.data import page_data
from schedcmp.report.steadiness import timed_group
from schedcmp.report.tables import csv_rows, result_rows, timing_rows, timings_csv, timings_json, timings_markdown
from schedcmp.report.words.markdown import markdown
from schedcmp.runs.paths import ImagePaths
from schedcmp.store.held import Held, held
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep, dump
from schedcmp.sweep.plan import identity, make_plan
from schedcmp.sweep.source import parse

FOLDER = Path(__file__).parent / "golden"
BASE = {"model": "builtin:tiny", "guidance_scale": 7.5, "schedulers": "ddim", "steps": [4], "seeds": 0}
SWEEPS: dict[str, dict[str, Any]] = {
    "inputs": {
        "prompt": {"cat": "a cat", "dog": "a dog, sleeping"},
        "negative_prompt": ["", "blur"],
        "guidance_scale": [1, 7.5],
        "size": ["64x64", "32x48"],
        "call": {"eta": [0.0, 0.5], "clip_skip": 1},
    },
    "schedulers": {
        "prompt": "a cat",
        "schedulers": ["euler", "heun", {"name": "mine", "base": "dpmpp-2m", "options": {"solver_order": [2, 3]}}],
        "sigmas": ["default", "karras"],
        "steps": [4, 8],
        "seeds": "0..1",
        "exclude": [{"scheduler": "heun", "sigma_schedule": "karras", "steps": 8}],
    },
    "shift": {
        "prompt": ["a cat", "a dog"],
        "negative_prompt": "blur",
        "guidance_scale": 3.5,
        "schedulers": ["euler", "er_sde"],
        "shift": [1, 3, "0.5/1.15"],
        "exclude": [{"shift": 3, "scheduler": "er_sde"}],
        "zip": [["prompt", "steps"]],
        "steps": [4, 8],
        "grid": {"rows": "scheduler", "cols": "shift"},
    },
    "budget": {"prompt": "a cat", "schedulers": ["euler", "heun"], "steps": None, "nfe": [5, 10], "seeds": [0, 7]},
}


def planned(changes: dict[str, Any]) -> tuple[Sweep, tuple[Cell, ...], dict[str, str], dict[str, str]]:
    """The sweep, its cells, their marks and their images' places."""
    document = {key: value for key, value in (BASE | changes).items() if value is not None}
    sweep, source = Sweep.model_validate({"name": "golden", **document}), parse(yaml.safe_dump(document), "golden")
    plan = make_plan(sweep, source, builtin_registry(), Known())

    def mark(cell: Cell) -> str:
        return str(identity(cell, plan.entries[cell.scheduler], sweep.generator).hexdigest())

    paths = ImagePaths(sweep, plan.cells, Held({}, {}, {}), mark)
    return sweep, plan.cells, {c.id: mark(c) for c in plan.cells}, {c.id: paths(c) for c in plan.cells}


def result(cell: Cell, place: int) -> CellResult:
    """One of every kind, the same in every place."""
    size = {"width": cell.width or 64, "height": cell.height or 64}
    ran = {"scheduler_config": {"_class_name": cell.base}, "timesteps": tuple(range(cell.steps, 0, -1))}
    bad = {3: ("failed", "ran out of memory"), 5: ("unsupported", "takes no such sigmas"), 6: ("flagged", "is flat")}
    status, error = bad.get(place % 11, ("ok", None))
    if status in ("failed", "unsupported"):
        return CellResult(cell, status, error)  # type: ignore[arg-type]
    timing = Timing(0.1 * cell.steps + 0.01 * place, 0.01, 0.08 * cell.steps, 0.01, 0.02, (0.1,) * cell.steps, 1.0, 0.0)
    return CellResult(
        cell, status, error, nfe=cell.steps, image_sha256=f"{place:064x}", peak_memory_bytes=2**20 * (place + 1),
        timings=(timing,) if cell.seed == 0 else (), packed=cell.seed != 0, **size, **ran,
    )  # type: ignore[arg-type]  # fmt: skip


def outputs(changes: dict[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of every file."""
    sweep, cells, marks, places = planned(changes)
    lines = [f"{c.index} {c.id} {marks[c.id]} {c.scheduler} {places[c.id]} {json.dumps(c.task)}" for c in cells]
    yield "cells.txt", "\n".join(lines) + "\n"
    with Store.create(folder) as store:
        references = [Reference(c.task, None, 0.5, "two solvers disagree") for c in cells[-1:]]
        kept = {"sweep": dump(sweep), "environment": {"device": "cpu"}, "references": [vars_of(r) for r in references]}
        store.begin(cells, kept)
        for place, cell in enumerate(cells):
            made = result(cell, place)
            png = b"no picture" if made.image_sha256 else None
            store.add(made, "key", "machine", places[cell.id], png)
        store.measure({c.id: {"sharpness": 1 + 0.1 * i} for i, c in enumerate(cells) if result(c, i).status == "ok"})
    with Store.open(folder) as store:
        found = list(store.cells())
        assert {name: set(values) for name, values in held(store.database).values.items()}
        yield from _told(store, found, sweep)


def vars_of(reference: Reference) -> dict[str, Any]:
    return {name: getattr(reference, name) for name in Reference.__dataclass_fields__}


def _told(store: Store, cells: list[StoredCell], sweep: Sweep) -> Iterator[tuple[str, str]]:
    rows = timing_rows(cells)
    answers = answer(cells, store.references().values(), known=store.readings())
    yield "results.csv", csv_rows(result_rows(cells, {}, {cells[0].cell.id: "same image as another"}))
    yield "timings.csv", timings_csv(rows)
    yield "timings.md", timings_markdown(rows)
    yield "timings.json", timings_json(rows, {})
    yield "answer.md", markdown(answers)
    yield "answer.json", json.dumps([as_json(found) for found in answers], indent=1)
    yield "groups.txt", "\n".join(repr((*timed_group(c)[:2], c.setting.fields())) for c in cells) + "\n"
    data = page_data(store, cells, {}, {}, answers, running=False)
    told = {key: value for key, value in data.items() if key not in ("version", "id")}
    yield (
        "page.json",
        "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()) + "\n",
    )
    grid = sweep.grid.model_dump()
    others = {"rows": ("guidance_scale", "prompt"), "cols": ("negative_prompt", "sigma_schedule"), "page": ("size",)}
    for axes in (grid, others):
        pages = plan_pages(cells, GridAxes(**axes))
        yield (
            f"grid-{'-'.join(axes['rows'])}.txt",
            "\n".join(_page(*of) for of in zip(pages, _stems(pages), strict=True)),
        )


def _page(page: Any, stem: str) -> str:
    heads = [
        [value_label(axis, value) for axis, value in zip(axes, key, strict=True)]
        for axes, keys in ((page.row_axes, page.rows), (page.col_axes, page.cols))
        for key in keys
    ]
    lines = [prompt_line(page), next(text_lines(page), None), facts_line(page), page.values, page.facts, heads]
    return "\n".join([stem, *map(str, lines), " ".join(c.cell.id for c in page.cells.values()), ""])


@pytest.mark.parametrize("name", SWEEPS)
def test_a_run_is_called_and_shown_as_it_was(tmp_path: Path, name: str) -> None:
    written = dict(outputs(SWEEPS[name], tmp_path / "run"))
    folder = FOLDER / name
    if os.environ.get("GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in written.items():
            (folder / file).write_text(text, encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == written.keys()
    for file, text in written.items():
        assert text == (folder / file).read_text(encoding="utf-8"), f"{name}/{file} is not what it was"
