"""What changed between two runs of the same cells: images, latencies, failures, the environment.

Cells are matched by `Cell.id`, which does not depend on versions or machines: so this judges an upgrade.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schedcmp.axes import Setting
from schedcmp.errors import RunFolderError
from schedcmp.records import Cell, StoredCell
from schedcmp.report.steadiness import doubts, timed_groups
from schedcmp.store.several import Shown
from schedcmp.truth.statistics import Estimate, estimate, ratio_of_medians

if TYPE_CHECKING:
    from PIL.Image import Image

State = Literal["identical", "near", "changed", "failed", "mended", "vanished", "appeared", "missing"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a cell.

    `identical`: equal pixels; `near`: within the limit; `changed`: beyond it, of another size, or an image is gone;
    `failed` or `vanished` (no longer asked for, or not made yet): it had an image; `mended` or `appeared`: it had none;
    `missing`: it has none in either. An image that is flagged counts as none.
    """

    cell: Cell
    state: State
    rmse: float | None = None  # over pixels and channels, levels of 255
    largest: int | None = None  # difference of one channel of one pixel, levels of 255
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """New over old median latency of one scheduler at one number of steps."""

    scheduler: str
    steps: int
    setting: str
    ratio: Estimate

    def exceeds(self, limit: float) -> bool:
        """Beyond the limit, and slower outside the noise where there are timings enough to know it."""
        return self.ratio.value > limit and (self.ratio.low is None or self.ratio.low > 1)


@dataclass(frozen=True, slots=True)
class Changes:
    """All that changed from one run to another."""

    changes: tuple[Change, ...]
    slowdowns: tuple[Slowdown, ...]
    environment: Mapping[str, tuple[Any, Any]]  # what differs: name → (old, new)
    doubts: tuple[str, ...] = ()  # why latencies of either run must not be compared

    @property
    def overall(self) -> Estimate | None:
        """The geometric mean of all rows' latency ratios; its interval is over rows."""
        ratios = [s.ratio.value for s in self.slowdowns]
        return estimate(ratios, "geometric mean") if ratios else None

    def problems(self, max_slowdown: float | None = None) -> list[str]:
        """Why the new run is not accepted; empty if it is."""
        bad = [c for c in self.changes if c.state in ("changed", "failed", "vanished")]
        slow = [s for s in self.slowdowns if max_slowdown is not None and s.exceeds(max_slowdown)]
        slower = (f"slower: {s.scheduler}, {s.steps} steps{s.setting}: {s.ratio.value:.2f}×" for s in slow)
        return [*map(_told, bad), *slower]


def compare(old: Shown, new: Shown, *, max_rmse: float = 1.0) -> Changes:
    """Two runs, cell by cell.

    Args:
        max_rmse: how far an image may move, in levels of 255.

    Raises:
        RunFolderError: they have no cell in common.
    """
    before, after = ({c.cell.id: c for c in store.cells()} for store in (old, new))
    if not before.keys() & after.keys():
        raise RunFolderError(f"{old.folder} and {new.folder}: have no cell in common; compare runs of one sweep")
    changes = [_change(before.get(i), after.get(i), (old, new), max_rmse) for i in dict.fromkeys([*before, *after])]
    common = ([stored for id_, stored in side.items() if id_ in before and id_ in after] for side in (before, after))
    a, b = (store.meta("environment") or {} for store in (old, new))
    differing = {name: (a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name)}
    doubted = [(store.folder, doubts(side.values())) for store, side in ((old, before), (new, after))]
    told = (f"{folder}: {doubt}" for folder, found in doubted for doubt in found)
    return Changes(tuple(changes), tuple(_slowdowns(*common)), differing, tuple(told))


def _change(old: StoredCell | None, new: StoredCell | None, stores: tuple[Shown, Shown], max_rmse: float) -> Change:
    present = new or old
    assert present
    had, has = (stored is not None and stored.counts for stored in (old, new))
    if had != has or not had:
        states: tuple[State, State] = ("mended", "failed") if old and new else ("appeared", "vanished")
        return Change(present.cell, states[had] if had != has else "missing", detail=present.result.error or "")
    assert old
    assert new
    same = old.result.image_sha256 == new.result.image_sha256
    pairs = zip(stores, (old, new), strict=True)
    # An image that is not the one that was stored has other pixels than its hash says
    if same and all(s.files.is_intact(str(c.image_path), c.result.image_sha256, thorough=True) for s, c in pairs):
        return Change(new.cell, "identical", 0.0, 0)
    return _moved(old, new, (stores[0].folder, stores[1].folder), max_rmse)


def _moved(old: StoredCell, new: StoredCell, folders: tuple[Path, Path], max_rmse: float) -> Change:
    from schedcmp.pictures.image import difference
    from schedcmp.store.images import read_frames

    pictures = []
    for stored, folder in zip((old, new), folders, strict=True):
        try:
            pictures.append(read_frames(folder, stored.image_path))
        except OSError:
            return Change(new.cell, "changed", detail=f"{folder / str(stored.image_path)} cannot be read")
    found = difference(*pictures)
    if found is None:
        return Change(new.cell, "changed", detail=f"{' became '.join(map(_size, pictures))} px")
    rmse, largest = found
    state: State = "changed" if rmse > max_rmse else "near" if largest else "identical"
    return Change(new.cell, state, rmse, largest)


def _size(frames: Sequence[Image]) -> str:
    several = f"{len(frames)} frames of " if len(frames) > 1 else ""
    return f"{several}{frames[0].width}×{frames[0].height}"


def _slowdowns(before: Iterable[StoredCell], after: Iterable[StoredCell]) -> Iterable[Slowdown]:
    old, new = _latencies(before), _latencies(after)
    settings = {Setting(key[2:]) for key in new}
    for key in (k for k in old if k in new):
        scheduler, steps, *setting = key
        told = ", ".join(["", *Setting(setting).words(settings)])
        yield Slowdown(scheduler, steps, told, ratio_of_medians(new[key], old[key]))


def _latencies(cells: Iterable[StoredCell]) -> dict[tuple[Any, ...], list[float]]:
    groups = timed_groups(cells)
    return {key: [t.latency_s for m in members for t in m.result.timings] for key, members in groups.items()}


def _told(change: Change) -> str:
    moved = f": RMSE {change.rmse:.3g} of 255, at most {change.largest}" if change.rmse else ""
    detail = f": {change.detail.splitlines()[0]}" if change.detail else ""
    cell = change.cell
    return f"{change.state}: {cell.scheduler}, {cell.steps} steps, seed {cell.seed}, {cell.prompt_name}{moved}{detail}"
