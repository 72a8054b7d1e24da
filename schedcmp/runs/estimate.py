"""How long a sweep will take, from what was measured before. Never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from schedcmp.errors import SchedcmpError
from schedcmp.prepare import Prepared
from schedcmp.records import Cell, StoredCell
from schedcmp.runs.pending import divided
from schedcmp.store.folder import DATABASE
from schedcmp.store.store import Store
from schedcmp.sweep.document import Sweep


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier run of the same checkpoint and backend took, in seconds."""

    evaluation_s: float  # of the denoiser, with the scheduler's step
    rest_s: float  # of an image: prompts, decoding
    packed: float | None  # a packed run's time as a share of its images' times alone
    images: int
    device: str

    def alone_s(self, evaluations: int, images: int) -> float:
        return evaluations * self.evaluation_s + images * self.rest_s


def estimate(prepared: Prepared, folder: Path) -> str:
    """A sentence: the sweep's evaluations and images at the pace of an earlier run of the same checkpoint and backend,
    found in `folder` or beside it."""
    for path in [folder, *sorted(folder.parent.glob("*"))]:
        known = _known(path, prepared)
        if known:
            solo, packed = divided(prepared, prepared.supported)
            references = prepared.references.cells if prepared.references else ()
            timing = prepared.sweep.timing
            runs = timing.repeats if timing.mode == "solo" else 1
            total = runs * _alone_s(known, prepared, solo)
            total += _alone_s(known, prepared, [*packed, *references]) * (known.packed or 1)
            return f"about {max(total, 1):,.0f} s on {known.device}, from {known.images} images timed in {path}"
    return "not known before a first run of this checkpoint has been timed"


def _alone_s(known: _Known, prepared: Prepared, cells: Sequence[Cell]) -> float:
    return known.alone_s(sum(map(prepared.cost, cells)), len(cells))


def _known(folder: Path, prepared: Prepared) -> _Known | None:
    if not (folder / DATABASE).is_file():
        return None
    try:
        with Store.open(folder) as store:
            environment, throughput = store.meta("environment") or {}, store.meta("throughput")
            backend = environment.get("backend", "torch")
            if (environment.get("fingerprint"), backend) != (prepared.checkpoint.fingerprint, prepared.sweep.backend):
                return None
            extents = {cell.extent for cell in prepared.supported}
            cells = (stored for stored in store.cells() if stored.cell.extent in extents)
            costs = [cost for stored in cells for cost in _costs(stored, prepared.sweep)]
    except SchedcmpError:
        return None
    if not costs:
        return None
    evaluation_s, rest_s = (median(values) for values in zip(*costs, strict=True))
    where = f"{environment.get('device')} ({environment.get('dtype')})"
    known = _Known(evaluation_s, rest_s, None, len(costs), where)
    alone_s = known.alone_s(throughput["evaluations"], throughput["images"]) if throughput else 0.0
    return replace(known, packed=throughput["wall_s"] / alone_s) if alone_s else known


def _costs(stored: StoredCell, sweep: Sweep) -> list[tuple[float, float]]:
    """Seconds per evaluation, and beside them, of a timed image with guidance on or off as one of the sweep's."""
    cell, nfe = stored.cell, stored.result.nfe
    same_guidance = any((g > 1) == (cell.guidance_scale > 1) for g in sweep.guidance_scale or ())
    if not nfe or not same_guidance:
        return []
    return [(sum(t.step_s) / nfe, t.latency_s - sum(t.step_s)) for t in stored.result.timings]
