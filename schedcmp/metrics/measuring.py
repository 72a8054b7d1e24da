"""Taking metrics of what a run's store has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from PIL import Image

from schedcmp.errors import one_line
from schedcmp.guard.foreign import contained
from schedcmp.metrics.metric import Comparison, Metric
from schedcmp.readings import NOTE, noted
from schedcmp.records import Reference, StoredCell, Task
from schedcmp.store.images import read_frames
from schedcmp.store.reading import Results
from schedcmp.store.store import Store

ORIGINS = "metric_origins"
COMPARED = "compared_with"  # metric → cell id → the origin of the converged image
_MOST_S = 600.0  # of one measurement


def measure(store: Store, metrics: Sequence[Metric]) -> list[str]:
    """Take each metric of each image that has none of its origin; every image is opened once.

    Returns sentences on metrics that failed.
    """
    broken: dict[str, str] = {}
    before = store.meta(ORIGINS) or {}
    converged = {task: r for task, r in store.references().items() if r.image}
    origins = {m.column: m.origin for m in metrics}
    for name in (name for name, origin in origins.items() if before.get(name, "") != origin):
        store.forget(name)
    store.note(ORIGINS, before | origins)
    _forget_others(store, [m.column for m in metrics if isinstance(m, Comparison)], converged)
    store.note(NOTE, noted(metric.reading for metric in metrics))
    for stored in with_image(store):
        missing = [m for m in metrics if m.column not in stored.metrics and m.column not in broken]
        if missing:
            with suppress(OSError):  # a damaged image has none
                frames = _frames(store, stored.image_path)
                other = _converged(store, stored, converged, missing)
                store.measure({stored.cell.id: dict(_values(missing, frames, stored.cell.prompt, other, broken))})
    return [f"the metric {name} failed, and its values are missing: {error}" for name, error in broken.items()]


def _forget_others(store: Store, comparisons: Sequence[str], references: Mapping[Task, Reference]) -> None:
    """Forget what was compared with another image than the one that is now a cell's converged one."""
    if not comparisons:
        return
    cells, before = with_image(store), store.meta(COMPARED) or {}
    now = {c.cell.id: references[c.cell.task].origin for c in cells if c.cell.task in references}
    for name in comparisons:
        known = before.get(name, {})
        there = (c.cell.id for c in cells if name in c.metrics)
        store.forget(name, [id_ for id_ in there if known.get(id_) != now.get(id_)])
    store.note(COMPARED, before | {name: before.get(name, {}) | now for name in comparisons})


def _converged(
    store: Store, stored: StoredCell, references: Mapping[Task, Reference], metrics: Iterable[Metric]
) -> list[Image.Image] | None:
    """The converged image's frames, if the cell heads for it and somebody wants to compare them. Raises OSError."""
    reference = references.get(stored.cell.task)
    wanted = "reference_rmse" in stored.metrics and any(isinstance(metric, Comparison) for metric in metrics)
    if reference is None or not wanted:
        return None
    return _frames(store, reference.image)


def _frames(store: Store, name: str | None) -> list[Image.Image]:
    return [frame.convert("RGB") for frame in read_frames(store.folder, name)]


def _values(
    metrics: Iterable[Metric],
    frames: Sequence[Image.Image],
    prompt: str,
    converged: Sequence[Image.Image] | None,
    broken: dict[str, str],
) -> Iterator[tuple[str, float]]:
    for metric in metrics:
        try:
            with contained(_MOST_S):
                if isinstance(metric, Comparison):
                    value = metric.compare_frames(frames, converged) if converged else None
                else:
                    value = metric.measure_frames(frames, prompt)
        except Exception as error:  # somebody's code
            broken.setdefault(metric.column, one_line(error))
            continue
        if value is not None and math.isfinite(value):
            yield metric.column, float(value)


def with_image(store: Results) -> list[StoredCell]:
    """The cells that count."""
    return [c for c in store.cells() if c.counts and c.image_path]


def images(store: Store, cells: Iterable[StoredCell]) -> Iterator[tuple[StoredCell, Image.Image]]:
    """Opened one by one, so that a large run need not fit into memory; of a video the frame in the middle. Raises
    OSError."""
    for stored in cells:
        frames = read_frames(store.folder, stored.image_path)
        yield stored, frames[len(frames) // 2].convert("RGB")
