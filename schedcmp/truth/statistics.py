"""What of a difference is more than noise: intervals, a paired test, and how many pairs would have told.

Schedulers are compared in pairs: the same prompt and the same seed, so the same initial noise. The sample is those
pairs, and what is found holds for prompts and seeds like them. Distances and latencies are compared as ratios (their
logarithms are averaged: a geometric mean), other metrics as differences.

Fewer than six pairs cannot reach 95 % by resampling: the range of five draws misses the median once in sixteen. There,
and where a correction for many comparisons asks for more than the pairs can show, Student's distribution is assumed.
Which one is used follows from the number of pairs and comparisons, never from the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Literal["mean", "geometric mean", "median"]

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 10_000
FEWEST_OF_A_MEAN = 3  # of two, the interval is 13 times as wide as their standard error says
FEWEST_OF_A_MEDIAN = 6  # 2^(1-n) <= 1 - LEVEL
_EXACT = 15  # pairs of which all sign patterns are tried
_FLIPS = 2 ** (_EXACT - 1)
_SEED = 0
_MOST_PAIRS = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of n values with its 95 % interval; no interval where n is too small for one."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of the interval, where there is one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Difference:
    """A against B over pairs.

    `estimate` is the mean of A - B, or the geometric mean of A / B; `p` is two-sided.
    """

    estimate: Estimate
    p: float | None  # None with fewer than two pairs
    pairs_needed: int | None  # to tell them apart with a power of 0.8; None: they are equal for all that is known

    @property
    def told_apart(self) -> bool:
        return self.p is not None and self.p <= 1 - LEVEL


def estimate(values: Sequence[float], statistic: Statistic = "mean") -> Estimate:
    """A statistic with its 95 % interval: the percentile bootstrap, 10,000 resamples of a fixed seed.

    Plain percentiles are too narrow, by √((n-1)/n) and more; here their tails are widened as Student's distribution is
    wider than the normal one ("expanded percentile", Hesterberg 2015, "What teachers should know about the bootstrap").
    Below six values: Student's interval of a mean of three or more, and none of a median.

    Args:
        values: one each of independent pairs; positive for a geometric mean.
    """
    x = np.log(np.asarray(values, float)) if statistic == "geometric mean" else np.asarray(values, float)
    back = math.exp if statistic == "geometric mean" else float
    value = back(float(np.median(x) if statistic == "median" else np.mean(x)))
    ends = _ends(x, median=statistic == "median")
    return Estimate(value, back(ends[0]), back(ends[1]), len(x)) if ends else Estimate(value, None, None, len(x))


def ratio_of_medians(new: Sequence[float], old: Sequence[float]) -> Estimate:
    """new / old of two independent samples, such as latencies of two runs, with its bootstrap interval.

    No interval if either has fewer than six values.
    """
    value, n = float(np.median(new) / np.median(old)), min(len(new), len(old))
    if n < FEWEST_OF_A_MEDIAN:
        return Estimate(value, None, None, n)
    drawn = [_resampled(np.asarray(side, float), np.median, seed) for seed, side in enumerate((new, old))]
    low, high = np.quantile(drawn[0] / drawn[1], _tails(n))
    return Estimate(value, float(low), float(high), n)


def compare(a: Sequence[float], b: Sequence[float], *, ratio: bool, comparisons: int = 1) -> Difference:
    """A against B; element i of both is of the same prompt and seed.

    Args:
        ratio: compare A / B (both positive), else A - B.
        comparisons: how many are made at once; `p` is not adjusted for them yet, see `holm`.
    """
    differences = _differences(a, b, ratio=ratio)
    of = estimate(np.exp(differences).tolist(), "geometric mean") if ratio else estimate(differences.tolist())
    alpha = (1 - LEVEL) / comparisons
    return Difference(of, paired_p(differences, alpha), pairs_needed(differences, alpha))


def against_best(
    values: Sequence[Sequence[float]], *, ratio: bool, higher: bool, best: int | None = None
) -> tuple[int, dict[int, Difference]]:
    """The best on average of k ≥ 1 entries, or the one taken for it, and each of the others against it, by index.

    The p-values are adjusted for all k (k - 1) / 2 comparisons, as the best one is known only after looking at all.

    Args:
        values: (k, pairs); column i is of the same prompt and seed.
        higher: whether more is better.
    """
    x = np.log(np.asarray(values, float)) if ratio else np.asarray(values, float)
    means, flipped = x.mean(axis=1), _signs(x.shape[1]) @ x.T
    best = int(means.argmax() if higher else means.argmin()) if best is None else best
    pairs = list(combinations(range(len(x)), 2))
    p = [paired_p(x[i] - x[j], (1 - LEVEL) / len(pairs), flipped[:, i] - flipped[:, j]) for i, j in pairs]
    adjusted = dict(zip(pairs, holm([q for q in p if q is not None]), strict=False))
    found = {}
    for i in (i for i in range(len(x)) if i != best):
        one = compare(values[i], values[best], ratio=ratio, comparisons=len(pairs))
        found[i] = replace(one, p=adjusted.get((min(i, best), max(i, best))))
    return best, found


def paired_p(differences: Floats, alpha: float = 1 - LEVEL, flipped: Floats | None = None) -> float | None:
    """Two-sided p of no difference, by flipping signs of the paired differences (Fisher 1935).

    If it does not matter which of two schedulers made which image of a pair, each difference is as likely with the
    other sign; the share of sign patterns whose mean is as far from 0 is p, exactly, for any distribution. Unlike
    Wilcoxon's signed ranks, it tests the mean that is reported. All patterns up to 15 pairs, else 16,384 at random.
    Where their number cannot reach `alpha`, Student's paired test, which long symmetric tails make conservative
    rather than wrong (Benjamini 1983); not of differences that are all equal, which have no spread to judge by.

    Args:
        flipped: the sums over all sign patterns, where they are known already.
    """
    n = len(differences)
    if n < 2:
        return None
    if not differences.any():
        return 1.0
    if 1 / min(2 ** (n - 1), _FLIPS + 1) > alpha and np.ptp(differences) > 0:
        return _student_p(differences)
    sums = np.abs(_signs(n) @ differences if flipped is None else flipped)
    extreme = int((sums >= abs(differences.sum()) * (1 - 1e-9)).sum())
    return extreme / len(sums) if n <= _EXACT else (extreme + 1) / (len(sums) + 1)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that one false claim among all is as unlikely as in a single test (Holm 1979)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def pairs_needed(differences: Floats, alpha: float = 1 - LEVEL) -> int | None:
    """How many pairs would show a difference of this size four times in five (Guenther 1981, paired t).

    None where no sensible number would, or where fewer than two pairs say nothing of the spread.
    """
    from scipy.special import ndtri

    if len(differences) < 2 or not (mean := abs(float(differences.mean()))):
        return None
    if not np.ptp(differences):  # nothing to estimate a spread from: as many as the signs need
        return 1 + math.ceil(-math.log2(alpha))
    tail, spread = float(ndtri(1 - alpha / 2)), float(differences.std(ddof=1))
    needed = math.ceil(((tail + float(ndtri(POWER))) * spread / mean) ** 2 + tail**2 / 2)
    return needed if needed <= _MOST_PAIRS else None


def _differences(a: Sequence[float], b: Sequence[float], *, ratio: bool) -> Floats:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.asarray(np.log(x) - np.log(y) if ratio else x - y)


def _ends(x: Floats, *, median: bool) -> tuple[float, float] | None:
    if len(x) < FEWEST_OF_A_MEAN or (median and len(x) < FEWEST_OF_A_MEDIAN):
        return None
    if len(x) < FEWEST_OF_A_MEDIAN:
        from scipy.special import stdtrit

        half = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
        return float(x.mean()) - half, float(x.mean()) + half
    low, high = np.quantile(_resampled(x, np.median if median else np.mean), _tails(len(x)))
    return float(low), float(high)


def _resampled(x: Floats, statistic: Callable[..., Any], stream: int = 0) -> Floats:
    draws = np.random.default_rng([_SEED, stream]).integers(0, len(x), (RESAMPLES, len(x)))
    return np.asarray(statistic(x[draws], axis=1), float)


def _tails(n: int) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - LEVEL) / 2)))
    return tail, 1 - tail


@lru_cache(maxsize=4)
def _signs(n: int) -> Floats:
    """Sign patterns (m, n): all, up to their mirror images, or as many at random."""
    if n > _EXACT:
        return np.random.default_rng(_SEED).choice([-1.0, 1.0], (_FLIPS, n))
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits)


def _student_p(differences: Floats) -> float:
    from scipy.special import stdtr

    n = len(differences)
    return float(2 * stdtr(n - 1, -abs(differences.mean()) / differences.std(ddof=1) * math.sqrt(n)))
