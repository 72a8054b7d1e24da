"""The metrics that a sweep can ask for: our own, those of installed packages, and classes by their paths."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from schedcmp.errors import SweepError, raised_as, shown
from schedcmp.guard.foreign import IMPORT_S, contained
from schedcmp.metrics.metric import Comparison, Metric

ENTRY_POINTS = "schedcmp.metrics"
_OWN: Mapping[str, str] = {
    "adherence": "schedcmp.metrics.adherence.Adherence",
    "clip": "schedcmp.metrics.clip.ClipScore",
    "preference": "schedcmp.metrics.clip.Preference",
    "aesthetic": "schedcmp.metrics.aesthetic.Aesthetic",
    "lpips": "schedcmp.metrics.perceptual.Lpips",
    "dists": "schedcmp.metrics.perceptual.Dists",
    "sharpness": "schedcmp.metrics.pixels.Sharpness",
    "clipped": "schedcmp.metrics.pixels.Clipped",
    "flicker": "schedcmp.metrics.pixels.Flicker",
}
ALWAYS = ("sharpness", "clipped", "flicker")  # where they have a meaning: they cost next to nothing


@cache
def _from_packages() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def known() -> list[str]:
    """Names that a sweep may have, `reference` apart."""
    return [*_OWN, *sorted(_from_packages().keys() - _OWN.keys())]


def opened(kind: str, options: Mapping[str, Any], called: str = "") -> Metric:
    """A metric, ready to be prepared.

    Args:
        kind: a name of `known`, or the dotted path of a subclass of `Metric`.
        options: what its constructor takes.
        called: its column, where that is not its own name.

    Raises:
        SweepError: there is none of that name, or it does not take these options.
    """
    cls = _class(kind)
    takes = [p.name for p in inspect.signature(cls).parameters.values()]
    for name in options:
        if name not in takes:
            raise SweepError(f"{kind} takes no option {shown(name)}; it takes: {', '.join(takes) or 'none'}")
    with raised_as(SweepError, f"{kind} refuses its options", Exception), contained(IMPORT_S):  # somebody's constructor
        metric = cls(**options)
    if called:
        metric.called = called
    return metric


def compares(kind: str) -> bool:
    """Whether a metric needs converged images. Raises SweepError if there is none of that name."""
    return issubclass(_class(kind), Comparison)


def _class(kind: str) -> type[Metric]:
    path = _OWN.get(kind)
    if path is None and kind not in _from_packages() and not re.fullmatch(r"\w+(\.\w+)+", kind):
        near = get_close_matches(kind, [*known(), "reference"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: reference, {', '.join(known())}"
        raise SweepError(f"unknown metric {shown(kind)}; {hint}")
    # Importing runs somebody's code
    with raised_as(SweepError, f"the metric {kind} cannot be loaded", Exception), contained(IMPORT_S):
        found = _from_packages()[kind].load() if path is None and kind in _from_packages() else _at(path or kind)
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise SweepError(f"{kind} is no subclass of schedcmp.metrics.Metric")
    return found


def _at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def together(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Each column once. Raises SweepError."""
    by_column: dict[str, Metric] = {}
    for metric in metrics:
        if metric.column in by_column:
            raise SweepError(f"two metrics are called {metric.column}; give one of them another `name`")
        by_column[metric.column] = metric
    return tuple(by_column.values())
