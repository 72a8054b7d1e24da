"""Results in the places where people keep those of their experiments; each test needs that place's client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import output
from test_reference import TINY
from test_run import run
from test_sweep import write

from schedcmp.errors import RequestError
from schedcmp.report.write import write_reports
from schedcmp.store.store import Store
from schedcmp.track import trackers
from schedcmp.track.record import Record, record
from schedcmp.track.trackers import SENT, send, track

Write = Callable[..., Path]


@pytest.fixture
def what(tmp_path: Path) -> Record:
    answer = tmp_path / "answer.md"
    answer.write_text("# Which scheduler?\n", encoding="utf-8")
    series = {"reference_rmse/ddim": {4: 0.5, 8: 0.25}, "nfe/dpmpp-2m shift=0.5/1.15": {4: 4.0}}
    return Record("my run", {"checkpoint": "builtin:tiny", "recommended": "ddim at 8 steps"}, series, (answer,))


def test_mlflow_has_the_numbers_by_steps_and_the_files(
    what: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = f"mlflow:{(tmp_path / 'mlruns').as_uri()}"
    first = send(address, what)
    assert send(address, what, first) == first
    client = mlflow.MlflowClient(tracking_uri=address.removeprefix("mlflow:"))
    (found,) = client.search_runs([client.get_experiment_by_name("schedcmp").experiment_id])
    assert found.info.run_name == "my run"
    assert found.info.status == "FINISHED"
    assert found.data.params == dict(what.facts)
    assert found.data.metrics == {"reference_rmse/ddim": 0.25, "nfe/dpmpp-2m shift-0.5/1.15": 4.0}
    history = client.get_metric_history(first, "reference_rmse/ddim")
    assert {(m.step, m.value) for m in history} == {(4, 0.5), (8, 0.25)}
    assert [file.path for file in client.list_artifacts(first)] == ["answer.md"]


def test_tensorboard_has_the_numbers_by_steps(what: Record, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        send(f"tensorboard:{tmp_path / 'runs'}", what)
    read = EventAccumulator(str(tmp_path / "runs" / "my run"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("reference_rmse/ddim")] == [(4, 0.5), (8, 0.25)]


def test_wandb_takes_a_run(what: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    first = send("wandb:schedcmp-test", what)
    assert first
    assert list((tmp_path / "wandb").glob(f"offline-run-*-{first}/*.wandb"))


# --- in a run


class Seen:
    """A place that remembers what it was sent."""

    def __init__(self, *, broken: bool = False) -> None:
        self.sent: list[tuple[str, Record, str]] = []
        self.broken = broken

    def __call__(self, where: str, what: Record, before: str) -> str:
        if self.broken:
            raise OSError("no such\nhost")
        self.sent.append((where, what, before))
        return "run-1"


def place(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Seen:
    seen = Seen(**options)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", trackers.Tracker(("json",), seen))
    return seen


def test_a_run_is_sent_when_its_reports_are_written_and_again_to_the_same(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, out = place(monkeypatch), tmp_path / "out"
    sweep = write_sweep(track="mlflow://host:5000", schedulers=["ddim", "heun"], seeds=0)
    for _ in range(2):
        assert run("run", sweep, "-o", out) == 0
    (_, first, before), (where, second, after) = seen.sent
    assert (before, where, after) == ("", "//host:5000", "run-1")
    assert first.name == "sweep"
    assert first.series["nfe/heun"] == {2: 3.0, 3: 5.0}
    assert first.facts["pipeline"] == "StableDiffusionPipeline"
    assert second.series["nfe/ddim"] == {2: 2.0, 3: 3.0}
    assert {path.name for path in first.files} >= {"answer.md", "sweep.yaml", "results.csv"}
    with Store.open(out) as store:
        assert store.meta(SENT) == {"mlflow://host:5000": "run-1"}


def test_a_place_that_cannot_be_reached_costs_nothing_but_a_warning(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place(monkeypatch, broken=True)
    assert run("run", write_sweep(track="mlflow", seeds=0), "-o", tmp_path / "out") == 0
    assert "not sent: track: mlflow: no such host" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("mlfow:x", "unknown place 'mlfow:x'"),
        ("mlflow:http://user:secret@host", "no place for a password"),
        ("wandb:team/project", "pip install wandb"),
    ],
)
def test_a_place_that_is_none_is_refused_before_anything_is_made(
    value: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    sweep = write(tmp_path, TINY | {"schedulers": ["ddim"], "steps": [2], "track": value})
    text = " ".join(output(capsys, "check", sweep, code=2).split())
    assert told in text
    assert "track:" in text


def test_what_is_sent_has_each_scheduler_by_its_steps(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run("run", write_sweep(guidance_scale=[1, 3], seeds=0, timing="off"), "-o", out) == 0
    seen = place(monkeypatch)
    with Store.create(out) as store:
        reports = write_reports(store)
        found = record(store, reports.answers, reports.files)
        assert list(track(store, ["mlflow"], reports.answers, reports.files)) == []
    assert {"guidance 1/nfe/ddim", "guidance 3/nfe/ddim"} <= found.series.keys()
    assert seen.sent[0][1] == found
    with pytest.raises(RequestError, match="unknown place"):
        send("nowhere", found)
