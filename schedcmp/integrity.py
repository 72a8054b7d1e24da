"""Whether a run's folder still holds what was written into it: `schedcmp check DIR`.

A cell that does not is one to be made again: `repair` forgets it, and the next run makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from schedcmp.files import to_json
from schedcmp.folder import DATABASE
from schedcmp.image import fingerprint, opened, pixels_sha256
from schedcmp.records import StoredCell
from schedcmp.rows import PER_PLAN
from schedcmp.stamps import latents_name
from schedcmp.store import Store


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not what was written."""

    where: str  # a file, relative to the run's folder
    why: str
    cell: str | None = None  # the id of the cell that has to be made again


def damages(store: Store) -> Iterator[Damage]:
    """All that is not what was written, of all plans that the folder has seen."""
    prints = store.fingerprints()
    for id_, stored, why in store.every_cell():
        if stored is None:
            yield Damage(DATABASE, f"the cell {id_}: {why}", id_)
        elif stored.result.status in ("ok", "flagged"):
            yield from _of_cell(store, stored, prints.get(id_))
    for table, count in store.unreadable_rows().items():
        yield Damage(DATABASE, f"{count} rows of the table {table} cannot be read")
    if not (store.folder / "sweep.yaml").is_file():
        yield Damage("sweep.yaml", "is missing")


def _of_cell(store: Store, stored: StoredCell, kept: bytes | None) -> Iterator[Damage]:
    id_, image = stored.cell.id, stored.image_path
    why = _of_image(store, stored, kept) if image else "is not named in the database"
    if why:
        yield Damage(image or DATABASE, why, id_)
    latents = latents_name(id_)
    if store.files.is_known(latents) and not store.files.is_intact(latents, thorough=True):
        yield Damage(latents, "is missing" if not (store.folder / latents).exists() else "is damaged", id_)


def _of_image(store: Store, stored: StoredCell, kept: bytes | None) -> str | None:
    """What is wrong with a cell's image, or None."""
    result = stored.result
    try:
        with opened(store.folder, stored.image_path) as image:
            told = image.info.get("schedcmp")
            same = pixels_sha256(image) == result.image_sha256
            printed = kept in (None, fingerprint(image))
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
        settings = json.loads(told) if told else {}
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
    store.drop(ids)
    if not (store.folder / "sweep.yaml").is_file() and store.meta("sweep"):
        store.write_text("sweep.yaml", store.meta("sweep"))
    return len(ids)
