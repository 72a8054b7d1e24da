"""How far images of a changed checkpoint (quantised, with a step cache) are from those of the plain one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schedcmp.metrics.measuring import with_image
from schedcmp.pictures.image import difference
from schedcmp.readings import NOTE, Reading, noted
from schedcmp.store.images import read_frames
from schedcmp.store.reading import Results
from schedcmp.store.store import Store

PLAIN = Reading(
    "plain_rmse", "RMSE to the plain checkpoint's image", "RMSE to plain", False, unit="levels of 255", decides=False
)
_SEEN = "plain"  # what of the store's was measured: cell id → the pixels of both


def measure_plain(plain: Path, store: Store) -> None:
    """Compare each image with that of the same cell in another run, pixel by pixel."""
    with Results.open(plain) as run:
        others = {stored.cell.id: stored for stored in with_image(run)}
    before, seen, found = store.meta(_SEEN) or {}, {}, {}
    for stored in with_image(store):
        if other := others.get(stored.cell.id):
            id_ = stored.cell.id
            seen[id_] = [stored.result.image_sha256, other.result.image_sha256]
            if before.get(id_) != seen[id_] or PLAIN.name not in stored.metrics:
                found[id_] = dict(_apart((plain, other.image_path), (store.folder, stored.image_path)))
    store.measure(found, instead_of=[PLAIN.name])
    store.note(_SEEN, seen)
    store.note(NOTE, [*(store.meta(NOTE) or ()), *noted([PLAIN])])


def _apart(*images: tuple[Path, str | None]) -> Iterator[tuple[str, float]]:
    """Nothing where one cannot be read, or they are of other sizes."""
    with suppress(OSError):
        if found := difference(*(read_frames(*image) for image in images)):
            yield PLAIN.name, found[0]
