"""How far all images of a scheduler are from the converged images of the same prompt: also where it draws noise.

See `truth.energy` for the distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import numpy as np

from schedcmp.axes import INPUTS, values_of
from schedcmp.metrics.look import Look
from schedcmp.metrics.measuring import with_image
from schedcmp.readings import ENERGY
from schedcmp.records import StoredCell
from schedcmp.store.images import read_frames
from schedcmp.store.store import Store
from schedcmp.truth.energy import FEWEST_SEEDS, energy_shares
from schedcmp.truth.metrics import ANOTHER_IMAGE
from schedcmp.truth.reference import References

Group = dict[int, tuple[StoredCell, StoredCell]]  # by seed: an image and the converged one


def measure_energy(store: Store, references: References, look: Look) -> None:
    """Give each cell its seed's share in the distance of its scheduler, steps and prompt; where there are fewer than
    `FEWEST_SEEDS` seeds with a converged image, nothing."""
    cells = [c for c in with_image(store) if c.cell.scheduler in references.sampling]
    groups = [*_groups(cells, _converged(store, references))]
    seen = _seen(store, look, {c.cell.id: c for group in groups for pair in group.values() for c in pair})
    found: dict[str, dict[str, float]] = {c.cell.id: {} for c in cells if ENERGY in c.metrics}
    for group in groups:
        found |= {id_: {ENERGY: share} for id_, share in _shares(group, seen)}
    before = {c.cell.id: c.metrics.get(ENERGY) for c in cells}
    store.measure({id_: v for id_, v in found.items() if v.get(ENERGY) != before[id_]}, instead_of=[ENERGY])


def _converged(store: Store, references: References) -> dict[object, StoredCell]:
    """By task, the converged images that two solvers agree on."""
    known = {task: r.uncertainty for task, r in store.references().items()}
    ids = {pair[0].task: pair[0].id for pair in references.pairs}
    agreed = {task: id_ for task, id_ in ids.items() if (known.get(task) or ANOTHER_IMAGE) < ANOTHER_IMAGE}
    made = store.found(agreed.values())
    return {task: made[id_] for task, id_ in agreed.items() if id_ in made and made[id_].counts}


def _groups(cells: Iterable[StoredCell], converged: Mapping[object, StoredCell]) -> Iterator[Group]:
    groups: dict[object, Group] = defaultdict(dict)
    for stored in cells:
        cell = stored.cell
        if reference := converged.get(cell.task):
            group = cell.scheduler, cell.steps, values_of(cell, INPUTS)
            groups[group][cell.seed] = stored, reference
    yield from (group for group in groups.values() if len(group) >= FEWEST_SEEDS)


def _seen(store: Store, look: Look, cells: Mapping[str, StoredCell]) -> dict[str, np.ndarray]:
    """Cell id → vector; what the store lacks is looked at and kept. A damaged image has none."""
    kept = store.features(look.origin)
    new: dict[str, bytes] = {}
    for id_, stored in cells.items():
        if id_ not in kept:
            with suppress(OSError):
                frames = read_frames(store.folder, stored.image_path)
                seen = np.mean([look.of(frame.convert("RGB")) for frame in frames], axis=0)
                new[id_] = seen.astype(np.float32).tobytes()
    store.keep_features(look.origin, new)
    return {id_: np.frombuffer(numbers, np.float32) for id_, numbers in (kept | new).items()}


def _shares(group: Group, seen: Mapping[str, np.ndarray]) -> Iterator[tuple[str, float]]:
    pairs = [pair for pair in group.values() if all(c.cell.id in seen for c in pair)]
    if len(pairs) < FEWEST_SEEDS:
        return
    with suppress(ValueError):  # vectors of several lengths, or all alike
        made, converged = (np.stack([seen[c.cell.id] for c in row]).astype(float) for row in zip(*pairs, strict=True))
        shares = energy_shares(made, converged)
        yield from ((pair[0].cell.id, float(share)) for pair, share in zip(pairs, shares, strict=True))
