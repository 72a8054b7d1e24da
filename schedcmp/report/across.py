"""What is best of all settings of a run: with a LoRA or without, at which guidance, with which cache.

Distances to converged images cannot tell, since each setting has images of its own to converge to. What is read off an
image and its prompt alone can: adherence, a CLIP score, a preference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schedcmp.axes import Setting
from schedcmp.readings import CONVERGED, Reading
from schedcmp.records import StoredCell
from schedcmp.report.answer import Answer, Budget, usual_budgets
from schedcmp.report.quality import Point, goodness, points
from schedcmp.truth.statistics import Difference, compare


@dataclass(frozen=True, slots=True)
class Contender:
    """The best scheduler of a setting, within a budget."""

    setting: Setting
    point: Point
    behind: Difference | None  # against the best of all; None: it is that

    @property
    def told_apart(self) -> bool:
        return self.behind is not None and self.behind.told_apart


@dataclass(frozen=True, slots=True)
class Across:
    """The settings by what is best of each, the best of all first."""

    metric: Reading
    budget: Budget
    contenders: tuple[Contender, ...]


def across(cells: Sequence[StoredCell], known: Mapping[str, Reading], metric: str | None = None) -> list[Across]:
    """One for each usual number of evaluations; none where the run has one setting, or nothing that compares them.

    Args:
        metric: what is asked for; by default the first that may decide and that means the same in all settings.
    """
    reading = comparable(cells, known, metric) if len({stored.setting for stored in cells}) > 1 else None
    if reading is None:
        return []
    found = [(setting, p) for setting, (of, _) in points(cells, reading).items() for p in of if p.values]
    everything = {pair for _, p in found for pair in p.values}
    whole = [(setting, p) for setting, p in found if len(p.values) == len(everything)]
    if len({setting for setting, _ in whole}) < 2:
        return []
    return [_within(whole, reading, budget) for budget in usual_budgets([p for _, p in whole])]


def comparable(cells: Sequence[StoredCell], known: Mapping[str, Reading], metric: str | None = None) -> Reading | None:
    """The metric that means the same in all settings, if the run has one."""
    there = {name for stored in cells if stored.counts for name in stored.metrics}
    relative = {reading.name for reading in CONVERGED}
    fit = [m for m in known.values() if m.name in there - relative and m.higher is not None and m.decides]
    return next((m for m in fit if metric in (None, m.name)), None)


def _within(all_points: Sequence[tuple[Setting, Point]], metric: Reading, budget: Budget) -> Across:
    """Each scheduler with the most steps that the budget allows, as in a setting's own answer; of these each setting's
    best. As the best are known only after looking at all, p is corrected for every two (Bonferroni)."""
    allowed = sorted((pair for pair in all_points if budget.allows(pair[1])), key=lambda pair: pair[1].nfe)
    entries = {(setting, point.names): point for setting, point in allowed}
    best: dict[Setting, Point] = {}
    for (setting, _), point in entries.items():
        if setting not in best or goodness(point, metric) > goodness(best[setting], metric):
            best[setting] = point
    ordered = sorted(best.items(), key=lambda pair: -goodness(pair[1], metric))
    comparisons = max(1, len(entries) * (len(entries) - 1) // 2)
    contenders = (Contender(s, p, _behind(p, ordered[0][1], metric, comparisons)) for s, p in ordered)
    return Across(metric, budget, tuple(contenders))


def _behind(point: Point, best: Point, metric: Reading, comparisons: int) -> Difference | None:
    if point is best:
        return None
    rows = [[p.values[pair] for pair in best.values] for p in (point, best)]
    found = compare(*rows, ratio=metric.ratio, comparisons=comparisons)
    return replace(found, p=found.p and min(1.0, found.p * comparisons))


def recommended_cell(
    cells: Sequence[StoredCell], answers: Sequence[Answer], known: Mapping[str, Reading], metric: str | None = None
) -> tuple[StoredCell, Point] | None:
    """What an answer says to take, and its first image: in the setting that is best of all, as far as that is known,
    else of the first answer that says so."""
    found = across(cells, known, metric)
    ranks = {c.setting: i for i, c in enumerate(found[-1].contenders)} if found else {}
    for answer in sorted(answers, key=lambda answer: ranks.get(answer.setting, len(ranks))):
        if best := answer.best:
            taken = answer.setting, best.scheduler, best.steps
            those = (c for c in cells if c.counts and (c.setting, c.cell.scheduler, c.cell.steps) == taken)
            return next(((cell, best) for cell in those), None)
    return None
