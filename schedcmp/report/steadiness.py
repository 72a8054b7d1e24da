"""Whether latencies say something: what the machine did beside, how far repeats lie apart, whether they drift."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean, median, quantiles
from typing import Any

from schedcmp.grouped import grouped
from schedcmp.records import StoredCell, Timing

_BUSY = 0.05  # of the wall time was spent waiting for a processor
_STEADY = 0.1  # interquartile range over median; a machine that has nothing else to do stays below it
_DRIFT = 0.1  # from the first turn to the last


def timed_groups(cells: Iterable[StoredCell]) -> dict[tuple[Any, ...], list[StoredCell]]:
    """The timed cells that count, by scheduler, steps and setting."""
    return grouped((stored for stored in cells if stored.result.timings and stored.counts), timed_group)


def timed_group(stored: StoredCell) -> tuple[Any, ...]:
    return (stored.cell.scheduler, stored.cell.steps, *stored.setting)


def doubts(cells: Iterable[StoredCell]) -> tuple[str, ...]:
    """Why latencies of these cells must not be compared; empty if nothing speaks against it."""
    groups = {key: [t for m in members for t in m.result.timings] for key, members in timed_groups(cells).items()}
    found = (_busy([t for timings in groups.values() for t in timings]), _scattered(groups), _drifting(groups.values()))
    return tuple(doubt for doubt in found if doubt)


def interquartile_range(values: Sequence[float]) -> float | None:
    """Between the first and third quartile (linear interpolation); None below two values."""
    if len(values) < 2:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low


def _busy(timings: Sequence[Timing]) -> str:
    shares = [t.waited_s / t.latency_s for t in timings if t.waited_s is not None and t.latency_s > 0]
    share = mean(shares) if shares else 0.0
    why = "other work, or more threads than processors"
    return f"they waited {share:.0%} of the time for a processor ({why})" if share > _BUSY else ""


def _scattered(groups: Mapping[tuple[Any, ...], Sequence[Timing]]) -> str:
    """By repeats; where there are none, by evaluations of the same denoiser at one size."""
    scatter, of = list(_scatters([t.latency_s for t in timings] for timings in groups.values())), "repeats"
    if not scatter:
        alike: dict[Any, list[float]] = defaultdict(list)
        for (_, _, *setting), timings in groups.items():
            alike[tuple(setting)] += [t.denoiser_s / len(t.step_s) for t in timings if t.step_s]
        scatter, of = list(_scatters(alike.values())), "evaluations of one denoiser"
    usual = median(scatter) if scatter else 0.0
    return f"{of} lie apart (interquartile range {usual:.0%} of the median)" if usual > _STEADY else ""


def _scatters(groups: Iterable[Sequence[float]]) -> Iterator[float]:
    for values in groups:
        spread = interquartile_range(values)
        if spread is not None and median(values) > 0:
            yield spread / median(values)


def _drifting(groups: Iterable[Sequence[Timing]]) -> str:
    in_turn = (sorted((t for t in timings if t.turn is not None), key=lambda t: t.turn or 0) for timings in groups)
    ratios = [timings[-1].latency_s / timings[0].latency_s for timings in in_turn if len(timings) > 1]
    drift = median(ratios) if ratios else 1.0
    if 1 / (1 + _DRIFT) <= drift <= 1 + _DRIFT:
        return ""
    return f"the last turn took {drift:.2f} times the first"
