"""What of the registry runs how with `backend: jax`. Needs no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schedcmp.backend.linear import NotLinearError, plan
from schedcmp.errors import RegistryError
from schedcmp.registry.build import resolve
from schedcmp.registry.compat import Compatibility

_PROBE_STEPS = 10


@dataclass(frozen=True, slots=True)
class Ways:
    """How an entry runs; `reason` says why not, where a way is closed."""

    steps: bool  # step by step, as diffusers does it
    scan: bool  # its whole solve as one program
    reason: str = ""


def ways_of(found: Compatibility, scheduler_config: Mapping[str, Any]) -> Ways:
    """Step by step runs all that works with the checkpoint, as a whole what is deterministic and linear."""
    if found.status != "ok":
        return Ways(steps=False, scan=False, reason=found.reason)
    try:
        plan(resolve(found.entry, scheduler_config), _PROBE_STEPS)
    except NotLinearError as error:
        return Ways(steps=True, scan=False, reason=error.reason)
    except RegistryError as error:
        return Ways(steps=True, scan=False, reason=str(error))
    return Ways(steps=True, scan=True)
