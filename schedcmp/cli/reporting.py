"""`report`, and what is said of a run that has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.cli import console
from schedcmp.cli.console import say, table
from schedcmp.cli.places import Place, place, tell_unreadable
from schedcmp.cli.planning import SHOWN_WARNINGS
from schedcmp.cli.process import UNFINISHED
from schedcmp.cli.progress import stage
from schedcmp.cli.recommending import show
from schedcmp.records import StoredCell, Task
from schedcmp.report.numbers import counted
from schedcmp.report.tables import HEAD, readable, timing_rows, unusable
from schedcmp.store.folder import DATABASE
from schedcmp.store.several import Shown, opened, place_of
from schedcmp.store.store import Store

if TYPE_CHECKING:
    from schedcmp.report.write import Reports

_SHOWN_FAILURES = 5
_SHOWN_SENTENCES = 1


def rebuild_reports(run: str) -> int:
    """Tables and grids again, without the model; returns the exit code."""
    with place(run, new=False) as where, opened(where.folder) as store:
        for label in getattr(store, "members", ()):
            rebuild_reports(str(place_of(where.folder, label)))
        written = _written(store)
        tell_unreadable(store, where.name)
        _tell_damaged(store, where.name)
        _tell_files(where, written.files)
        return _tell_missing(written, where.name)


def _tell_damaged(store: Shown, name: str) -> None:
    images = [(c.image_path, c.result.image_sha256) for c in store.cells() if c.image_path]
    damaged = [path for path, pixels in images if path and not store.files.is_intact(path, pixels)]
    if damaged:
        several = f"{counted(len(damaged), 'image')} {'is' if len(damaged) == 1 else 'are'}"
        console.warn(f"{several} not what was stored ({name}/{damaged[0]}): `schedcmp check {name}` says more")


def report(store: Store, name: str, places: Sequence[str]) -> int:
    """Write a run's reports and say no more than what is missing; returns the exit code."""
    return _tell_missing(_written(store, places), name)


def _written(store: Shown, places: Sequence[str] = ()) -> Reports:
    """Also sent to where results are tracked; a run of several checkpoints sends each by itself."""
    from schedcmp.report.write import write_reports
    from schedcmp.track.trackers import track

    with stage("writing reports"):
        written = write_reports(store)
    if isinstance(store, Store):
        for sentence in track(store, places, [*written.answers, *written.beside], written.files):
            console.warn(f"not sent: {sentence}")
    return written


def finish(store: Shown, where: Place, places: Sequence[str] = (), *, packed: bool) -> int:
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
    troubled = [_trouble(stored) for stored in cells if stored.result.status in ("failed", "flagged")]
    console.warn_of(troubled, _SHOWN_FAILURES, "; see results.csv")
    reports = _written(store, places)
    for sentence in reports.seen[:SHOWN_WARNINGS]:
        console.warn(sentence.rstrip("."))
    show(reports.answers, most=_SHOWN_SENTENCES, first=reports.settings)
    _tell_files(where, reports.files)
    failed = sum(stored.result.status == "failed" for stored in cells)
    missing = store.planned() - len(cells)
    if missing:
        console.warn(f"{missing:,} of {store.planned():,} cells are not there; repeat the command to make them")
    undrawn = _tell_missing(reports, where.name)
    return UNFINISHED if failed or missing else undrawn


def _trouble(stored: StoredCell) -> str:
    cell, result = stored.cell, stored.result
    whose, why = ", ".join(filter(None, [cell.model, cell.scheduler])), str(result.error).partition("\n")[0]
    return f"{result.status}: {whose}, {cell.steps} steps, seed {cell.seed}: {why}"


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
    images = f"{counted(seen['images'], 'image')}{', references among them,' if references else ''}"
    return (
        f"packed   {images} in {seen['wall_s']:.1f} s ({seen['images'] / seen['wall_s']:.3g}/s), "
        f"{seen['rows'] / max(seen['forwards'], 1):.1f} rows per denoiser call, {seen['occupancy']:.0%} full"
    )


def _tell_references(store: Shown, tasks: set[Task]) -> None:
    references = [reference for task, reference in store.references().items() if task in tasks]
    apart = [r.uncertainty for r in references if not r.note and r.uncertainty is not None]
    if apart:
        certain = f"certain to {max(apart):.2g} of the latents' standard deviation"
        say(f"distance {counted(len(apart), 'reference')}, {certain}")
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
