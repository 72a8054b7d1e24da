"""How far the images of each scheduler are from real ones, as a whole."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path

import numpy as np

from schedcmp.axes import Setting
from schedcmp.metrics.clip_model import Clip, Features, read_images
from schedcmp.metrics.measuring import images, with_image
from schedcmp.records import StoredCell
from schedcmp.store.store import Store

_BANDWIDTH, _SCALE = 10.0, 1000.0  # Jayasumana et al. 2024


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


def cmmd(made: Features, real: Features) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024, arXiv:2401.09603): 1000 times the unbiased estimate of the
    squared MMD with a Gaussian kernel of σ 10. 0 for two samples of one distribution, give or take chance.

    Needs two images of each at least.
    """
    return _SCALE * (_off_diagonal_mean(made) + _off_diagonal_mean(real) - 2 * float(_kernel(made, real).mean()))


def _kernel(x: Features, y: Features) -> Features:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    kernel: Features = np.exp(-squared / (2 * _BANDWIDTH**2))
    return kernel


def _off_diagonal_mean(x: Features) -> float:
    n = len(x)
    return (float(_kernel(x, x).sum()) - n) / (n * (n - 1))
