"""What is still to be made for a sweep, given what its folder holds already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from schedcmp.axes import INPUTS, values_of
from schedcmp.prepare import Prepared
from schedcmp.records import Cell
from schedcmp.store.store import Provenance, Store
from schedcmp.truth.metrics import unmeasured


def pending_cells(prepared: Prepared, store: Store) -> list[Cell]:
    """The cells that are still to be made.

    One that is to be timed, or made solo, is made again if it was packed, or timed too seldom, or on another machine;
    one that is to be compared with its reference, if its latents are gone.
    """
    timing = prepared.sweep.timing
    needed = timing.repeats if timing.mode == "solo" else 0
    solo = {c.id for c in divided(prepared, prepared.supported)[0]}
    unmeasured = {c.id for c in _unmeasured(prepared, store)}

    def enough(cell: Cell, made: Provenance) -> bool:
        timed = not needed or (made.timings >= needed and made.machine == prepared.origin.machine)
        as_wanted = cell.id not in solo or (timed and not made.packed)
        measurable = cell.id not in unmeasured or store.has_latents(cell.id)
        return made.key == prepared.origin.keys[cell.scheduler] and as_wanted and measurable

    return store.pending(prepared.supported, enough)


def pending_references(prepared: Prepared, store: Store, pending: Sequence[Cell]) -> list[Cell]:
    """The references that are still to be made; one whose latents are gone, only if a cell is to be compared to it."""
    if prepared.references is None:
        return []
    remade = [c for c in pending if c.scheduler in prepared.references.comparable]
    open_tasks = {c.task for c in (*_unmeasured(prepared, store), *remade)}

    def enough(cell: Cell, made: Provenance) -> bool:
        measurable = cell.task not in open_tasks or store.has_latents(cell.id)
        return made.key == prepared.origin.keys[cell.scheduler] and measurable

    return store.pending(prepared.references.cells, enough)


def _unmeasured(prepared: Prepared, store: Store) -> list[Cell]:
    if prepared.references is None:
        return []
    return unmeasured(prepared.supported, prepared.references, prepared.origin.keys, store)


def divided(prepared: Prepared, cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells that run solo (when packing, those that are timed) and the cells that run packed."""
    sweep = prepared.sweep
    if sweep.engine == "solo" or prepared.in_turn:
        return list(cells), []
    timed = _timed(prepared.supported, sweep.timing.seeds) if sweep.timing.mode == "solo" else set()
    return [c for c in cells if c.id in timed], [c for c in cells if c.id not in timed]


def _timed(cells: Iterable[Cell], seeds: int) -> set[str]:
    """Ids of the cells with the first so many seeds of each setting: not every setting need have all of them."""
    timed, seen = set(), Counter[tuple[object, ...]]()
    for c in cells:
        setting = (c.scheduler, c.steps, *values_of(c, INPUTS))
        seen[setting] += 1
        if seen[setting] <= seeds:
            timed.add(c.id)
    return timed
