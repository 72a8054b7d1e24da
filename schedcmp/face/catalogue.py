"""What the registry says of a pipeline or a scheduler's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from schedcmp.errors import RequestError
from schedcmp.face.unlogged import unlogged


class Suitability(NamedTuple):
    """Whether an entry works with a checkpoint: `ok`, `needs` a package, `wrong` or `unsupported`, and why."""

    status: str
    reason: str


@unlogged()
def schedulers(pipeline: Any) -> dict[str, Suitability]:
    """Every scheduler that schedcmp knows by its name, and whether it works.

    Args:
        pipeline: a diffusers pipeline, a scheduler's config, or what a sweep calls a model ("builtin:tiny", a folder).

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    from schedcmp.registry.compat import compatibility
    from schedcmp.registry.table import builtin_registry

    judged = compatibility(builtin_registry().entries.values(), scheduler_config(pipeline))
    return {found.entry.name: Suitability(found.status, found.reason) for found in judged}


@unlogged()
def build(
    name: str,
    pipeline: Any,
    *,
    sigmas: str = "default",
    shift: float | str = "",
    options: Mapping[str, Any] = MappingProxyType({}),
    seed: int = 0,
) -> Any:
    """A diffusers scheduler, ready to assign: `pipe.scheduler = build("dpmpp-2m-karras", pipe)`.

    Args:
        name: an entry's, or what A1111, ComfyUI, InvokeAI or diffusers call it.
        pipeline: what it is for, as `schedulers` takes it. A pipeline's class decides some options; its config alone
            does not tell that.
        sigmas: its sigma schedule.
        shift: of flow matching, instead of the checkpoint's: a number, or "0.5/1.15", base and maximum by the size.
        options: constructor options of its class, instead of those that it has.
        seed: for the few classes that draw their own noise.

    Raises:
        RegistryError: there is no such scheduler, or this checkpoint cannot have it.
    """
    from schedcmp.registry.build import resolve
    from schedcmp.registry.table import builtin_registry

    entry = builtin_registry().entry(name, sigmas)
    entry = entry.with_shift(str(shift)) if shift else entry
    changed = replace(entry, options={**entry.options, **options})
    return resolve(changed, scheduler_config(pipeline)).build(seed)


def scheduler_config(pipeline: Any) -> dict[str, Any]:
    """The scheduler config of a checkpoint, with its pipeline's class where that is known. Raises RequestError."""
    from schedcmp.registry.build import mended

    if isinstance(pipeline, str):
        from schedcmp.prepare import scheduler_config_of

        return scheduler_config_of(pipeline)
    if isinstance(pipeline, Mapping):
        return dict(pipeline)
    scheduler: Any = getattr(pipeline, "scheduler", None)
    if not hasattr(scheduler, "config"):
        kind = type(pipeline).__name__
        raise RequestError(f"expected a diffusers pipeline, a scheduler's config or a checkpoint's name, got {kind}")
    return mended({"_class_name": type(scheduler).__name__, **scheduler.config}, type(pipeline).__name__)
