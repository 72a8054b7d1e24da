"""Where in a cluster workers may be, from what Ray says of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedcmp.sweep.parts.making import Ray

_GPU_DEVICES = ("auto", "cuda")


@dataclass(frozen=True, slots=True)
class Share:
    """What each worker gets."""

    gpus: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one worker."""

    node: str  # Ray's id
    host: str  # address: several nodes may be on one host
    index: int  # among the node's places


def share_of(nodes: Sequence[Mapping[str, Any]], settings: Ray, device: str) -> Share:
    """What each worker gets, where the sweep does not say: a GPU and its part of the node's cores, or a whole node."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = settings.gpus_per_worker
    if gpus is None:
        gpus = int(device in _GPU_DEVICES and any(r.get("GPU", 0) >= 1 for r in resources))
    if settings.cpus_per_worker:
        return Share(gpus, settings.cpus_per_worker)
    cores = [int(r.get("CPU", 0) // (r["GPU"] if gpus else 1)) for r in resources if not gpus or r.get("GPU", 0) >= 1]
    return Share(gpus, min((n for n in cores if n), default=0 if gpus else 1))


def places(nodes: Iterable[Mapping[str, Any]], share: Share) -> list[Slot]:
    """All places, the first of each node before the second of any."""
    found = [
        Slot(node["NodeID"], node["NodeManagerAddress"], index)
        for node in nodes
        if node["Alive"]
        for index in range(_room(node["Resources"], share))
    ]
    return sorted(found, key=lambda place: place.index)


def _room(resources: Mapping[str, float], share: Share) -> int:
    wanted = {"GPU": share.gpus, "CPU": share.cpus}
    return min(int(resources.get(name, 0) // amount) for name, amount in wanted.items() if amount)
