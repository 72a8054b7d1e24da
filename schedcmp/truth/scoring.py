"""Metrics that a model or a rule reads off finished images: CLIP score, CMMD, adherence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2s
from pathlib import Path
from typing import Any

from PIL import Image

from schedcmp.records import StoredCell
from schedcmp.store.images import opened
from schedcmp.store.store import Store
from schedcmp.truth.adherence import adherence
from schedcmp.truth.clip import Clip, clip_score, cmmd, read_images

Group = tuple[str, int, float, str]


def measure_clip(store: Store, clip: Clip) -> None:
    """CLIP score of each image that has none by this model."""
    if store.meta("clip_model") != clip.origin:
        store.forget("clip")
        store.note("clip_model", clip.origin)
    for stored, image in _without(store, "clip"):
        score = clip_score(clip.images([image]), clip.text(stored.cell.prompt))
        store.measure({stored.cell.id: {"clip": score}})


def measure_adherence(store: Store) -> None:
    """Adherence of each image whose prompt asks for something that can be checked."""
    for stored, image in _without(store, "adherence"):
        score = adherence(image, stored.cell.prompt)
        if score is not None:
            store.measure({stored.cell.id: {"adherence": score}})


def measure_distribution(store: Store, clip: Clip, real: Sequence[Path]) -> None:
    """CMMD of each scheduler's images at each number of steps (guidance and size) from real ones, over all prompts and
    seeds; kept under `distribution` for the table of that name. A group of one image has none."""
    groups: dict[Group, list[StoredCell]] = defaultdict(list)
    for stored in _with_image(store):
        cell, result = stored.cell, stored.result
        groups[cell.scheduler, cell.steps, cell.guidance_scale, f"{result.width}x{result.height}"].append(stored)
    origin = _digest([clip.origin, [_stamp(p) for p in real], [(*g, _hashes(c)) for g, c in groups.items()]])
    if (store.meta("distribution") or {}).get("origin") == origin:
        return
    real_features = clip.images(read_images(real))
    rows = []
    for (scheduler, steps, guidance, size), cells in groups.items():
        row = {"scheduler": scheduler, "steps": steps, "guidance_scale": guidance, "size": size}
        images = (image for _, image in _images(store, cells))
        distance = cmmd(clip.images(images), real_features) if len(cells) > 1 else None
        rows.append({**row, "images": len(cells), "real_images": len(real), "cmmd": distance})
    store.note("distribution", {"origin": origin, "clip_model": clip.origin, "rows": rows})


def _with_image(store: Store) -> list[StoredCell]:
    return [c for c in store.cells() if c.counts and c.image_path]


def _without(store: Store, metric: str) -> Iterator[tuple[StoredCell, Image.Image]]:
    return _images(store, (stored for stored in _with_image(store) if metric not in stored.metrics))


def _images(store: Store, cells: Iterable[StoredCell]) -> Iterator[tuple[StoredCell, Image.Image]]:
    """Opened one by one, so that a large run need not fit into memory."""
    for stored in cells:
        with opened(store.folder, stored.image_path) as image:
            yield stored, image.convert("RGB")


def _hashes(cells: Sequence[StoredCell]) -> list[str | None]:
    return [c.result.image_sha256 for c in cells]


def _stamp(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


def _digest(parts: Any) -> str:
    return blake2s(json.dumps(parts).encode(), digest_size=16).hexdigest()
