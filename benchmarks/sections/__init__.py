"""What `benchmarks/gpu.py` measures; a section is a row of `SECTIONS`, in order of worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sections.context import Context
from sections.correctness import correctness
from sections.latency import latency
from sections.memory import memory
from sections.on_jax import on_jax
from sections.options import options
from sections.peak import peak
from sections.sweeps import sweeps
from sections.throughput import compiled, curve, sd15, sd35, sdxl
from sections.tracing import tracing
from sections.waiting import synchronisations


@dataclass(frozen=True)
class Section:
    """A measurement and its share of the minutes; what it leaves, the later ones have."""

    name: str
    measure: Callable[[Context], dict[str, Any]]
    share: float


SECTIONS = [
    Section("peak", peak, 1),
    Section("correctness", correctness, 8),
    Section("sweeps", sweeps, 8),
    Section("sd15", sd15, 10),
    Section("synchronisations", synchronisations, 3),
    Section("sdxl", sdxl, 9),
    Section("options", options, 10),
    Section("compiled", compiled, 14),
    Section("curve", curve, 6),
    Section("sd35-medium", sd35, 8),
    Section("tracing", tracing, 4),
    Section("latency", latency, 2),
    Section("memory", memory, 5),
    Section("jax", on_jax, 4),
]
SMOKE = ("peak", "correctness", "latency")
