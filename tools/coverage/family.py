"""What is known of a pipeline class that is to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

GUIDANCE = 5.0  # of the sweeps


@dataclass(frozen=True, slots=True)
class Family:
    """How to make a tiny checkpoint of a pipeline class, and what to ask of it."""

    build: Callable[[], Any]
    size: tuple[int, int] | None = (32, 32)  # pixels, width and height; None: the checkpoint's own
    steps: tuple[int, ...] = (2, 4)
    guided: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": GUIDANCE})  # as diffusers is told
    call: Mapping[str, Any] = field(default_factory=dict)  # of the sweep
    prompt: str = "a cat"
    frames: int | None = None  # of a video
    packages: tuple[str, ...] = ()  # what its parts need
