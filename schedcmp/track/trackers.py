"""The programs that results are sent to, each through its own client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from schedcmp.errors import RequestError, one_line
from schedcmp.report.answer import Answer
from schedcmp.store.store import Store
from schedcmp.track.record import Record, record

T = TypeVar("T")
SENT = "tracked"  # the name under which the store keeps what runs are called elsewhere
_PROJECT = "schedcmp"
_BATCH = 100  # MLflow takes so many parameters at once


@dataclass(frozen=True, slots=True)
class Tracker:
    """One program."""

    packages: tuple[str, ...]  # any of which is its client
    send: Callable[[str, Record, str], str]  # where, what, the id of an earlier time or "" → its id


def track(store: Store, places: Iterable[str], answers: Sequence[Answer], written: Sequence[Path]) -> Iterator[str]:
    """Send a run to each place; a sentence for each that it could not be sent to. What was sent before is sent to the
    same run there."""
    sent = dict(store.meta(SENT) or {})
    for address in places:
        try:
            sent[address] = send(address, record(store, answers, written), sent.get(address, ""))
        except RequestError as error:
            yield str(error)
            continue
        store.note(SENT, sent)


def send(address: str, what: Record, before: str = "") -> str:
    """Send a run to `KIND:WHERE`; returns what it is called there, so that it is the same when it is sent again.

    Raises:
        RequestError: it cannot be sent; the message says why.
    """
    tracker, where = _tracker(address)
    try:
        return tracker.send(where, what, before)
    except Exception as error:  # a client raises what it likes
        raise RequestError(f"track: {address}: {one_line(error)}") from error


def refusal(address: str) -> str:
    """Why nothing can be sent there, or ""."""
    try:
        tracker, where = _tracker(address)
    except RequestError as error:
        return str(error)
    if re.search(r"//[^/]*@", where):
        return "a sweep is kept with the run, and is no place for a password; give it to the client by its environment"
    if any(find_spec(name) for name in tracker.packages):
        return ""
    return f"{address} takes the package {tracker.packages[0]}: pip install {tracker.packages[0]}"


def _tracker(address: str) -> tuple[Tracker, str]:
    kind, _, where = address.partition(":")
    if kind not in TRACKERS:
        raise RequestError(
            f"unknown place {address!r}; places are {', '.join(TRACKERS)}, as in mlflow:http://host:5000"
        )
    return TRACKERS[kind], where


def _mlflow(where: str, what: Record, before: str) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=f"http:{where}" if where.startswith("//") else where or None)
    run = before or _mlflow_run(client, what)
    now = int(time.time() * 1000)
    if not before:  # what a run was made with cannot be changed there
        for facts in _chunks([Param(_plain(name), value) for name, value in what.facts.items()]):
            client.log_batch(run, params=facts)
    points = [(_plain(name), v, n) for name, values in what.series.items() for n, v in sorted(values.items())]
    for metrics in _chunks([Metric(name, value, now, steps) for name, value, steps in points]):
        client.log_batch(run, metrics=metrics)
    for path in what.files:
        client.log_artifact(run, str(path))
    client.set_terminated(run)
    return run


def _mlflow_run(client: Any, what: Record) -> str:
    found = client.get_experiment_by_name(_PROJECT)
    experiment = found.experiment_id if found else client.create_experiment(_PROJECT)
    return str(client.create_run(experiment, run_name=what.name).info.run_id)


def _wandb(where: str, what: Record, before: str) -> str:
    import wandb

    entity, _, project = where.strip("/").rpartition("/")
    options = {"id": before, "resume": "allow"} if before else {}
    with wandb.init(
        project=project or _PROJECT, entity=entity or None, name=what.name, config=dict(what.facts), **options
    ) as run:
        run.define_metric("steps", hidden=True)
        for name in what.series:
            run.define_metric(name, step_metric="steps")
        for steps in sorted({n for values in what.series.values() for n in values}):
            run.log({"steps": steps} | {name: v[steps] for name, v in what.series.items() if steps in v})
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", what.name), type="schedcmp")
        for path in what.files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
        return str(run.id)


def _tensorboard(where: str, what: Record, before: str) -> str:
    with _summary_writer(f"{where or 'runs'}/{re.sub(r'[^A-Za-z0-9 ._+-]', '-', what.name)}") as writer:
        for name, values in what.series.items():
            for steps, value in sorted(values.items()):
                writer.add_scalar(name, value, steps)
        table = "\n".join(f"| {name} | {value} |" for name, value in what.facts.items())
        writer.add_text("run", f"| | |\n|---|---|\n{table}")
        for path in what.files:
            if path.suffix == ".md":
                writer.add_text(path.name, path.read_text(encoding="utf-8"))
    return before or what.name


@contextmanager
def _summary_writer(folder: str) -> Iterator[Any]:
    """Of either client; what an earlier time has written for these steps is no longer shown."""
    client = import_module("torch.utils.tensorboard" if find_spec("tensorboard") else "tensorboardX")
    writer = client.SummaryWriter(folder, purge_step=0)
    try:
        yield writer
    finally:
        writer.close()


def _plain(name: str) -> str:
    """MLflow's names have letters, digits and few marks."""
    return re.sub(r"[^\w\-./ ]", "-", name)[:250]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    yield from (items[i : i + _BATCH] for i in range(0, len(items), _BATCH))


TRACKERS = {
    "mlflow": Tracker(("mlflow",), _mlflow),
    "wandb": Tracker(("wandb",), _wandb),
    "tensorboard": Tracker(("tensorboard", "tensorboardX"), _tensorboard),
}
