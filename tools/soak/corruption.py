"""Bytes of a finished run rot: that is told in a message or has no effect, `check --repair` and a run mend it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from tests.harm import empty, flipped, images, swapped, zeroed
from tools.soak.case import Case, Failed
from tools.soak.commands import here

_PAGE = 4096


def flips(random: Random, run: Path) -> None:
    path = run / "run.sqlite"
    flipped(path, *(random.randrange(path.stat().st_size) for _ in range(random.choice((1, 1, 2, 3, 20)))))


def one_bit(random: Random, run: Path) -> None:
    path = run / "run.sqlite"
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def torn(random: Random, run: Path) -> None:
    path = run / "run.sqlite"
    data = path.read_bytes()
    path.write_bytes(data[: random.choice((0, 1, 15, 99, 100, len(data) - 1, random.randrange(len(data))))])


def pages(random: Random, run: Path) -> None:
    """A page is lost, or another one is in its place."""
    path = run / "run.sqlite"
    data = bytearray(path.read_bytes())
    to, source = (random.randrange(len(data) // _PAGE) * _PAGE for _ in range(2))
    data[to : to + _PAGE] = random.choice((bytes(_PAGE), data[source : source + _PAGE]))
    path.write_bytes(data)


def journals(random: Random, run: Path) -> None:
    """Something that is none lies where a journal may be."""
    name = random.choice(("run.sqlite-journal", "run.sqlite-wal", "run.sqlite-shm"))
    (run / name).write_bytes(random.choice((b"", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", b"")) + random.randbytes(600))


def an_image(random: Random, run: Path) -> None:
    harm: Callable[[Path], Any] = random.choice((zeroed, swapped, empty, Path.unlink))
    harm(random.choice(images(run)))


def other_files(random: Random, run: Path) -> None:
    """Any file but the database is cut or flipped."""
    path = random.choice(sorted(p for p in run.rglob("*") if p.is_file() and p.name != "run.sqlite"))
    data = bytearray(path.read_bytes())
    if data and random.random() < 0.7:
        data[random.randrange(len(data))] ^= random.randrange(1, 256)
    else:
        data = data[: random.randrange(len(data) + 1)]
    path.write_bytes(data)


HARMS = (flips, flips, one_bit, one_bit, one_bit, torn, pages, journals, an_image, other_files)


def attack(case: Case) -> None:
    run = case.copy("small")
    harm = case.random.choice(HARMS)
    harm(case.random, run)
    case.say(harm.__name__)
    reads = [("recommend", run), ("compare", case.grounds.run("small"), run)]
    if case.random.random() < 0.05:
        reads.append(("report", run))
    for command in reads:
        here(case, *command)
    said = here(case, "check", run)
    told = said.code != 0 or "warning" in said.err
    case.seen["told" if told else "not told"] += 1
    if not told:
        _same(case, run)
    if case.random.random() < (0.15 if told else 0.02):
        _mend(case, run, told)


def _mend(case: Case, run: Path, told: bool) -> None:
    """As the messages say: repair, run again. Nothing is damaged after that, and the images are those that were."""
    if said := here(case, "check", run, "--repair"):
        case.seen["repaired" if said.code == 0 else "not repaired"] += 1
    if said.code != 0:  # such as a header that says that a newer schedcmp has written it
        return
    said = here(case, "run", case.sweep, "-o", run)
    if said.code != 0:
        raise Failed(f"the run did not go on after --repair: code {said.code}: {said.err[-1000:]}")
    for command in (("check", run), ("compare", case.grounds.run("small"), run)):
        said = here(case, *command)
        if said.code != 0:
            raise Failed(f"{command[0]} after repair and run: code {said.code}: {said.err[-1000:]}{said.out[-500:]}")


def _same(case: Case, run: Path) -> None:
    """Nothing was told: what is read is what was written."""
    shutil.copytree(run, case.folder / "read")
    one, other = {*_facts(case.grounds.run("small"))}, {*_facts(case.folder / "read")}
    if gone := one ^ other:
        columns = sorted({f"{table}.{column}" for table, _, column, _ in gone})
        raise Failed(f"silent change of {columns}: {sorted(gone, key=repr)[:4]!r:.600}")


def _facts(run: Path) -> Iterator[tuple[str, object, str, object]]:
    """Cells, the plan, metrics and what is kept beside them, value by value."""
    with closing(sqlite3.connect(run / "run.sqlite")) as database:
        database.row_factory = sqlite3.Row
        for table in ("cells", "plan", "metrics", "meta"):
            for row in database.execute(f"SELECT * FROM {table}"):
                for column in row.keys():  # noqa: SIM118
                    yield table, row[0], column, row[column]
