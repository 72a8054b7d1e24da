"""A run's folder that somebody made to do harm: links, names, lists, values, tables, pictures, arrays."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2s
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.harm import (
    BAD_NAMES,
    BESIDE,
    COMPUTING,
    CRAFTED_LISTS,
    DAMAGED,
    DAMAGED_BESIDE,
    RUN_FOLDERS,
    contents,
    images,
    make_victim,
    red_pixels,
    sql,
)
from tools.soak.case import Case, Failed
from tools.soak.commands import here
from tools.soak.payloads import Canary

_FILES = ("results.csv", "timings.md", "timings.csv", "timings.json", "report.html", "sweep.yaml", "run.sqlite",
          "run.sqlite-journal", "run.sqlite-wal", ".run.lock", ".written.json")  # fmt: skip
_PLACES = ("../victim/secret.png", "{victim}/secret.png", "images/link.png", "images/linked/secret.png", "/dev/zero",
           "../fifo", "images/fifo", "grids/../../victim/secret.png", "report.html")  # fmt: skip
_TEXTS = ("\x1b]0;pwned\x07", "\x1b[31mred", "=HYPERLINK(1)", "</script><script>alert(1)</script>", "../../x",
          "a" * 100_000, "\u202egnp.exe", "\ud7ff", "CON", "[bold red]", "{{7*7}}", "%s%n", "")  # fmt: skip
_TEXT_COLUMNS = ("scheduler", "base", "sigma_schedule", "prompt_name", "prompt", "negative_prompt", "machine", "error",
                 "image_sha256", "key", "id")  # fmt: skip
_NUMBERS = ("steps", "seed", "guidance_scale", "width", "height", "nfe", "made_width", "made_height", "packed",
            "peak_memory_bytes")  # fmt: skip
_WHERE = ("", " WHERE rowid = 1", " WHERE id IN (SELECT id FROM plan WHERE position = 2)")


def values(random: Random, run: Path) -> None:
    column, value = random.choice(DAMAGED)
    sql(run, f"UPDATE cells SET {column} = ?{random.choice(_WHERE)}", value)


def texts(random: Random, run: Path) -> None:
    with suppress(Exception):  # ids are unique
        sql(run, f"UPDATE cells SET {random.choice(_TEXT_COLUMNS)} = ?{random.choice(_WHERE)}", random.choice(_TEXTS))


def numbers(random: Random, run: Path) -> None:
    value = random.choice((0, -1, 1, 10**6, 2**40, 2**63 - 1, -(2**63), 1e308, 5e-324, 640, 0.5))
    sql(run, f"UPDATE cells SET {random.choice(_NUMBERS)} = ?{random.choice(_WHERE)}", value)


def places(random: Random, run: Path) -> None:
    """An image is said to be elsewhere."""
    victim = run.parent / "victim"
    with suppress(OSError):
        (run / "images/link.png").symlink_to(victim / "secret.png")
        (run / "images/linked").symlink_to(victim)
        os.mkfifo(run.parent / "fifo")
        os.mkfifo(run / "images/fifo")
    place = random.choice((*_PLACES, *BAD_NAMES))
    place = place.format(victim=victim) if isinstance(place, str) else place
    sql(run, f"UPDATE cells SET image_path = ?, made_width = 640, made_height = 640{random.choice(_WHERE)}", place)
    if random.random() < 0.5:
        sha = random.choice(("../../victim/written", "/tmp/written", "..", "a/../../b", "\0", 5, b"\xff"))
        sql(run, "UPDATE cells SET image_sha256 = ?", sha)


def meta(random: Random, run: Path) -> None:
    name = random.choice((*BESIDE, "sweep", "name", "nothing"))
    value = random.choice((*DAMAGED_BESIDE, "null", '"text"', '[["a", 1]]', '{"grid": {"rows": ["x"]}, "name": "../x"}',
                           json.dumps("name: ../../x\ngrid: {rows: [nothing], cols: [], page: []}"),
                           json.dumps("!!python/object/apply:os.system [touch x]"),
                           json.dumps("a: &a [*a]")))  # fmt: skip
    sql(run, "INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)


def linked_folder(random: Random, run: Path) -> None:
    name = random.choice(RUN_FOLDERS)
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(random.choice((run.parent / "victim", Path("../victim"), Path(), Path("/proc/self"))))


def linked_file(random: Random, run: Path) -> None:
    path = run / random.choice(_FILES)
    path.unlink(missing_ok=True)
    if random.random() < 0.3:
        os.mkfifo(path)
    else:
        path.symlink_to(random.choice((run.parent / "victim/notes.txt", Path("../new"), Path("/dev/zero"), Path())))


def lists(random: Random, run: Path) -> None:
    digest = blake2s(b"mine", digest_size=16).hexdigest()
    folder = run / random.choice(RUN_FOLDERS)
    text = random.choice((*map(json.dumps, CRAFTED_LISTS), "[" * 200_000, '{"a": ', "\x00"))
    with suppress(FileNotFoundError):
        (folder / ".written.json").write_text(text.replace("{digest}", digest))


def tables(random: Random, run: Path) -> None:
    statement = random.choice((
        *COMPUTING, f"PRAGMA user_version = {random.choice((-1, 0, 1, 2, 4, 2**31 - 1))}", "DROP TABLE plan",
        "DROP TABLE meta", "DROP TABLE files", "DROP TABLE fingerprints", "DROP TABLE metrics", "DELETE FROM plan",
        "ALTER TABLE cells ADD COLUMN more", "ALTER TABLE plan DROP COLUMN nfe_budget", "DELETE FROM cells",
        "UPDATE fingerprints SET pixels = 'text'", "UPDATE metrics SET value = 9e999", "UPDATE plan SET position = 0",
        "UPDATE metrics SET name = '../../x'", "UPDATE files SET name = '../victim/' || name", "CREATE TABLE t (a)",
        "UPDATE cells SET id = '../victim/id' WHERE rowid = 1", "ALTER TABLE cells RENAME TO celle",
    ))  # fmt: skip
    with suppress(Exception):  # some sqlite builds lack one or the other
        sql(run, statement)


def pictures(random: Random, run: Path) -> None:
    path = random.choice(images(run))
    data = BytesIO()
    kind = random.choice(("EPS", "GIF", "TIFF", "bomb", "link", "texts"))
    if kind == "bomb":
        side = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + side
        data.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    elif kind == "texts":
        body = b"zTXt" + b"schedcmp\0\0" + zlib.compress(b"[" * 10**7)
        png = path.read_bytes()
        data.write(png[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + png[33:])
    elif kind == "link":
        path.unlink()
        return path.symlink_to(run.parent / "victim/secret.png")
    else:
        Image.new("RGB", (16, 16)).save(data, kind)
    path.write_bytes(data.getvalue())
    return None


def arrays(random: Random, run: Path) -> None:
    """Latents that would run code, or be endless."""
    data = BytesIO()
    if random.random() < 0.5:
        np.save(data, np.array([Canary(run.parent / "victim/canary")], dtype=object), allow_pickle=True)
    else:
        shape = random.choice(((2**40,), (1, 4, 0, 8), (10**6, 10**6), (1, 4, 8, 9)))
        np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for path in (run / "latents").glob("*"):
        path.write_bytes(random.choice((data.getvalue(), pickle.dumps(Canary(run.parent / "victim/canary")))))


DEEDS: tuple[Callable[[Random, Path], Any], ...] = (
    values, texts, numbers, places, places, meta, linked_folder, linked_file, lists, tables, pictures, arrays,
)  # fmt: skip


def attack(case: Case) -> None:
    run, victim = case.copy("small"), make_victim(case.folder / "victim")
    deeds = case.random.choices(DEEDS, k=case.random.choice((1, 1, 2, 3)))
    for deed in sorted(deeds, key=lambda one: one is linked_file):  # else this process follows a journal's link
        with suppress(sqlite3.Error, OSError, IndexError):  # an earlier deed took away what this one changes
            case.say(deed.__name__)
            deed(case.random, run)
    before, there = contents(victim), _names(case)
    commands: list[tuple[object, ...]] = [
        ("report", run), ("recommend", run), ("compare", case.grounds.run("small"), run), ("check", run),
        ("check", run, "--repair"), ("run", case.sweep, "-o", run), ("run", case.sweep, "-o", run, "--fresh"),
    ]  # fmt: skip
    chosen = case.random.sample(commands, k=3)
    for command in chosen:
        here(case, *command)
        if contents(victim) != before:
            raise Failed("outside: somebody's files were changed")
        if found := _names(case) - there:
            raise Failed(f"outside: {sorted(found)} was written")
        if red_pixels(run) if not (run / "grids").is_symlink() else 0:
            raise Failed("outside: somebody's picture was read")


def _names(case: Case) -> set[str]:
    return {path.name for path in case.folder.iterdir()}
