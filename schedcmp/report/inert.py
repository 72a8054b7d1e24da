"""Cells whose settings differ and whose images do not: an option that changed nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schedcmp.image import fingerprint
from schedcmp.records import StoredCell, Task
from schedcmp.report.tiles import open_picture

_LEVELS = 1  # of 255: what packing's other order of sums may change in a pixel


class _Different:
    """The cells of a task whose images differ, with what is compared first: their fingerprints, (n, d)."""

    def __init__(self) -> None:
        self.cells: list[StoredCell] = []
        self._prints = np.empty((16, 0), np.int16)

    def like(self, pixels: npt.NDArray[np.int16]) -> list[StoredCell]:
        """Those that may have the same image."""
        if self._prints.shape[1] != len(pixels):
            return []
        apart = np.abs(self._prints[: len(self.cells)] - pixels).max(axis=1)
        return [self.cells[i] for i in np.flatnonzero(apart <= _LEVELS)]

    def add(self, stored: StoredCell, pixels: npt.NDArray[np.int16]) -> None:
        if not self.cells:
            self._prints = np.empty((16, len(pixels)), np.int16)
        if len(self.cells) == len(self._prints):
            self._prints = np.concatenate([self._prints, np.empty_like(self._prints)])
        self._prints[len(self.cells)] = pixels
        self.cells.append(stored)


def inert(cells: Iterable[StoredCell], folder: Path, prints: Mapping[str, bytes]) -> Mapping[str, str]:
    """By cell id: the earlier cell of the same task (prompt, guidance, size, seed) whose image it repeats.

    Flagged images are all alike and say nothing of settings.

    Args:
        prints: the images' fingerprints, as far as the store has them; the other images are opened.
    """
    tasks: dict[Task, _Different] = defaultdict(_Different)
    found = {}
    for stored in cells:
        pixels = _print(stored, folder, prints) if stored.counts else None
        if pixels is None:
            continue
        known = tasks[stored.cell.task]
        first = next((c for c in known.like(pixels) if _same_image(c, stored, folder)), None)
        if first is None:
            known.add(stored, pixels)
        else:
            found[stored.cell.id] = f"same image as {first.cell.scheduler} at {first.cell.steps} steps"
    return found


def _print(stored: StoredCell, folder: Path, prints: Mapping[str, bytes]) -> npt.NDArray[np.int16] | None:
    kept = prints.get(stored.cell.id)
    if kept is None:
        try:
            kept = fingerprint(open_picture(folder / stored.image_path)) if stored.image_path else None
        except (OSError, SyntaxError, ValueError):
            return None
    return None if kept is None else np.frombuffer(kept, np.uint8).astype(np.int16)


def _same_image(one: StoredCell, other: StoredCell, folder: Path) -> bool:
    if one.result.image_sha256 == other.result.image_sha256:
        return True
    try:
        a, b = (np.asarray(open_picture(folder / str(c.image_path)), np.int16) for c in (one, other))
    except (OSError, SyntaxError, ValueError):
        return False
    return a.shape == b.shape and bool(np.abs(a - b).max() <= _LEVELS)
