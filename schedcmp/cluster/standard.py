"""What workers must have in common, so that their images and latencies may stand side by side. Knows no Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from schedcmp.prepare.origin import Origin, machine_of

_COMPARED = (
    "fingerprint", "device", "device_name", "dtype", "cuda", "driver", "schedcmp", "torch", "diffusers", "transformers",
    "numpy", "jax", "jax_devices",
)  # fmt: skip


def most_common(met: Sequence[Origin]) -> Origin:
    """The first of those that have what most have."""
    kinds = [tuple(said.environment.get(name) for name in _COMPARED) for said in met]
    return met[kinds.index(Counter(kinds).most_common(1)[0][0])]


def objection(said: Origin, lead: Origin, *, mixed: bool) -> str:
    """Why a worker must not make images beside `lead`; empty if it may.

    Args:
        mixed: other devices and versions are welcome; other weights never are.
    """
    differ = _differences(said, lead)
    if "fingerprint" not in differ and (mixed or (not differ and said.keys == lead.keys)):
        return ""
    text = ", ".join(f"{name} {a} instead of {b}" for name, (a, b) in differ.items()) or "another scheduler's code"
    return text + ("" if "fingerprint" in differ else "; executor: {ray: {mixed: true}} allows it")


def machine(said: Origin, lead: Origin) -> str:
    """A name for what the worker runs on: the lead's own only where all is the same."""
    differ = _differences(said, lead)
    return machine_of(said.environment, _COMPARED) if differ else said.machine


def _differences(said: Origin, lead: Origin) -> dict[str, tuple[Any, Any]]:
    pairs = ((name, (said.environment.get(name), lead.environment.get(name))) for name in _COMPARED)
    return {name: (a, b) for name, (a, b) in pairs if a != b}
