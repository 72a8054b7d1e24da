"""Cells as rows of the database, and what else it keeps. What is read is checked: a file can be damaged, or anybody's.

Everything here that reads raises ValueError for what no run has written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Json,
    TypeAdapter,
    ValidationError,
    create_model,
)

from schedcmp.axes import INPUTS
from schedcmp.errors import SweepError, one_line
from schedcmp.files import from_json, to_json
from schedcmp.readings import Reading
from schedcmp.records import Cell, CellResult, Reference, Status, StoredCell, Timing
from schedcmp.store.folder import is_of_a_run
from schedcmp.sweep.source import parse

_OF_THE_PLAN = ("index", "nfe_budget")  # the same cell may stand elsewhere in another plan
NAMES = tuple(axis.by_name for axis in INPUTS if axis.by_name)
PER_PLAN = (*_OF_THE_PLAN, *NAMES)  # what of a cell another plan may change
_OF_NO_RUN = tuple(name for axis in INPUTS if not axis.kept for name in axis.fields)  # see `store.several`
CELL_COLUMNS = tuple(f.name for f in fields(Cell) if f.name not in (*_OF_THE_PLAN, *_OF_NO_RUN))
# Those that a run of an earlier schedcmp may lack, or have nothing in: what an image need not have
LATER_COLUMNS = {f.name: f.default for f in fields(Cell) if f.name in CELL_COLUMNS and f.default is not MISSING}
JSON_COLUMNS = ("timings", "scheduler_config", "timesteps")
PLAIN_COLUMNS = (
    "status", "error", "nfe", "made_width", "made_height", "frames", "fps", "image_sha256", "peak_memory_bytes",
    "packed",
)  # fmt: skip
LATER_RESULTS = ("frames", "fps")  # likewise


class _Checked(BaseModel):
    """What a run has written; nothing is taken for what it is not."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Lora(_Checked):
    name: str
    adapters: list[tuple[str, str, float, str]]


def _object(text: str | None) -> str:
    """A JSON object, or nothing."""
    if text and not isinstance(from_json(text), dict):
        raise ValueError("is no JSON object")
    return text or ""


def _lora(text: str | None) -> str:
    """As `Cell.lora`, or nothing."""
    if text:
        _Lora.model_validate_json(text)
    return text or ""


def _image_path(name: str) -> str:
    if not is_of_a_run(name):
        raise ValueError("is none of a run's files")
    return name


class _Row(_Checked):
    """Of `cells`, and of `plan` beside it; without `CELL_COLUMNS`."""

    position: int = 0
    nfe_budget: int | None = None  # missing in a run of an earlier schedcmp
    key: str
    machine: str
    status: Status
    error: str | None
    nfe: int | None
    made_width: int | None
    made_height: int | None
    frames: int | None = None  # missing in a run of an earlier schedcmp, as is what follows
    fps: float | None = None
    image_sha256: str | None
    peak_memory_bytes: int | None
    packed: Literal[0, 1]
    timings: Json[tuple[Timing, ...]]
    scheduler_config: Json[dict[str, Any]]
    timesteps: Json[tuple[Annotated[float, AllowInfNan(True)], ...]]
    image_path: Annotated[str, AfterValidator(_image_path)] | None


_CHECKS = {"call": _object, "lora": _lora}  # of what is a text that has parts


def _column(name: str, own: Any) -> Any:
    """Of a cell's field: what its column holds, and what stands for it where it is missing."""
    if name not in LATER_COLUMNS:
        return own, ...
    return (Annotated[own | None, AfterValidator(_CHECKS[name])] if name in _CHECKS else own | None), None


_HINTS = get_type_hints(Cell)
_FullRow = create_model("_FullRow", __base__=_Row, **{name: _column(name, _HINTS[name]) for name in CELL_COLUMNS})


class _Trajectory(_Checked):
    scheduler: str
    steps: int
    strength: float | None = None
    timesteps: list[Annotated[float, AllowInfNan(True)]]
    sigmas: list[Annotated[float, AllowInfNan(True)]]
    remarks: list[str]
    config: dict[str, Any] = {}  # missing in a run of an earlier schedcmp
    nfe: int


class _Throughput(_Checked):
    images: int
    forwards: int
    evaluations: int
    rows: int
    wall_s: float
    notes: list[str]
    occupancy: float


class _Group(_Checked):
    """Of one setting, which is told beside."""

    scheduler: str
    steps: int
    images: int
    real_images: int
    cmmd: float | None


class _Distribution(_Checked):
    origin: str
    rows: list[_Group]


class _Sweep(_Checked):
    name: str
    grid: dict[Literal["rows", "cols", "page"], list[str]]


class _Order(_Checked):
    text: str
    order: float | None


_META: Mapping[str, TypeAdapter[Any]] = {
    "sweep": TypeAdapter(str),
    "environment": TypeAdapter(dict[str, Any]),
    "warnings": TypeAdapter(list[str]),
    "trajectories": TypeAdapter(list[_Trajectory]),
    "references": TypeAdapter(list[Reference]),
    "throughput": TypeAdapter(_Throughput | None),
    "distribution": TypeAdapter(_Distribution | None),
    "machines": TypeAdapter(dict[str, dict[str, Any]]),
    "metrics": TypeAdapter(list[Reading]),
    "orders": TypeAdapter(dict[str, _Order]),
    "tracked": TypeAdapter(dict[str, str]),
    "metric_origins": TypeAdapter(dict[str, str]),
    "compared_with": TypeAdapter(dict[str, dict[str, str]]),
}


def to_row(result: CellResult, key: str, path: str | None) -> dict[str, Any]:
    values = {name: getattr(result.cell, name) for name in CELL_COLUMNS}
    values |= {name: getattr(result, name.replace("made_", "")) for name in PLAIN_COLUMNS}
    timings = [asdict(t) for t in result.timings]
    return values | {
        "key": key,
        "image_path": path,
        "timings": json.dumps(timings),
        "scheduler_config": to_json(result.scheduler_config),
        "timesteps": json.dumps(result.timesteps),
    }


def from_row(row: dict[str, Any]) -> StoredCell:
    found = _checked(_FullRow.model_validate, row)
    values = {name: getattr(found, name) for name in CELL_COLUMNS}
    values |= {name: default for name, default in LATER_COLUMNS.items() if values[name] is None}
    cell = Cell(index=found.position, nfe_budget=found.nfe_budget, **values)
    plain = {name.replace("made_", ""): getattr(found, name) for name in PLAIN_COLUMNS}
    result = CellResult(
        cell,
        timings=found.timings,
        scheduler_config=found.scheduler_config,
        timesteps=found.timesteps,
        machine=found.machine,
        **plain | {"packed": bool(found.packed)},
    )
    return StoredCell(result, found.image_path)


def read_meta(name: str, value: Any) -> Any:
    """What the store keeps of a run under a name."""
    if name in _META:
        _checked(_META[name].validate_json, value)
    return from_json(value)


def read_sweep(text: str) -> dict[str, Any]:
    """The sweep of a run as plain data, with a name and a grid at least."""
    try:
        found = parse(text, "sweep").data
    except SweepError as error:
        raise ValueError(one_line(error)) from error
    _checked(_Sweep.model_validate, found)
    return found


def _checked(validate: Any, value: Any) -> Any:
    """What `validate` makes of a value; raises ValueError with one line about the first thing that is wrong."""
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
