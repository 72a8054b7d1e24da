"""Cells whose settings differ and whose images do not: an option that changed nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from schedcmp.axes import AXES, Value
from schedcmp.pictures.image import FINGERPRINT_BYTES, difference, fingerprint
from schedcmp.records import StoredCell
from schedcmp.report.axes import point
from schedcmp.report.labels import value_label
from schedcmp.report.tiles import on_white
from schedcmp.report.words.parts import few
from schedcmp.store.images import read_frames

_LEVELS = 1  # of 255: what packing's other order of sums may change in a pixel
_SUBJECTS = {axis.name: axis.subject for axis in AXES.values() if axis.subject}
_MOST_LOOKED_AT = 50  # earlier cells of the same image, for the one that is most like a cell
_LONGEST = 60  # characters of a value
_ROOM = 16
_PART = 48  # of a fingerprint: one row of its pixels

Group = dict[Value, str]  # value of an axis → the first cell with its image


@dataclass(frozen=True, slots=True)
class Repeats:
    """What changed nothing.

    Attributes:
        cells: by cell id, what of an earlier cell whose image it repeats is otherwise.
        sentences: which values of a setting made the same images, whatever the other settings were.
    """

    cells: Mapping[str, str]
    sentences: tuple[str, ...]


class _Different:
    """Cells whose images differ, with what is compared first: their fingerprints, (n, d), and these on average."""

    def __init__(self) -> None:
        self.cells: list[StoredCell] = []
        self._prints = np.empty((_ROOM, FINGERPRINT_BYTES), np.int16)
        self._coarse = np.empty((_ROOM, FINGERPRINT_BYTES // _PART), np.float32)
        self._rows: dict[tuple[int, ...], list[int]] = defaultdict(list)  # by `_place`

    def like(self, pixels: npt.NDArray[np.int16]) -> list[StoredCell]:
        """Those that may have the same image."""
        coarse = _coarse(pixels)
        around = product(*((n - 1, n, n + 1) for n in _place(coarse)))
        near = np.array(sorted(row for place in around for row in self._rows.get(place, ())), int)
        for known, own in (self._coarse, coarse), (self._prints, pixels):
            near = near[np.abs(known[near] - own).max(axis=1, initial=0) <= _LEVELS]
        return [self.cells[i] for i in near]

    def add(self, stored: StoredCell, pixels: npt.NDArray[np.int16]) -> None:
        coarse = _coarse(pixels)
        if len(self.cells) == len(self._prints):
            self._prints, self._coarse = (np.concatenate([a, np.empty_like(a)]) for a in (self._prints, self._coarse))
        self._prints[len(self.cells)], self._coarse[len(self.cells)] = pixels, coarse
        self._rows[_place(coarse)].append(len(self.cells))
        self.cells.append(stored)


def _coarse(pixels: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Means of its parts: images that are equal to one level have such that are, too."""
    return np.asarray(pixels.reshape(-1, _PART).mean(axis=1), np.float32)


