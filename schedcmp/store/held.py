"""The images that a folder has, so that new ones go where none of those are."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schedcmp.axes import FOLDERS
from schedcmp.store.database import Database
from schedcmp.store.folder import is_of_a_run


@dataclass(frozen=True, slots=True)
class Held:
    """The images that a folder has, of whatever plans."""

    paths: Mapping[str, str]  # cell id → its own image's
    owners: Mapping[str, str]  # the reverse, by their paths without the ends
    values: Mapping[str, AbstractSet[object]]  # an axis of the sweep → what there are images of


def held(database: Database) -> Held:
    """The images of all plans' cells. A place that two of them claim is nobody's own."""
    columns = ", ".join(name for axis in FOLDERS for name in axis.fields)
    query = f"SELECT id, image_path, {columns} FROM cells WHERE image_path IS NOT NULL"
    paths: dict[str, str] = {}
    owners: dict[str, str] = {}
    values: dict[str, set[object]] = {axis.name: set() for axis in FOLDERS}
    with database.reading() as connection:
        for row in connection.execute(query):
            id_, path = row["id"], row["image_path"]
            if not isinstance(path, str) or not is_of_a_run(path):
                continue
            paths[id_], place = path, without_end(path)
            owners[place] = "" if place in owners else id_
            for axis in FOLDERS:
                values[axis.name].add(tuple("" if row[name] is None else row[name] for name in axis.fields))
    return Held({i: path for i, path in paths.items() if owners[without_end(path)]}, owners, values)


def without_end(path: str) -> str:
    """An image's path without what says that it is an image or a video."""
    return path.rpartition(".")[0]
