"""The images that a folder has, so that new ones go where none of those are."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schedcmp.store.database import Database
from schedcmp.store.folder import is_of_a_run


@dataclass(frozen=True, slots=True)
class Held:
    """The images that a folder has, of whatever plans."""

    paths: Mapping[str, str]  # cell id → its own image's
    owners: Mapping[str, str]  # the reverse
    values: Mapping[str, AbstractSet[object]]  # an axis of the sweep → what there are images of


def held(database: Database) -> Held:
    """The images of all plans' cells. A place that two of them claim is nobody's own."""
    query = (
        "SELECT id, image_path, prompt, negative_prompt, guidance_scale, width, height, call "
        "FROM cells WHERE image_path IS NOT NULL"
    )
    paths: dict[str, str] = {}
    owners: dict[str, str] = {}
    prompts, negatives, guidances, sizes, calls = set(), set(), set(), set(), set()
    with database.reading() as connection:
        for id_, path, prompt, negative, guidance, width, height, call in connection.execute(query):
            if not isinstance(path, str) or not is_of_a_run(path):
                continue
            paths[id_] = path
            owners[path] = "" if path in owners else id_
            prompts.add(prompt)
            negatives.add(negative)
            guidances.add(guidance)
            sizes.add((width, height))
            calls.add(call or "")
    values = {"prompt": prompts, "negative_prompt": negatives, "guidance_scale": guidances, "size": sizes}
    values["call"] = calls
    return Held({i: path for i, path in paths.items() if owners[path]}, owners, values)
