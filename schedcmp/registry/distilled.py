"""Models that were distilled for few steps: which, and how their authors sample them. The table is distilled.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_STEPS_IN_NAME = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)
Config = Callable[[str], Mapping[str, Any]]  # of a component, by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """A kind of model. See distilled.yaml for what its fields mean."""

    name: str
    named: str
    samplers: tuple[str, ...]
    steps: tuple[int, int]
    source: str
    pipeline: str = ""
    scheduler: str = ""
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    suits: tuple[str, ...] = ()
    guidance: tuple[float, float] | None = None
    checked: str = ""
    unverified: str = ""

    def is_named(self, names: Iterable[str]) -> bool:
        return any(re.search(self.named, name, re.IGNORECASE) for name in names)

    def is_configured(self, config: Config) -> bool:
        """Whether configs alone tell it."""
        if self.scheduler and config("scheduler").get("_class_name") == self.scheduler:
            return True
        wanted = [(config(part).get(key), value) for part, own in self.config.items() for key, value in own.items()]
        return bool(wanted) and all((bool(f) if isinstance(value, bool) else f) == value for f, value in wanted)

    @property
    def told(self) -> str:
        """How it is sampled: "made for lcm, 1 to 8 steps, guidance off"."""
        low, high = self.steps
        steps = f"{low} to {high} steps" if low < high else f"{low} step{'s' if low > 1 else ''}"
        doubt = f"not confirmed: {self.unverified}" if self.unverified else ""
        return ", ".join(filter(None, [f"made for {' or '.join(self.samplers)}", steps, self._guidance, doubt]))

    @property
    def _guidance(self) -> str:
        if self.guidance is None:
            return ""
        low, high = self.guidance
        if high <= 1:
            return "guidance off"
        return f"guidance off or up to {high:g}" if low <= 1 else f"guidance {low:g} to {high:g}"

    def nearest(self, guidance: float) -> float:
        """What its authors take that is nearest to a pipeline's own guidance; where they have none, that is off."""
        if self.guidance is None:
            return guidance
        low, high = self.guidance
        return low if high <= 1 else min(max(guidance, low), high)

    def outside(self, steps: Iterable[int], guidance: Iterable[float]) -> list[str]:
        """What of a sweep leaves the authors' range, in words."""
        low, high = self.steps
        found = [f"{n} steps" if n != 1 else "1 step" for n in sorted({*steps}) if not low <= n <= high]
        if self.guidance is not None:
            least, most = (max(g, 1.0) for g in self.guidance)
            found += [f"guidance {g:g}" for g in sorted({*guidance}) if not least <= max(g, 1.0) <= most]
        return found


def distilled(names: Iterable[str], pipeline: str, config: Config = lambda part: {}) -> Distilled | None:
    """What a checkpoint or a LoRA is distilled as, as far as anybody can tell; None for what is not known as that.

    Args:
        names: what it is called: a hub id, a file's name, a title.
        pipeline: the class's name, of the pipeline that it is of.
        config: of its components; of a LoRA nothing.
    """
    names = [*names]
    for row in _rows():
        if re.search(row.pipeline, pipeline) and (row.is_named(names) or row.is_configured(config)):
            counts = {int(n) for name in names for n in _STEPS_IN_NAME.findall(name)}
            inside = [n for n in sorted(counts) if row.steps[0] <= n <= row.steps[1]]
            return replace(row, steps=(inside[0], inside[-1])) if inside else row
    return None


@cache
def _rows() -> tuple[Distilled, ...]:
    text = (files("schedcmp.registry") / "distilled.yaml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = yaml.safe_load(text)
    for row in rows:
        row |= {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
    return tuple(Distilled(**row) for row in rows)
