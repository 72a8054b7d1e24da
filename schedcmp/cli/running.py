"""`run`, `check` and `report`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.cli import console
from schedcmp.cli.console import say, table
from schedcmp.cli.making import make, workers
from schedcmp.cli.places import Place, look, place, tell_unreadable
from schedcmp.cli.process import INTERRUPTED, UNFINISHED, starting
from schedcmp.cli.progress import stage
from schedcmp.cli.recommending import show
from schedcmp.prepare import Prepared
from schedcmp.records import Length, Task, length_of
from schedcmp.report.tables import HEAD, readable, timing_rows, unusable
from schedcmp.runs.estimate import estimate
from schedcmp.runs.execution import Execution, rounds
from schedcmp.runs.pending import pending_cells
from schedcmp.runs.several import Several, prepare_all
from schedcmp.store.folder import DATABASE
from schedcmp.store.rescue import set_aside
from schedcmp.store.several import Shown, opened, place_of
from schedcmp.store.store import Store
from schedcmp.sweep.parts.steps import Search

if TYPE_CHECKING:
    from schedcmp.report.write import Reports

_SHOWN_FAILURES = 5
_SHOWN_SENTENCES = 1
_SHOWN_WARNINGS = 20


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
        return _finish(store, Place(folder, str(folder)), packed=False)


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
            return _finish(store, where, places, packed=bool(execution.throughput))
        return _report(store, where.name, places)


@contextmanager
def _headed(prepared: Prepared, output: str | None) -> Iterator[Place]:
    """Where the run goes, after its headline."""
    _headline(prepared, device=True)
    with place(output or str(prepared.folder)) as where:
        yield where


def show_plan(path: Path, overrides: tuple[str, ...], output: str | None) -> None:
    """What a sweep would do, and what it would cost."""
    with starting():
        found = prepare_all(path, overrides, progress=console.err.is_terminal)
    if isinstance(found, Several):
        folder = Path(output) if output else found.folder
        for label, prepared in found.members.items():
            _show_plan(prepared, str(place_of(folder, label)))
    else:
        _show_plan(found, output or str(found.folder))


def _show_plan(prepared: Prepared, name: str) -> None:
    _headline(prepared)
    counts = Counter(map(length_of, prepared.plan.cells))
    from_images = any(strength is not None for *_, strength in counts)
    costs: dict[Length, set[int]] = defaultdict(set)  # guidance may take a second evaluation
    for cell in prepared.supported:
        costs[length_of(cell)].add(prepared.cost(cell))
    rows = [
        (
            name,
            _class_of(prepared, name),
            _steps(n, strength),
            ", ".join(map(str, sorted(costs[name, n, strength]))) or "unsupported",
            str(count),
        )
        for (name, n, strength), count in counts.items()
    ]
    steps = "steps at strength" if from_images else "steps"
    table(["scheduler", "class", steps, "NFE", "cells"], rows, left=("scheduler", "class"))
    if prepared.own_guidance is not None:
        pipeline = prepared.checkpoint.pipeline_class
        say(f"guidance {prepared.own_guidance:g}, as none is given: {pipeline}'s own default")
    folder, exists = look(name)
    say(f"folder   {name}{' (exists; what is finished there is not made again)' if exists else ''}")
    if prepared.references:
        pairs, nfe = prepared.references.pairs, sum(map(prepared.cost, prepared.references.cells))
        say(f"distance {len(pairs):,} references, {nfe:,} denoiser evaluations more; `metrics: off` leaves them out")
    if isinstance(prepared.sweep.steps, Search):
        say(f"steps    those tried at first; more as they are needed, up to {prepared.sweep.steps.auto.most}")
    say(f"time     {estimate(prepared, folder)}")


def _class_of(prepared: Prepared, label: str) -> str:
    """Of the implementation that runs; of the entry, where none can."""
    recipe = prepared.recipes.get(label)
    return (recipe.entry if recipe else prepared.plan.entries[label]).class_name


def rebuild_reports(run: str) -> int:
    """Tables and grids again, without the model; returns the exit code."""
    from schedcmp.report.write import write_reports

    with place(run, new=False) as where, opened(where.folder) as store:
        for label in getattr(store, "members", ()):
            rebuild_reports(str(place_of(where.folder, label)))
        with stage("writing reports"):
            written = write_reports(store)
        tell_unreadable(store, where.name)
        _tell_damaged(store, where.name)
        _tell_files(where, written.files)
        return _tell_missing(written, where.name)


def _tell_damaged(store: Shown, name: str) -> None:
    images = [(c.image_path, c.result.image_sha256) for c in store.cells() if c.image_path]
    damaged = [path for path, pixels in images if path and not store.files.is_intact(path, pixels)]
    if damaged:
        console.warn(
            f"{len(damaged):,} images are not what was stored ({name}/{damaged[0]}): `schedcmp check {name}` says more"
        )


def _steps(steps: int, strength: float | None) -> str:
    return str(steps) if strength is None else f"{steps} at {strength:g}"


def _headline(prepared: Prepared, *, device: bool = False) -> None:
    plan = prepared.plan
    where = f" ({prepared.origin.device}, {prepared.origin.dtype})" if device else ""
    say(
        f"{prepared.sweep.name}: {len(plan.entries)} schedulers, {len(plan.cells):,} cells, "
        f"{prepared.total_nfe:,} denoiser evaluations on {prepared.checkpoint.name}{where}"
    )
    for found in prepared.few_steps:
        if not found.leaves(prepared.supported):  # else a warning says all of it
            say(found.told)
    for warning in prepared.warnings[:_SHOWN_WARNINGS]:
        console.warn(warning)
    if len(prepared.warnings) > _SHOWN_WARNINGS:
        console.warn(f"and {len(prepared.warnings) - _SHOWN_WARNINGS} more, in the run's store")


def _tell_done(execution: Execution) -> None:
    done = len(execution.prepared.supported) - len(execution.pending)
    if done:
        say(f"{done:,} cells are there already")


def _report(store: Store, name: str, places: Sequence[str]) -> int:
    """Write a run's reports and say no more than what is missing; returns the exit code."""
    from schedcmp.report.write import write_reports

    with stage("writing reports"):
        written = write_reports(store)
    _send(store, places, written)
    return _tell_missing(written, name)


