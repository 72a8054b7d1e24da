"""What `list-compatible` says of a checkpoint: the registry's judgement, and the oracle's on what it says works."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypedDict

from schedcmp.checkpoint.source import Checkpoint
from schedcmp.cli.process import starting
from schedcmp.cli.remembering import remembered
from schedcmp.errors import CheckpointError
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.tasks import argument_names
from schedcmp.registry.build import mended, resolve, told_left_out
from schedcmp.registry.compat import OWN, Compatibility, compatibility, listed_classes
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import ENTRY_POINTS, Registry, builtin_registry, class_entry

if TYPE_CHECKING:
    from schedcmp.truth.verdict import Verdict


class Judged(TypedDict):
    """What is said of a checkpoint."""

    rows: list[dict[str, Any]]  # of each entry, as `--json` prints it
    left_out: str  # of the checkpoint's scheduler config


def judged(checkpoint: Checkpoint, suited: Collection[str], *, every_sigma_schedule: bool, with_jax: bool) -> Judged:
    """The registry's entries against a checkpoint; remembered, as it takes seconds, unless packages add entries, whose
    code may be anywhere.

    Args:
        suited: as `compat.judge` takes it.

    Raises:
        CheckpointError: it makes nothing from prompts and images.
    """
    asked = [checkpoint.pipeline_class, checkpoint.scheduler_json, sorted(suited), every_sigma_schedule, with_jax]
    index = checkpoint.config("")
    parts = [checkpoint.config(name) for name, value in index.items() if isinstance(value, list)]

    def find() -> Judged:
        with starting():
            return _judged(checkpoint, suited, every_sigma_schedule=every_sigma_schedule, with_jax=with_jax)

    return find() if entry_points(group=ENTRY_POINTS) else remembered([*asked, index, parts], find, _read)


def _read(found: Any) -> Judged:
    return Judged(rows=[{**row} for row in found["rows"]], left_out=str(found["left_out"]))


def _judged(checkpoint: Checkpoint, suited: Collection[str], *, every_sigma_schedule: bool, with_jax: bool) -> Judged:
    arguments = argument_names(checkpoint.pipeline_class).values()
    if why := unfit(checkpoint.pipeline_class, checkpoint.config, arguments):
        raise CheckpointError(f"{checkpoint.spec.model}: {why}")
    config = mended(checkpoint.scheduler_config, checkpoint.pipeline_class)
    entries = list(_entries(builtin_registry(), listed_classes(config), every_sigma_schedule))
    found = list(compatibility(entries, config, suited))
    if not every_sigma_schedule:
        found = _checked(found, config)
    rows = [_row(c) for c in found]
    if with_jax:
        from schedcmp.backend.ways import ways_of

        rows = [row | {"jax": asdict(ways_of(c, config))} for row, c in zip(rows, found, strict=True)]
    return Judged(rows=rows, left_out=told_left_out(config))


def _checked(found: list[Compatibility], config: Mapping[str, Any]) -> list[Compatibility]:
    """What is said to work is run on data whose exact solution is known; what does not converge there is wrong.

    What was made for distilled checkpoints solves another problem, and is not asked. The checkpoint's own scheduler is
    what its makers chose, whatever it does there.
    """
    from schedcmp.truth.quick import quick

    verdicts = quick([resolve(c.entry, config) for c in found if c.status == "ok" and not c.entry.suits], config)
    return [_with_verdict(c, verdicts[c.entry.name]) if c.entry.name in verdicts else c for c in found]


def _with_verdict(c: Compatibility, verdict: Verdict) -> Compatibility:
    said = ", ".join(filter(None, (verdict.text.partition(" (to")[0], verdict.why)))
    if verdict.kind == "does not converge" and c.reason != OWN:
        return replace(c, status="wrong", reason=said)
    return replace(c, reason="; ".join(filter(None, (c.reason, said))))


def _entries(registry: Registry, listed: set[str], every_sigma_schedule: bool) -> Iterator[Entry]:
    known = {e.class_name for e in registry.entries.values()}
    for name in sorted(listed - known):
        yield class_entry(name)
    seen = set()
    for entry in registry.entries.values():
        for sigmas in registry.sigma_schedules.values() if every_sigma_schedule else ():
            variant = entry.with_sigmas(sigmas)
            if variant.name not in registry.entries and variant.name not in seen:
                seen.add(variant.name)
                yield variant
        yield entry


def _row(c: Compatibility) -> dict[str, Any]:
    return {
        "name": c.entry.name,
        "class": c.class_name,
        "status": c.status,
        "reason": c.reason,
        "listed": c.listed,
        "sigma_schedule": c.entry.sigmas.name,
        "family": c.entry.family,
        "order": c.entry.order,
        "deterministic": None if c.entry.noise is None else not c.entry.noise,
        "nfe": c.entry.nfe,
    }
