"""`run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedcmp.cli import console
from schedcmp.cli.console import say
from schedcmp.cli.making import make, workers
from schedcmp.cli.places import Place, place, tell_unreadable
from schedcmp.cli.planning import headline
from schedcmp.cli.process import INTERRUPTED, starting
from schedcmp.cli.progress import stage
from schedcmp.cli.reporting import finish, report
from schedcmp.prepare import Prepared
from schedcmp.report.numbers import counted
from schedcmp.runs.execution import Execution, rounds
from schedcmp.runs.pending import pending_cells
from schedcmp.runs.several import Several, prepare_all
from schedcmp.store.folder import DATABASE
from schedcmp.store.rescue import set_aside
from schedcmp.store.several import opened
from schedcmp.store.store import Store


def run_sweep(path: Path, overrides: tuple[str, ...], output: str | None, *, fresh: bool) -> int:
    """Run a sweep and report; returns the exit code."""
    with starting():
        prepared = prepare_all(path, overrides, progress=console.err.is_terminal)
    if isinstance(prepared, Several):
        return _run_several(prepared, output, fresh=fresh)
    return _run(prepared, output, fresh=fresh)


def _run_several(several: Several, output: str | None, *, fresh: bool) -> int:
    """Each checkpoint's run, one after the other, and what they show together; returns the exit code."""
    folder = several.begin(output)
    for at, prepared in several.each(folder):
        code = _run(prepared, str(at), fresh=fresh, alone=False)
        del prepared
        if code == INTERRUPTED:
            return INTERRUPTED
    with opened(folder) as store:
        return finish(store, Place(folder, str(folder)), packed=False)


def _run(prepared: Prepared, output: str | None, *, fresh: bool, alone: bool = True) -> int:
    """
    Args:
        alone: it is no part of several, which are told of together.
    """
    from schedcmp.report.page import write_page

    with (
        workers(prepared) as (prepared, crew),
        _headed(prepared, output) as where,
        Store.create(where.folder, mend=set_aside if fresh else None) as store,
    ):
        if store.set_aside:
            console.warn(f"{where.name}/{DATABASE} was damaged; it is kept as {store.set_aside.name}")
        with starting(), stage("loading"):
            first = execution = Execution.begin(prepared, store, crew=crew, fresh=fresh)
        tell_unreadable(store, where.name)
        try:
            _tell_done(execution)
            for told in dict.fromkeys(metric.told for metric in prepared.metrics if metric.told):
                say(told)
            for execution in rounds(first):
                if execution is not first and execution.pending:
                    say(f"steps    {len(execution.pending):,} cells more to find how many are needed")
                make(execution, where)
                where.between_cells(timed=False)
                with stage("measuring"):
                    failed = execution.measure()
                for sentence in failed:
                    console.warn(sentence)
        except KeyboardInterrupt:
            write_page(store)  # it says no longer that the run goes on
            done = store.planned() - len(pending_cells(execution.prepared, store))
            say(f"interrupted: {done} of {store.planned()} cells are in {where.name}; repeat the command to go on")
            return INTERRUPTED
        places = prepared.sweep.track or ()
        if alone:
            return finish(store, where, places, packed=bool(execution.throughput))
        return report(store, where.name, places)


@contextmanager
def _headed(prepared: Prepared, output: str | None) -> Iterator[Place]:
    """Where the run goes, after its headline."""
    headline(prepared, device=True)
    with place(output or str(prepared.folder)) as where:
        yield where


def _tell_done(execution: Execution) -> None:
    done = len(execution.prepared.supported) - len(execution.pending)
    if done:
        say(f"{counted(done, 'cell')} {'is' if done == 1 else 'are'} there already")
