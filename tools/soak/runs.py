"""What is looked at in a run that was stopped, and how it is brought to its end."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tools.soak.case import Case, Failed
from tools.soak.commands import Started, here

Stored = dict[str, str]


def stored(folder: Path) -> Stored:
    """The images of a run's database, by the ids of their cells; undoes a transaction that was cut off, so look at a
    copy."""
    if not (folder / "run.sqlite").exists():
        return {}
    with closing(sqlite3.connect(folder / "run.sqlite")) as database:
        found = database.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise Failed(f"the database is damaged: {found:.200}")
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'cells'").fetchone():
            return {}
        return dict(database.execute("SELECT id, image_sha256 FROM cells WHERE status IN ('ok', 'flagged')"))


def look_into(case: Case, run: Path, before: Stored) -> Stored:
    """What is stored in a copy of a run that was stopped. Raises Failed if it is less than before, or damaged."""
    if not run.exists():
        return {}
    copy = case.folder / "look" / "run"
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(run, copy, symlinks=True)
    if (copy / "run.sqlite-journal").exists():
        case.seen["hot journals"] += 1
    if list(copy.rglob("*.part")):
        case.seen["half files"] += 1
    now = stored(copy)
    lost = [id_ for id_, pixels in before.items() if now.get(id_) != pixels]
    if lost:
        raise Failed(f"lost: {len(lost)} of {len(before)} stored images are gone or others, such as {lost[0]}")
    if now:
        _look_sound(case, copy, now)
    return now


def _look_sound(case: Case, copy: Path, now: Stored) -> None:
    """`check` of it. That `sweep.yaml`, which is written last, is not there yet is no damage to what is stored."""
    said = here(case, "check", copy)
    found = [line for line in said.err.splitlines() if "sweep.yaml" not in line and "damaged" in line + said.out]
    if said.code == 1 and found:
        raise Failed(f"damaged: {found[:3]}")


def stop(case: Case, started: Started, run: Path, usual_s: float, how: Callable[[Started], None]) -> bool:
    """Stop a command at a random moment, or where a file is half written; says whether it was still there."""
    moment = case.random.choice(("time", "time", "journal", "part"))
    until = time.monotonic() + case.random.uniform(0.02, 1.1) * usual_s
    part = ("run.sqlite-journal",) if moment == "journal" else ("images/**/*.part", "*.part", "*/*.part")
    while started.ended() is None and time.monotonic() < until:
        if moment != "time" and time.monotonic() > until - usual_s and any(any(run.glob(name)) for name in part):
            break
        time.sleep(0.001)
    alive = started.ended() is None
    how(started)
    return alive


def bring_to_its_end(case: Case, name: str, run: Path, before: Stored) -> None:
    """Repeat the command of a run that was stopped; what it leaves is what one makes that nobody stopped."""
    said = Started(case, "run", case.grounds.sweep(name), "-o", run).wait()
    if said.code != 0:
        raise Failed(f"the run did not go on: code {said.code}: {said.err[-1000:]}")
    if look_into(case, run, before).keys() != stored(case.grounds.run(name)).keys():
        raise Failed("it has not the cells of the run that nobody stopped")
    for arguments in (("compare", case.grounds.run(name), run), ("check", run)):
        said = here(case, *arguments)
        if said.code != 0:
            raise Failed(f"{arguments[0]}: code {said.code}: {said.err[-1000:]}{said.out[-500:]}")
    names, usual = (files(folder) for folder in (run, case.grounds.run(name)))
    if names != usual:
        raise Failed(f"its files are not the usual ones: {sorted(names ^ usual)[:5]}")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".run.lock"}
