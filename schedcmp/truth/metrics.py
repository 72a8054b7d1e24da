"""What can be measured of finished images from the run's folder alone: their distance to the converged image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from schedcmp.records import Cell, Reference, StoredCell, Task
from schedcmp.store.stamps import latents_name
from schedcmp.store.store import Store
from schedcmp.truth.reference import References

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    Latents = npt.NDArray[np.float32]

REFERENCE_METRICS = ("reference_rmse", "reference_psnr_db", "reference_ssim")
Pair = tuple[Cell, Cell]  # the reference, and the one that says how uncertain it is
RESOLVED = 2  # a distance below twice the uncertainty is as much the reference's as the cell's
ANOTHER_IMAGE = 0.1  # two solvers that end a tenth of the latents' spread apart have not converged


def unmeasured(cells: Iterable[Cell], references: References, keys: Mapping[str, str], store: Store) -> list[Cell]:
    """The cells that are comparable and not yet compared with these very references."""
    origins = {pair[0].task: _origin(pair, keys) for pair in references.pairs}
    current = {task for task, reference in store.references().items() if reference.origin == origins.get(task)}
    metrics = store.metrics()

    def measured(cell: Cell) -> bool:
        return cell.task in current and "reference_rmse" in metrics.get(cell.id, {})

    return [c for c in cells if c.scheduler in references.comparable and not measured(c)]


def measure_references(
    cells: Sequence[Cell], references: References, keys: Mapping[str, str], store: Store
) -> list[Reference]:
    """Compare each cell with its task's reference, where it has not been; returns all references.

    A reference that is too uncertain to tell its task's cells apart is withheld: its cells get no values.
    """
    new, before = unmeasured(cells, references, keys, store), store.references()
    new_ids = {c.id for c in new}
    origins = {pair[0].task: _origin(pair, keys) for pair in references.pairs}
    stale = {task for task, origin in origins.items() if task not in before or before[task].origin != origin}
    tasks = stale | {c.task for c in new}
    stored: dict[Task, list[StoredCell]] = defaultdict(list)
    for cell in store.cells():
        if cell.cell.scheduler in references.comparable and cell.counts:
            stored[cell.cell.task].append(cell)
    found = [
        _compared(store, pair, stored[pair[0].task], new_ids, origins[pair[0].task])
        if pair[0].task in tasks
        else before[pair[0].task]
        for pair in references.pairs
    ]
    store.note("references", [asdict(reference) for reference in found])
    return found


def _compared(store: Store, pair: Pair, cells: list[StoredCell], new: set[str], origin: str) -> Reference:
    """The task's reference; measures the cells that are new to it."""
    task, latents = pair[0].task, store.latents(pair[0].id)
    other, apart = store.latents(pair[1].id), math.nan
    if latents is not None and other is not None:
        apart = relative_rmse(other, latents)
    distances = {
        c.cell.id: _distance(store, c.cell.id, latents) if c.cell.id in new else c.metrics["reference_rmse"]
        for c in cells
    }
    made = store.found(cell.id for cell in pair)
    lost = [cell for cell, kept in zip(pair, (latents, other), strict=True) if kept is None]
    note = _doubt(pair, made, lost, apart, [d for d in distances.values() if math.isfinite(d)])
    if note:
        store.measure({c.cell.id: {} for c in cells}, instead_of=REFERENCE_METRICS)
        return Reference(task, None, apart if math.isfinite(apart) else None, note, origin)
    path = made[pair[0].id].image_path
    assert path is not None
    image = read_pixels(store.folder, path)
    found = {c.cell.id: _values(store, c, distances[c.cell.id], image) for c in cells if c.cell.id in new}
    store.measure(found, instead_of=REFERENCE_METRICS)
    return Reference(task, path, apart, origin=origin)


def _distance(store: Store, cell_id: str, reference: Latents | None) -> float:
    latents = store.latents(cell_id)
    return math.nan if latents is None or reference is None else relative_rmse(latents, reference)


def _doubt(
    pair: Pair, made: Mapping[str, StoredCell], lost: Sequence[Cell], apart: float, distances: Sequence[float]
) -> str:
    """Why the reference is withheld, or ""."""
    names = [cell.reference_solver for cell in pair]
    for cell, name in zip(pair, names, strict=True):
        if cell.id not in made or made[cell.id].result.status == "failed":
            return f"{name} did not finish: {made[cell.id].result.error if cell.id in made else 'not made'}"
    if lost:
        return f"{latents_name(lost[0].id)} cannot be read; repeat the command to make it again"
    if not math.isfinite(apart):
        return f"{' or '.join(names)} ended in latents that are not finite"
    for cell, name in zip(pair, names, strict=True):
        if not made[cell.id].counts:
            return f"{name} was flagged: {made[cell.id].result.error}"
    both = f"{names[0]} at {pair[0].steps} steps and {names[1]} at {pair[1].steps}"
    if apart > ANOTHER_IMAGE:
        return f"{both} end {apart:.2g} standard deviations apart: they have not converged"
    if distances and median(distances) < RESOLVED * apart:
        return f"{both} end {apart:.2g} standard deviations apart, and most cells are less than twice that away"
    return ""


def _values(store: Store, stored: StoredCell, rmse: float, reference: torch.Tensor) -> dict[str, float]:
    """A cell's metrics by name, those that are finite."""
    values = {"reference_rmse": rmse}
    if stored.image_path:
        with suppress(OSError):  # a damaged image has none
            image = read_pixels(store.folder, stored.image_path)
            values |= {"reference_psnr_db": psnr_db(image, reference), "reference_ssim": ssim(image, reference)}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _origin(pair: Pair, keys: Mapping[str, str]) -> str:
    return " ".join(f"{cell.id}:{keys[cell.scheduler]}" for cell in pair)


def relative_rmse(latents: Latents, reference: Latents) -> float:
    """Root mean square of their difference in units of the reference's standard deviation; NaN if that has no meaning.

    The scale that a VAE wants its latents in does not matter; unrelated latents lie √2 apart.
    """
    import numpy as np

    if latents.shape != reference.shape or not reference.size:
        return math.nan
    with np.errstate(all="ignore"):  # of a solver that has diverged
        difference = latents.astype("float64") - reference
        return float(np.sqrt(np.mean(difference**2)) / reference.std(dtype="float64"))


def psnr_db(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images (3, h, w) in [0, 1], or of all frames (n, 3, h, w); infinite where
    they are equal."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(image, reference, data_range=1.0))


def ssim(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of images (3, h, w) in [0, 1]: 1 if equal, NaN if they are too small.
    Of frames (n, 3, h, w), the mean over them.

    Over the Gaussian windows, 11 pixels wide, that lie in the image; releases of torchmetrics differ at its edges.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    def of(frame: torch.Tensor, other: torch.Tensor) -> float:
        found = structural_similarity_index_measure(frame[None], other[None], data_range=1.0, return_full_image=True)
        return float(found[1][..., 5:-5, 5:-5].mean())

    frames = [tensor.reshape(-1, *tensor.shape[-3:]) for tensor in (image, reference)]
    return fmean(of(*pair) for pair in zip(*frames, strict=True))


def read_pixels(folder: Path, name: str) -> torch.Tensor:
    """The frames of a video of a run's folder, (n, 3, h, w) in [0, 1]; of an image one. Raises OSError."""
    import numpy as np
    import torch

    from schedcmp.store.images import read_frames

    pixels = np.stack([np.asarray(frame.convert("RGB")) for frame in read_frames(folder, name)])
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
