"""Running a sweep from Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.face.asking import asked
from schedcmp.face.results import Run
from schedcmp.face.unlogged import unlogged
from schedcmp.records import StoredCell

if TYPE_CHECKING:
    from schedcmp.prepare import Prepared
    from schedcmp.store.several import Shown


class SchedcmpWarning(UserWarning):
    """What the user should know before trusting a comparison."""


def run(
    sweep: str | PathLike[str] | Mapping[str, Any] | None = None,
    /,
    *,
    pipeline: Any = None,
    output: str | PathLike[str] | None = None,
    fresh: bool = False,
    progress: bool = True,
    **keys: Any,
) -> Run:
    """Make every image of a sweep that is not there yet, and the reports; interrupted, the same call goes on.

    Args:
        sweep: a sweep's file, its text, or its keys as a mapping; none if all are keywords.
        pipeline: a diffusers pipeline that is loaded already, instead of the sweep's `model`: with LoRAs, quantised,
            customised in any way. It is used as it is and left as it was.
        output: the run's folder or address; by default outputs/NAME.
        fresh: forget what the folder has of earlier runs.
        progress: show how far it is.
        **keys: the sweep's keys; they win over those of `sweep`. A scheduler may be a class.

    Raises:
        RequestError: the sweep is wrong; nothing is written.
        RunError: the disk is full or fails; what was finished is kept.
    """
    from schedcmp.runs.several import Several
    from schedcmp.store.several import opened

    with unlogged():
        prepared = asked(sweep, keys, pipeline)
        if isinstance(prepared, Several):
            folder = prepared.begin(str(output) if output else None)
            for at, one in prepared.each(folder):
                _run(one, str(at), fresh=fresh, progress=progress)
                del one
            with opened(folder) as store:
                _warn(_report(store))
        else:
            folder = _run(prepared, str(output or prepared.folder), fresh=fresh, progress=progress)
    found = Run(folder)
    _warn(map(_trouble, found.troubled))
    return found


def _run(prepared: Prepared, output: str, *, fresh: bool, progress: bool) -> Path:
    """Make what is missing, and the reports; returns the run's folder."""
    from schedcmp.cli.making import make, workers
    from schedcmp.cli.places import place
    from schedcmp.report.page import write_page
    from schedcmp.runs.execution import Execution, rounds
    from schedcmp.store.store import Store

    _warn(prepared.warnings, 4)
    evaluating = getattr(prepared.checkpoint, "evaluating", nullcontext)
    with (
        evaluating(),
        workers(prepared) as (prepared, crew),
        place(output) as where,
        Store.create(where.folder) as store,
    ):
        first = Execution.begin(prepared, store, crew=crew, fresh=fresh)
        try:
            for execution in rounds(first):
                make(execution, where, silent=not progress)
                _warn(execution.measure(), 4)
        except KeyboardInterrupt:
            write_page(store)  # it says no longer that the run goes on
            raise
        _warn(_report(store, prepared.sweep.track or ()), 4)
        return where.folder


def _report(store: Shown, places: Iterable[str] = ()) -> list[str]:
    """Write them, and send them to where results are tracked; returns sentences on what was seen and is missing."""
    from schedcmp.report.write import write_reports
    from schedcmp.store.store import Store
    from schedcmp.track.trackers import track

    reports = write_reports(store)
    told = [*reports.seen, *reports.left_out, *(f"not drawn: {text}" for text in reports.missing)]
    if isinstance(store, Store):
        told += track(store, places, [*reports.answers, *reports.beside], reports.files)
    return told


def _trouble(stored: StoredCell) -> str:
    cell, result = stored.cell, stored.result
    return f"{result.status}: {cell.scheduler} at {cell.steps} steps, seed {cell.seed}: {result.error}"


def _warn(texts: Iterable[str], depth: int = 3) -> None:
    for text in texts:
        warnings.warn(text, SchedcmpWarning, stacklevel=depth)
