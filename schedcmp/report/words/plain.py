"""How far images of a changed checkpoint are from the plain one's, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from schedcmp.grouped import grouped
from schedcmp.records import StoredCell

_METRIC = "plain_rmse"  # see `metrics.plain`


def from_plain(cells: Iterable[StoredCell]) -> list[str]:
    """A sentence for each checkpoint that was compared with itself unchanged."""
    compared = (stored for stored in cells if _METRIC in stored.metrics)
    return [_sentence(model, those) for model, those in grouped(compared, lambda stored: stored.cell.model).items()]


def markdown(cells: Iterable[StoredCell]) -> str:
    """A section of answer.md; empty where nothing was compared."""
    lines = from_plain(cells)
    return "\n\n".join(["## Against the plain checkpoint", "\n".join(f"- {line}" for line in lines)]) if lines else ""


def _sentence(model: str, cells: Sequence[StoredCell]) -> str:
    most = max(cells, key=lambda stored: stored.metrics[_METRIC])
    middle = median(stored.metrics[_METRIC] for stored in cells)
    whose = f"{model}: images" if model else "Images"
    return (
        f"{whose} are {middle:.3g} levels of 255 (RMS) from the plain checkpoint's, the median of {len(cells):,}; at"
        f" most {most.metrics[_METRIC]:.3g}, of {most.cell.scheduler} at {most.cell.steps} steps."
    )
