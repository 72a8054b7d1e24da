"""Whether a run's folder still holds what was written into it: `schedcmp check DIR`.

A cell that does not is one to be made again: `repair` forgets it, and the next run makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from schedcmp.files import from_json, to_json
from schedcmp.pictures.image import fingerprint, pixels_sha256
from schedcmp.pictures.video import frames_of, settings_in
from schedcmp.records import StoredCell
from schedcmp.store.folder import DATABASE, is_there
from schedcmp.store.images import opened
from schedcmp.store.rows import PER_PLAN
from schedcmp.store.schema import UNREADABLE
from schedcmp.store.seals import broken, seal
from schedcmp.store.stamps import latents_name
from schedcmp.store.store import Store

# By what is forgotten of a table; the plan is not, since a run writes it in any case
_KEYS = {"cells": "id", "metrics": "id", "meta": "name"}


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not what was written."""

    where: str  # a file, relative to the run's folder
    why: str
    cell: str | None = None  # the id of the cell that has to be made again


def damages(store: Store) -> Iterator[Damage]:
    """All that is not what was written, of all plans that the folder has seen."""
    prints = store.fingerprints()
    with store.database.reading() as database:
        unsealed = set(broken(database)) if store.database.has("seals") else set()
    for id_, stored, why in _every_cell(store):
        unsealed_too = ("cells", id_) in unsealed
        unsealed.discard(("cells", id_))
        if stored is None:
            yield Damage(DATABASE, f"the cell {id_}: {why}", id_)
        elif unsealed_too:
            yield Damage(DATABASE, f"the cell {id_}: its row is not what was stored", id_)
        elif stored.result.status in ("ok", "flagged"):
            yield from _of_cell(store, stored, prints.get(id_))
    for table, *key in sorted(unsealed):
        yield Damage(DATABASE, f"{' '.join([table, *key])}: is gone or not what was stored; a run writes it again")
    for table, count in _unreadable_rows(store).items():
        yield Damage(DATABASE, f"{count} rows of the table {table} cannot be read")
    if not (store.folder / "sweep.yaml").is_file():
        yield Damage("sweep.yaml", "is missing")


def _every_cell(store: Store) -> Iterator[tuple[str, StoredCell | None, str]]:
    """Id, cell and why it cannot be read, of all plans."""
    with store.database.reading() as database:
        for row in database.execute("SELECT * FROM cells"):
            stored = store.database.cell(row)
            yield row["id"], stored, "" if stored else store.database.unreadable[f"the cell {row['id']}"]


def _unreadable_rows(store: Store) -> dict[str, int]:
    """How many rows of which tables beside `cells` no run has written."""
    with store.database.reading() as database:
        names = [row[0] for row in database.execute("SELECT name FROM meta")]
        counts = {
            table: int(database.execute(f"SELECT count(*) FROM {table} WHERE {wrong}").fetchone()[0])
            for table, wrong in UNREADABLE.items()
            if store.database.has(table)
        }
    for name in names:
        store.meta(name)
    counts["meta"] = len([name for name in names if name in store.database.unreadable])
    return {table: count for table, count in counts.items() if count}


def _of_cell(store: Store, stored: StoredCell, kept: bytes | None) -> Iterator[Damage]:
    id_, image = stored.cell.id, stored.image_path
    why = _of_image(store, stored, kept) if image else "is not named in the database"
    if why:
        yield Damage(image or DATABASE, why, id_)
    latents = latents_name(id_)
    if store.files.is_known(latents) and not store.files.is_intact(latents, thorough=True):
        yield Damage(latents, "is damaged" if is_there(store.folder, latents) else "is missing", id_)


def _of_image(store: Store, stored: StoredCell, kept: bytes | None) -> str | None:
    """What is wrong with a cell's image, or None."""
    result = stored.result
    try:
        with opened(store.folder, stored.image_path) as image:
            told, frames = settings_in(image), frames_of(image)
            same = pixels_sha256(*frames) == result.image_sha256
            printed = kept in (None, fingerprint(*frames))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"is damaged ({error.strerror or error})"
    other = _other(told, stored)
    if not same:
        return f"has other pixels than were stored{f': {other}' if other else ''}"
    if other:
        return other
    if not printed:
        return "is not what the database keeps a fingerprint of"
    intact = store.files.is_intact(str(stored.image_path), result.image_sha256, thorough=True)
    return None if intact else "is not the file that was stored, though its pixels are the same"


def _other(told: str | None, stored: StoredCell) -> str | None:
    """What an image says of itself that the database does not say of its cell, or None."""
    try:
        settings = from_json(told) if told else {}
        cell = settings.get("cell", {})
        if cell.get("id", stored.cell.id) != stored.cell.id:
            return f"is another cell's, {cell['scheduler']} at {cell['steps']} steps, seed {cell['seed']}"
        said = {**cell, **{name: settings.get(name) for name in ("nfe", "timesteps", "scheduler_config") if settings}}
    except (ValueError, AttributeError, KeyError, TypeError):
        return "has settings that cannot be read"
    result = stored.result
    facts = asdict(stored.cell) | {name: getattr(result, name) for name in ("nfe", "timesteps", "scheduler_config")}
    known = json.loads(to_json(facts))
    wrong = [name for name, value in said.items() if name not in PER_PLAN and known.get(name) != value]
    return f"was made with another {wrong[0]} than the database says" if wrong else None


def repaired(store: Store, found: Iterable[Damage]) -> int:
    """Forget the cells that are damaged, so that the next run makes them; returns how many."""
    ids = {one.cell for one in found if one.cell}
    _drop(store, ids)
    if not (store.folder / "sweep.yaml").is_file() and store.meta("sweep"):
        store.write_text("sweep.yaml", store.meta("sweep"))
    return len(ids)


def _drop(store: Store, ids: Iterable[str]) -> None:
    """Forget these cells, and all rows that no run has written."""
    dropped = [(id_,) for id_ in ids]
    with store.database.writing() as database:
        for table in ("cells", "metrics", "fingerprints", "features"):
            database.executemany(f"DELETE FROM {table} WHERE id IS ?", dropped)
        database.executemany("DELETE FROM files WHERE name = ?", ((latents_name(id_),) for (id_,) in dropped))
        for table, wrong in {**UNREADABLE, "cells": "typeof(id) != 'text'"}.items():  # SQLite's keys may be nothing
            database.execute(f"DELETE FROM {table} WHERE {wrong}")
        database.executemany("DELETE FROM meta WHERE name = ?", ((name,) for name in store.database.unreadable))
        for table, *key in broken(database):
            if table in _KEYS:
                database.execute(f"DELETE FROM {table} WHERE {_KEYS[table]} = ?", key[:1])
        for table, *key in broken(database):
            if table in _KEYS:
                seal(database, table, [key])
