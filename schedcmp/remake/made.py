"""How an image was made, in this project's words, as far as what it says of itself can be understood."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from schedcmp.errors import shown

_MOST_TOLD = 50
_LONGEST = 20_000  # of a prompt, characters


@dataclass(slots=True)
class Made:
    """Filled in by the reader of a program's metadata; what it cannot be given to is told in `lost`."""

    program: str  # "ComfyUI"
    place: str = ""  # by what the registry knows the program's names: "comfyui"
    prompt: str = ""
    negative_prompt: str = ""
    sampler: str = ""  # as the program calls it
    schedule: str = ""
    entry: Any = None  # of a sweep's `schedulers`, where the program is this one
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    model: str = ""
    keys: dict[str, Any] = field(default_factory=dict)  # further ones of a sweep
    lost: list[str] = field(default_factory=list)  # what is not carried over, a sentence each

    def lose(self, what: str, value: object = "", why: str = "") -> None:
        """Note what is not carried over."""
        told = f"{what}: {shown(value, 120)}" if value != "" else what
        if len(self.lost) < _MOST_TOLD:
            self.lost.append(f"{told} ({why})" if why else told)
        elif len(self.lost) == _MOST_TOLD:
            self.lost.append("and more")

    def text(self, value: object) -> str:
        """A prompt."""
        if not isinstance(value, str):
            return ""
        if len(value) > _LONGEST:
            self.lose("the end of a prompt", value[_LONGEST:])
        return "".join(c if c.isprintable() or c == "\n" else " " for c in value[:_LONGEST]).strip()

    def numbers(self, fields: dict[str, Any], steps: str, guidance: str, seed: str) -> None:
        """Take them from a program's fields, by what it calls them."""
        self.steps = self.whole(steps, fields.pop(steps, None), 1, 1000)
        self.guidance = self.number(guidance, fields.pop(guidance, None), 0, 1000)
        self.seed = self.whole(seed, fields.pop(seed, None), 0, 2**63 - 1)

    def whole(self, what: str, value: object, low: int, high: int) -> int | None:
        """A whole number of this range, which may have more digits than a float; what is none is lost."""
        found, digits = self.number(what, value, low, high), str(value)
        return None if found is None else int(digits) if digits.isascii() and digits.isdigit() else int(found)

    def number(self, what: str, value: object, low: float, high: float) -> float | None:
        """A number of this range; what is none is lost, where there is anything."""
        try:
            found = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if low <= found <= high:
            return found
        if value not in (None, ""):
            self.lose(what, value, f"no number from {low:g} to {high:g}")
        return None

    def size(self, width: object, height: object) -> None:
        """In pixels, to the multiple of 8 that pipelines take."""
        found = [self.whole(name, value, 8, 4096) for name, value in (("width", width), ("height", height))]
        if None in found:
            return
        self.width, self.height = ((n or 8) // 8 * 8 for n in found)
        if [self.width, self.height] != found:
            self.lose("the size", f"{width}x{height}", f"cut to {self.width}x{self.height}, multiples of 8")
