"""Answers for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from schedcmp.report.across import Across
from schedcmp.report.answer import Answer, Choice
from schedcmp.report.enough import enough
from schedcmp.report.quality import Point
from schedcmp.report.words.sentences import sentences


def as_json(found: Answer, settings: Sequence[Across] = ()) -> dict[str, Any]:
    """The answer for scripts: unrounded, seconds and counts.

    Args:
        settings: all of the run, compared.
    """
    return {
        "setting": found.setting.fields(),
        "metric": found.metric and asdict(found.metric),
        "limit": found.limit,
        "pairs": len(found.pairs),
        "by_latency": found.by_latency,
        "doubts": list(found.doubts),
        "fastest": found.fastest and _point_json(found.fastest),
        "hopeful": found.hopeful and _point_json(found.hopeful),
        "as_fast": [_point_json(p) for p in found.as_fast],
        "budgets": [_choice_json(c) for c in found.choices],
        "steps_needed": [asdict(row) for row in enough(found)],
        "front": [_point_json(p) for p in found.front],
        "cheapest": _point_json(found.cheapest[0]) if found.cheapest else None,
        "unmeasured": list(found.unmeasured),
        "unsound": [asdict(u) for u in found.unsound],
        "incomplete": [{"scheduler": p.scheduler, "steps": p.steps} for p in found.incomplete],
        "among_settings": [place for one in settings for place in _places(found, one)],
        "sentences": sentences(found),
    }


def _places(found: Answer, among: Across) -> Iterator[dict[str, Any]]:
    """Where an answer's setting stands among all of a run, by the best scheduler of each within a budget."""
    for place, contender in enumerate(among.contenders, 1):
        if contender.setting == found.setting:
            yield {
                "budget": asdict(among.budget),
                "metric": among.metric.name,
                "place": place,
                "best": _point_json(contender.point),
                "against_first": contender.behind and asdict(contender.behind),
                "told_apart": contender.told_apart,
            }


def _choice_json(choice: Choice) -> dict[str, Any]:
    others = [_point_json(p) | {"against_best": asdict(d), "told_apart": d.told_apart} for p, d in choice.others]
    return {"budget": asdict(choice.budget), "best": _point_json(choice.best), "others": others}


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "scheduler": point.scheduler,
        "same_as": list(point.names[1:]),
        "steps": point.steps,
        "nfe": point.nfe,
        "latency_s": point.latency and asdict(point.latency),
        "quality": point.quality and asdict(point.quality),
    }
