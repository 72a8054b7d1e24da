"""What a measurement means: does the scheduler converge, how fast, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from schedcmp.truth.convergence import Fit, fit, floor_of
from schedcmp.truth.measure import Measurement, Point, sampling_floor

WRONG = 0.1  # an error that stays above a tenth of the data's spread is another image
SEEN = 0.01  # one hundredth is 2.5 of 255 levels at a contrast of full range
_FIRST = 10  # NFE below which no asymptotic order is to be expected
_USUAL = 100  # and above which timesteps that are rounded to whole numbers show
_SAME = 1e-3  # two outputs on the same noise, RMS, at every number of steps,
_SAME_SHARE = 0.02  # and of their errors, since all that converge come together at last

Kind = Literal[
    "converges", "floor", "does not converge", "stochastic, right", "stochastic, floor", "stochastic, converging",
    "same as", "unsupported",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the oracle's table."""

    measured: Measurement
    kind: Kind
    detail: str = ""  # a number, or the name of what is the same
    why: str = ""
    fit: Fit | None = None  # of RMS, or of Wasserstein-1 where noise is drawn
    floor: float | None = None

    @property
    def name(self) -> str:
        return self.measured.name

    @property
    def text(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


def judge_measurement(m: Measurement, misfit: str = "") -> Verdict:
    """The verdict on one entry by itself.

    Args:
        m: what was measured.
        misfit: why the entry cannot be right for this noise schedule, where the registry knows.
    """
    if not m.points:
        return Verdict(m, "unsupported", why=misfit or m.failure)
    found = _stochastic(m) if m.stochastic else _deterministic(m)
    return replace(found, why="; ".join(filter(None, (found.why, misfit, _stopped(m)))))


def mark_same(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Replace the verdict of each entry whose outputs equal those of one before it."""
    kept: list[Verdict] = []
    for v in verdicts:
        twin, difference = next(
            ((k, d) for k in kept if (d := _difference(k.measured, v.measured)) is not None), (v, 0)
        )
        if twin is v:
            kept.append(v)
            yield v
        else:
            apart = f"outputs differ by at most {difference:.0e}" if difference else "equal outputs"
            yield replace(v, kind="same as", detail=twin.name, why=apart)


def _deterministic(m: Measurement) -> Verdict:
    nfe, errors = [p.nfe for p in m.points], [p.error for p in m.points]
    found, floor, end = fit(nfe, errors, first=_FIRST, above=_known_floor(m)), floor_of(nfe, errors), errors[-1]
    if len(set(nfe)) == 1:  # adaptive: its tolerance decides
        return Verdict(
            m, *(_ending("floor", end) or ("converges", f"(to {end:.1g})")), "chooses its own steps", None, end
        )
    told = f"(order {found.order:.1f})" if found else f"(to {end:.1g})"
    return Verdict(m, *(_ending("floor", floor) or ("converges", told)), _why(m), found, floor)


def _stochastic(m: Measurement) -> Verdict:
    nfe, w1 = [p.nfe for p in m.points], [p.error for p in m.points]
    mean, std = sampling_floor(m.points[-1].output.size)
    found, floor = fit(nfe, w1, above=mean + 3 * std), floor_of(nfe, w1)
    if w1[-1] <= mean + 3 * std:
        return Verdict(m, "stochastic, right", fit=found, floor=floor)
    return Verdict(m, *(_ending("stochastic, floor", floor) or ("stochastic, converging", "")), fit=found, floor=floor)


def _ending(kind: Kind, floor: float | None) -> tuple[Kind, str] | None:
    """What to say of an error that no longer falls, if it is too large for a rounding."""
    if floor is None or floor <= SEEN:
        return None
    return ("does not converge", "") if floor > WRONG else (kind, f"({floor:.2g})")


def _known_floor(m: Measurement) -> float:
    """Up to where the order is that of the steps: three times what the end costs, if that is the same for all N."""
    first, last = m.points[0], m.points[-1]
    constant = math.isclose(first.limit, last.limit, rel_tol=0.1)
    return 3 * last.limit if constant and _explained(last) else 0.0


def _explained(p: Point) -> bool:
    """Whether a good part of the error is that of the way it ends."""
    return p.rms is not None and p.inner < p.rms < 3 * p.limit


def _why(m: Measurement) -> str:
    """What the error of many steps comes from, where a good part of it is the end's."""
    last = m.points[-1]
    if not _explained(last):
        return ""
    if m.final_sigma > 0:
        return f"ends at σ {m.final_sigma:.2g}"
    usual = [p for p in m.points if _FIRST <= p.nfe <= _USUAL]
    inner = fit([p.nfe for p in usual], [p.inner for p in usual])
    before = f"; order {inner.order:.1f} without that" if inner else ""
    return f"jumps from σ {last.last_sigma:.2g}{before}"


def _stopped(m: Measurement) -> str:
    if not m.failed:
        return ""
    return f"fails at {m.failed[0]} steps{' and more' if m.failed[0] > m.points[-1].steps else ''}"


def _difference(a: Measurement, b: Measurement) -> float | None:
    """The greatest RMS difference over all numbers of steps; None if that is too much to call them the same."""
    mine = {p.steps: p for p in a.points}
    if a.stochastic != b.stochastic or not a.points or set(mine) != {p.steps for p in b.points}:
        return None
    pairs = [(mine[p.steps], p) for p in b.points]
    found = [float(np.sqrt(np.mean((p.output - q.output) ** 2))) for p, q in pairs]
    same = all(d <= _limit(*pair) for d, pair in zip(found, pairs, strict=True))
    return max(found) if same else None


def _limit(p: Point, q: Point) -> float:
    if p.rms is None or q.rms is None:
        return _SAME
    return min(_SAME, max(_SAME_SHARE * min(p.rms, q.rms), 1e-6))