def _place(coarse: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Some of the means in steps of two levels: those of images that are equal to one level are next to each other."""
    return tuple((coarse[::6] // (2 * _LEVELS)).astype(int).tolist())


def repeats(cells: Sequence[StoredCell], folder: Path, prints: Mapping[str, bytes]) -> Repeats:
    """Images that repeat an earlier one of the run; flagged ones are all alike and say nothing of settings.

    Args:
        prints: the images' fingerprints, as far as the store has them; the other images are opened.
    """
    first = _first_of_each_image(cells, folder, prints)
    counting = [stored for stored in cells if stored.cell.id in first]
    settings = {stored.cell.id: _settings(stored) for stored in counting}
    return Repeats(dict(_told(counting, first, settings)), tuple(_without_effect(counting, first, settings)))


def _first_of_each_image(cells: Iterable[StoredCell], folder: Path, prints: Mapping[str, bytes]) -> dict[str, str]:
    """Cell id → id of the first cell with the same image, itself where there is none before."""
    known, by_hash, found = _Different(), dict[str | None, str](), {}
    for stored in cells:
        pixels = _print(stored, folder, prints) if stored.counts else None
        if pixels is None:
            continue
        id_, hash_ = stored.cell.id, stored.result.image_sha256
        if hash_ in by_hash:
            found[id_] = by_hash[hash_]
            continue
        first = next((c for c in known.like(pixels) if _same_image(c, stored, folder)), None)
        if first is None:
            known.add(stored, pixels)
        found[id_] = by_hash[hash_] = first.cell.id if first else id_
    return found


def _settings(stored: StoredCell) -> dict[str, Value]:
    values = point(stored, stored.cell.scheduler)
    return {axis: values[axis] for axis in _SUBJECTS}


def _told(
    cells: Iterable[StoredCell], first: Mapping[str, str], settings: Mapping[str, Mapping[str, Value]]
) -> Iterator[tuple[str, str]]:
    """Of each cell that repeats an image: what is otherwise in the earlier cell that is most like it."""
    members: dict[str, list[str]] = defaultdict(list)
    for stored in cells:
        id_ = stored.cell.id
        same = members[first[id_]]
        if same:
            others = (_differing(settings[other], settings[id_]) for other in same[:_MOST_LOOKED_AT])
            yield id_, f"same image as {_named(min(others, key=len))}"
        same.append(id_)


def _differing(other: Mapping[str, Value], own: Mapping[str, Value]) -> dict[str, Value]:
    named = ("scheduler", "steps") if (other["scheduler"], other["steps"]) != (own["scheduler"], own["steps"]) else ()
    return {axis: value for axis, value in other.items() if axis in named or value != own[axis]}


def _named(values: Mapping[str, Value]) -> str:
    """ "euler at 4 steps, guidance 1"."""
    solver = [f"{values['scheduler']} at {value_label('steps', values['steps'])}"] if "scheduler" in values else []
    return ", ".join([*solver, *(_label(axis, v) for axis, v in values.items() if axis not in ("scheduler", "steps"))])


def _label(axis: str, value: Value) -> str:
    text = f"{AXES[axis].short} {value}" if AXES[axis].by_name else value_label(axis, value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _without_effect(
    cells: Iterable[StoredCell], first: Mapping[str, str], settings: Mapping[str, Mapping[str, Value]]
) -> Iterator[str]:
    """Values of an axis that made the same images wherever nothing else differed."""
    ids = [stored.cell.id for stored in cells]
    varied = [axis for axis in _SUBJECTS if len({settings[id_][axis] for id_ in ids}) > 1]
    for axis in varied:
        groups: dict[tuple[Value, ...], Group] = defaultdict(dict)
        for id_ in ids:
            rest = tuple(settings[id_][name] for name in varied if name != axis)
            groups[rest][settings[id_][axis]] = first[id_]
        for values in _alike([group for group in groups.values() if len(group) > 1]):
            yield f"{_SUBJECTS[axis]} changed nothing: {few([_label(axis, v) for v in values])} made the same images."


def _alike(groups: Sequence[Group]) -> list[list[Value]]:
    """Sets of values that have the same image in every group that has both."""
    places: dict[Value, dict[int, str]] = defaultdict(dict)
    candidates: dict[tuple[Value, Value], None] = {}
    for i, group in enumerate(groups):
        begins: dict[str, Value] = {}
        for value, image in group.items():
            places[value][i] = image
            if image in begins:
                candidates[begins[image], value] = None
            begins.setdefault(image, value)
    found: dict[Value, list[Value]] = {}
    for one, other in candidates:
        a, b = places[one], places[other]
        if all(a[i] == b[i] for i in a.keys() & b.keys()):
            found.setdefault(one, [one]).append(other)
    return list(found.values())


def _print(stored: StoredCell, folder: Path, prints: Mapping[str, bytes]) -> npt.NDArray[np.int16] | None:
    kept = prints.get(stored.cell.id)
    if kept is None:
        try:
            kept = fingerprint(*_frames(folder, stored)) if stored.image_path else None
        except OSError:
            return None
    return None if kept is None else np.frombuffer(kept, np.uint8).astype(np.int16)


def _same_image(one: StoredCell, other: StoredCell, folder: Path) -> bool:
    if one.result.image_sha256 == other.result.image_sha256:
        return True
    try:
        apart = difference(_frames(folder, one), _frames(folder, other))
    except OSError:
        return False
    return apart is not None and apart[1] <= _LEVELS


def _frames(folder: Path, stored: StoredCell) -> list[Image]:
    return [on_white(frame) for frame in read_frames(folder, stored.image_path)]
