"""`list-compatible`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from schedcmp.backend.support import unknown_checkpoint
from schedcmp.checkpoint.adapters import find_adapter
from schedcmp.checkpoint.find import find_checkpoint
from schedcmp.cli.console import say, table
from schedcmp.cli.showing import scheduler_config
from schedcmp.errors import CheckpointError
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.tasks import argument_names
from schedcmp.prepare.few_steps import few_steps
from schedcmp.registry.build import resolve, told_left_out
from schedcmp.registry.compat import OWN, Compatibility, compatibility, listed_classes
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import Registry, builtin_registry, class_entry
from schedcmp.sweep.parts.model import Model

if TYPE_CHECKING:
    from schedcmp.backend.ways import Ways
    from schedcmp.truth.verdict import Verdict

_MARKS = {"ok": "✓", "needs": "+", "wrong": "✗", "unsupported": "–"}


def list_schedulers(
    model: str,
    loras: Sequence[str] = (),
    *,
    every_sigma_schedule: bool,
    as_json: bool,
    with_jax: bool = False,
) -> None:
    """The registry against a checkpoint.

    Args:
        loras: what it wears, as `checkpoint.adapters.find_adapter` takes it.
        with_jax: say what runs how with `backend: jax`.

    Raises:
        CheckpointError: no such checkpoint or LoRA, one that makes nothing from prompts and images, or one that JAX
            cannot run.
    """
    checkpoint = find_checkpoint(Model(id=model))
    if why := unfit(checkpoint.pipeline_class, checkpoint.config, argument_names(checkpoint.pipeline_class).values()):
        raise CheckpointError(f"{model}: {why}")
    config = scheduler_config(model)
    if with_jax and (unknown := unknown_checkpoint(checkpoint)):
        raise CheckpointError(f"backend jax cannot run {checkpoint.name}: {unknown}")
    registry = builtin_registry()
    entries = list(_entries(registry, listed_classes(config), every_sigma_schedule))
    few = list(few_steps(checkpoint, map(find_adapter, loras)))
    found = list(compatibility(entries, config, {sampler for one in few for sampler in one.kind.suits}))
    if not every_sigma_schedule:
        found = _checked(found, config)
    ways = _ways(found, config) if with_jax else {}
    if as_json:
        more = {name: {"jax": asdict(way)} for name, way in ways.items()}
        say(json.dumps([_as_json(c) | more.get(c.entry.name, {}) for c in found], indent=2))
        return
    say(f"{model}: noise schedule of {config.get('_class_name')}, {config.get('num_train_timesteps', 1000)} timesteps")
    if with_jax:
        _show_ways(found, ways)
        return
    rows = [
        (
            f"{_MARKS[c.status]} {c.entry.name}",
            c.class_name.removesuffix("Scheduler"),
            "yes" if c.listed else "no",
            c.reason,
        )
        for c in found
    ]
    table(["scheduler", "class", "listed", "why"], rows, names=("scheduler",), left=("class", "why"))
    counts = {status: sum(c.status == status for c in found) for status in _MARKS}
    told = ", ".join(f"{_MARKS[status]} {n} {status}" for status, n in counts.items() if n)
    say(f"{told}; listed: by diffusers' `compatibles`; `schedcmp verify` has the errors")
    for note in filter(None, [*(one.told for one in few), *checkpoint.remarks, told_left_out(config)]):
        say(note)
    if not every_sigma_schedule:
        names = ", ".join(s for s in registry.sigma_schedules if s != "default")
        say(f"most also run with another sigma schedule ({names}), as in heun-karras: see --all")


def _ways(found: list[Compatibility], config: Mapping[str, object]) -> dict[str, Ways]:
    from schedcmp.backend.ways import ways_of

    return {c.entry.name: ways_of(c, config) for c in found}


def _show_ways(found: list[Compatibility], ways: Mapping[str, Ways]) -> None:
    rows = [
        (f"{_MARKS[c.status]} {c.entry.name}", *("yes" if way else "no" for way in (w.steps, w.scan)), w.reason)
        for c in found
        for w in (ways[c.entry.name],)
    ]
    table(["scheduler", "steps", "scan", "why not"], rows, names=("scheduler",), left=("why not",))
    steps, scan = (sum(getattr(w, way) for w in ways.values()) for way in ("steps", "scan"))
    say(f"{steps} run step by step (jax: {{solve: steps}}, the default), {scan} as whole solves (jax: {{solve: scan}})")
    exceptions = [name for name in ("lms", "ddpm") if ways[name].steps]
    if exceptions:
        say(f"{' and '.join(exceptions)}, which the Flax pipelines of diffusers could not run, are among them")


def _checked(found: list[Compatibility], config: Mapping[str, object]) -> list[Compatibility]:
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


def _as_json(c: Compatibility) -> dict[str, object]:
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
