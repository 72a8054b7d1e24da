"""Ways to damage a run's folder or to craft one, for the tests and for `tools.soak`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

RUN_FOLDERS = ("images", "references", "latents", "grids", "plots", "thumbs")
RED = Image.new("RGB", (640, 640), "#ff0000")

# Columns of `cells`, and values that no run has written
DAMAGED = [
    ("timings", "[]]"), ("timings", "[{}]"), ("timings", None), ("timings", b"\xff"), ("timings", "[" * 10**5),
    ("scheduler_config", None), ("scheduler_config", 5), ("timesteps", 5), ("timesteps", '["x"]'),
    ("made_width", "x"), ("nfe", "x"), ("error", 5), ("image_path", b"images/a"), ("image_path", "images/\0.png"),
    ("image_path", "../../etc/passwd"), ("scheduler", b"\xff"), ("guidance_scale", "x"), ("guidance_scale", 9e999),
    ("prompt", None), ("status", "good"), ("packed", 7), ("steps", 2.5),
    ("prompt", "\ud800".encode("utf-8", "surrogatepass")),
]  # fmt: skip
# What `meta` keeps beside the cells, and values that no run has written
BESIDE = ("environment", "warnings", "trajectories", "references", "throughput", "distribution", "machines")
DAMAGED_BESIDE = ["{", "5", b"\xff\xfe", "[1]", '{"a": 1}', "[[]]", "{" * 10**5]
# Names that are none of a run's files
BAD_NAMES = ["", ".", "..", "../a", "/etc/passwd", "images", "images/../../a", "images/.a", "a\0b", "images/a\0b",
             "notes.txt", "images/C:x", "images\\a", 5, None, b"images/a.png", "images/a\nb.png"]  # fmt: skip
# Lists of written files, as in `.written.json`; {digest} is that of the file named
CRAFTED_LISTS = [
    {"../../victim/notes.txt": "{digest}", "/etc/passwd": "{digest}", "my.svg": "other", "..": ""},
    {"my.svg": ["other", ""], "../report.html": ["{digest}", ""], "a/../my.svg": ["{digest}", ""]},
    [], "text", {"my.svg": None}, {"my.svg": []}, {"my.svg": [1, 2, 3]}, {"\0": ["{digest}"]},
]  # fmt: skip
COMPUTING = [
    "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    "CREATE TRIGGER more AFTER INSERT ON meta BEGIN DELETE FROM cells; END",
    "CREATE VIRTUAL TABLE more USING fts5(a)",
]


def images(out: Path) -> list[Path]:
    return sorted((out / "images").rglob("*.png"))


def zeroed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-400:-200] = bytes(200)
    path.write_bytes(data)


def swapped(path: Path) -> None:
    other = next(p for p in images(path.parents[3]) if p.read_bytes() != path.read_bytes())
    shutil.copy2(other, path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 121
    path.write_bytes(data)


def sql(out: Path, statement: str, *values: object) -> None:
    """Change a run's database, past its checks."""
    with closing(sqlite3.connect(out / "run.sqlite")) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, values)


def make_victim(folder: Path) -> Path:
    """Somebody's folder beside a run, whose picture is all red."""
    folder.mkdir()
    RED.save(folder / "secret.png")
    for name in ("grid.png", "pareto.svg", "mine.webp", "notes.txt", "id.npy"):
        (folder / name).write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def red_pixels(folder: Path) -> int:
    """How many pixels of the grids and small pictures of a run are a victim's."""
    found = 0
    for path in [*folder.glob("grids/*.png"), *folder.glob("thumbs/*.webp")]:
        with suppress(UnidentifiedImageError), Image.open(path) as image:  # a victim's own file is none
            found += (np.asarray(image.convert("RGB")) == (255, 0, 0)).all(-1).sum()
    return found
