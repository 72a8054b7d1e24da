"""How far the images of each scheduler are from real ones, as a whole."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path

from schedcmp.axes import Setting
from schedcmp.metrics.clip_model import Clip, read_images
from schedcmp.metrics.cmmd import cmmd
from schedcmp.metrics.measuring import images, with_image
from schedcmp.records import StoredCell
from schedcmp.store.store import Store


def measure_distribution(store: Store, clip: Clip, real: Sequence[Path]) -> None:
    """CMMD of each scheduler's images at each number of steps, in each setting, from real ones, over all prompts and
    seeds; kept under `distribution` for the table of that name. A group of one image has none."""
    groups: dict[tuple[str, int, Setting], list[StoredCell]] = defaultdict(list)
    for stored in with_image(store):
        groups[stored.cell.scheduler, stored.cell.steps, stored.setting].append(stored)
    hashes = [(*group, [c.result.image_sha256 for c in cells]) for group, cells in groups.items()]
    seen = json.dumps([clip.origin, [_stamp(path) for path in real], hashes])
    origin = blake2s(seen.encode(), digest_size=16).hexdigest()
    if (store.meta("distribution") or {}).get("origin") == origin:
        return
    real_features = clip.images(read_images(real))
    rows = []
    for (scheduler, steps, setting), cells in groups.items():
        row = {"scheduler": scheduler, "steps": steps, **setting.columns()}
        made = (image for _, image in images(store, cells))
        distance = cmmd(clip.images(made), real_features) if len(cells) > 1 else None
        rows.append({**row, "images": len(cells), "real_images": len(real), "cmmd": distance})
    store.note("distribution", {"origin": origin, "clip_model": clip.origin, "rows": rows})


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