def _send(store: Shown, places: Sequence[str], written: Reports) -> None:
    """To where results are tracked; a run of several checkpoints sends each by itself."""
    from schedcmp.track.sending import track

    if places and isinstance(store, Store):
        for sentence in track(store, places, [*written.answers, *written.beside], written.files):
            console.warn(f"not sent: {sentence}")


def _finish(store: Shown, where: Place, places: Sequence[str] = (), *, packed: bool) -> int:
    from schedcmp.report.write import write_reports

    cells = list(store.cells())
    rows = timing_rows(cells)
    if rows:
        shown = 7  # the rest is in timings.md: a terminal may have 80 columns
        table(HEAD[:shown], [cells[:shown] for cells in readable(rows)], left=("scheduler",))
        if rows[0].doubt:
            console.warn(unusable(rows[0].doubt))
    throughput = store.meta("throughput")
    if packed and throughput:
        say(_throughput_line(throughput, references=bool(store.references())))
        for note in throughput["notes"]:
            console.warn(note)
    _tell_references(store, {stored.cell.task for stored in cells})
    troubled = [stored for stored in cells if stored.result.status in ("failed", "flagged")]
    for stored in troubled[:_SHOWN_FAILURES]:
        cell = stored.cell
        console.warn(
            f"{stored.result.status}: {', '.join(filter(None, [cell.model, cell.scheduler]))}, "
            f"{cell.steps} steps, seed {cell.seed}: "
            f"{str(stored.result.error).splitlines()[0]}"
        )
    if len(troubled) > _SHOWN_FAILURES:
        console.warn(f"and {len(troubled) - _SHOWN_FAILURES} more; see results.csv")
    with stage("writing reports"):
        reports = write_reports(store)
    _send(store, places, reports)
    for sentence in reports.seen[:_SHOWN_WARNINGS]:
        console.warn(sentence.rstrip("."))
    show(reports.answers, most=_SHOWN_SENTENCES, first=reports.settings)
    _tell_files(where, reports.files)
    failed = sum(stored.result.status == "failed" for stored in cells)
    missing = store.planned() - len(cells)
    if missing:
        console.warn(f"{missing:,} of {store.planned():,} cells are not there; repeat the command to make them")
    undrawn = _tell_missing(reports, where.name)
    return UNFINISHED if failed or missing else undrawn


def _tell_missing(reports: Reports, name: str) -> int:
    """Say what is not drawn; returns the exit code."""
    for text in reports.left_out:
        console.warn(text)
    missing = reports.missing
    for text in missing[:_SHOWN_FAILURES]:
        console.warn(f"not drawn: {text}")
    if missing:
        console.warn(f"{len(missing):,} parts of the report are missing; `schedcmp report {name}` makes them again")
    return UNFINISHED if missing else 0


def _throughput_line(seen: dict[str, Any], *, references: bool) -> str:
    images = f"{seen['images']:,} images{', references among them,' if references else ''}"
    return (
        f"packed   {images} in {seen['wall_s']:.1f} s ({seen['images'] / seen['wall_s']:.3g}/s), "
        f"{seen['rows'] / max(seen['forwards'], 1):.1f} rows per denoiser call, {seen['occupancy']:.0%} full"
    )


def _tell_references(store: Shown, tasks: set[Task]) -> None:
    references = [reference for task, reference in store.references().items() if task in tasks]
    apart = [r.uncertainty for r in references if not r.note and r.uncertainty is not None]
    if apart:
        say(f"distance {len(apart):,} references, certain to {max(apart):.2g} of the latents' standard deviation")
    notes = Counter(r.note for r in references if r.note)
    for note, count in notes.most_common(_SHOWN_FAILURES):
        console.warn(f"no distance to the converged image for {count:,} of {len(references):,} tasks: {note}")


def _tell_files(where: Place, files: list[Path]) -> None:
    grids = [f for f in files if f.parent.name == "grids"]
    tables = [f.name for f in files if f.parent == where.folder and f.suffix != ".html"]
    one = (where.folder / DATABASE).exists()
    say(f"images   {where.name}/{'images' if one else 'models/*/images'}")
    say(f"grids    {where.name}/grids{f'/{grids[0].name}' if len(grids) == 1 else f': {len(grids):,} files'}")
    say(f"tables   {where.name}: {', '.join(tables)}")
    say(f"store    {where.name}/{DATABASE if one else f'models/*/{DATABASE}'}")
    say(f"page     {where.name}/report.html")
