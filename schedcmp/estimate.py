"""How long a sweep will take, from what was measured before. Never a guess."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from schedcmp.errors import RunFolderError
from schedcmp.records import StoredCell
from schedcmp.run import Prepared
from schedcmp.store import DATABASE, Store


def estimate(prepared: Prepared, folder: Path) -> str:
    """A sentence: the sweep's evaluations at the median time per evaluation of earlier runs of the same checkpoint,
    found in `folder` and beside it."""
    for path in [folder, *sorted(folder.parent.glob("*"))]:
        known = _seconds_per_evaluation(path, prepared)
        if known:
            seconds, count, device = known
            total = seconds * prepared.total_nfe
            return f"about {total:,.0f} s on {device}, from {count} images timed in {path}"
    return "not known before a first run of this checkpoint has been timed"


def _seconds_per_evaluation(folder: Path, prepared: Prepared) -> tuple[float, int, str] | None:
    if not (folder / DATABASE).is_file():
        return None
    try:
        with Store.open(folder) as store:
            environment = store.meta("environment") or {}
            if environment.get("fingerprint") != prepared.checkpoint.fingerprint:
                return None
            costs = [cost for stored in store.cells() for cost in _costs(stored, prepared)]
    except RunFolderError:
        return None
    device = f"{environment['device']} ({environment['dtype']})"
    return (median(costs), len(costs), device) if costs else None


def _costs(stored: StoredCell, prepared: Prepared) -> list[float]:
    """Seconds per evaluation of a timed image that costs as much as this sweep's: same size, guidance on or off."""
    sweep, cell, nfe = prepared.sweep, stored.cell, stored.result.nfe
    same_guidance = any((g > 1) == (cell.guidance_scale > 1) for g in sweep.guidance_scale)
    if not nfe or not same_guidance or (cell.width, cell.height) != (sweep.width, sweep.height):
        return []
    return [t.latency_s / nfe for t in stored.result.timings]
