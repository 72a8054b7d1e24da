"""How long a sweep will take, from what was measured before. Never a guess."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from schedcmp.errors import RunFolderError
from schedcmp.folder import DATABASE
from schedcmp.pending import divided
from schedcmp.prepare import Prepared
from schedcmp.records import StoredCell
from schedcmp.store import Store


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier run of the same checkpoint and backend took, in seconds per denoiser evaluation."""

    solo_s: float
    packed_s: float | None
    images: int
    device: str


def estimate(prepared: Prepared, folder: Path) -> str:
    """A sentence: the sweep's evaluations at the pace of an earlier run of the same checkpoint and backend, found in
    `folder` or beside it."""
    for path in [folder, *sorted(folder.parent.glob("*"))]:
        known = _known(path, prepared)
        if known:
            solo, packed = (sum(map(prepared.cost, cells)) for cells in divided(prepared, prepared.supported))
            packed += prepared.references.nfe if prepared.references else 0
            timing = prepared.sweep.timing
            solo *= timing.repeats if timing.mode == "solo" else 1
            total = solo * known.solo_s + packed * (known.packed_s or known.solo_s)
            return f"about {max(total, 1):,.0f} s on {known.device}, from {known.images} images timed in {path}"
    return "not known before a first run of this checkpoint has been timed"


def _known(folder: Path, prepared: Prepared) -> _Known | None:
    if not (folder / DATABASE).is_file():
        return None
    try:
        with Store.open(folder) as store:
            environment, throughput = store.meta("environment") or {}, store.meta("throughput")
            backend = environment.get("backend", "torch")
            if (environment.get("fingerprint"), backend) != (prepared.checkpoint.fingerprint, prepared.sweep.backend):
                return None
            costs = [cost for stored in store.cells() for cost in _costs(stored, prepared)]
    except RunFolderError:
        return None
    if not costs:
        return None
    packed = throughput["wall_s"] / throughput["evaluations"] if throughput else None
    return _Known(median(costs), packed, len(costs), f"{environment.get('device')} ({environment.get('dtype')})")


def _costs(stored: StoredCell, prepared: Prepared) -> list[float]:
    """Seconds per evaluation of a timed image that costs as much as this sweep's: same size, guidance on or off."""
    sweep, cell, nfe = prepared.sweep, stored.cell, stored.result.nfe
    same_guidance = any((g > 1) == (cell.guidance_scale > 1) for g in sweep.guidance_scale)
    if not nfe or not same_guidance or (cell.width, cell.height) != (sweep.width, sweep.height):
        return []
    return [t.latency_s / nfe for t in stored.result.timings]
