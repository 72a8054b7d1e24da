"""`list-compatible`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schedcmp.backend.support import unknown_checkpoint
from schedcmp.checkpoint.adapters import find_adapter
from schedcmp.checkpoint.find import find_checkpoint
from schedcmp.cli.console import say, table
from schedcmp.cli.judging import judged
from schedcmp.errors import CheckpointError
from schedcmp.prepare.few_steps import few_steps
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep.parts.model import Model

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
    if with_jax and (why := unknown_checkpoint(checkpoint)):
        raise CheckpointError(f"backend jax cannot run {checkpoint.name}: {why}")
    few = list(few_steps(checkpoint, map(find_adapter, loras)))
    suited = {sampler for one in few for sampler in one.kind.suits}
    found = judged(checkpoint, suited, every_sigma_schedule=every_sigma_schedule, with_jax=with_jax)
    if as_json:
        say(json.dumps(found["rows"], indent=2))
        return
    config = checkpoint.scheduler_config
    say(f"{model}: noise schedule of {config.get('_class_name')}, {config.get('num_train_timesteps', 1000)} timesteps")
    if with_jax:
        _show_ways(found["rows"])
        return
    _show(found["rows"])
    for note in filter(None, [*(one.told for one in few), *checkpoint.remarks, found["left_out"]]):
        say(note)
    if not every_sigma_schedule:
        names = ", ".join(s for s in builtin_registry().sigma_schedules if s != "default")
        say(f"most also run with another sigma schedule ({names}), as in heun-karras: see --all")


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [
        (_marked(row), row["class"].removesuffix("Scheduler"), "yes" if row["listed"] else "no", row["reason"])
        for row in rows
    ]
    table(["scheduler", "class", "listed", "why"], lines, names=("scheduler",), left=("class", "why"))
    counts = {status: sum(row["status"] == status for row in rows) for status in _MARKS}
    told = ", ".join(f"{_MARKS[status]} {n} {status}" for status, n in counts.items() if n)
    say(f"{told}; listed: by diffusers' `compatibles`; `schedcmp verify` has the errors")


def _show_ways(rows: Sequence[Mapping[str, Any]]) -> None:
    ways = {row["name"]: row["jax"] for row in rows}
    lines = [
        (_marked(row), *("yes" if row["jax"][way] else "no" for way in ("steps", "scan")), row["jax"]["reason"])
        for row in rows
    ]
    table(["scheduler", "steps", "scan", "why not"], lines, names=("scheduler",), left=("why not",))
    steps, scan = (sum(way[kind] for way in ways.values()) for kind in ("steps", "scan"))
    say(f"{steps} run step by step (jax: {{solve: steps}}, the default), {scan} as whole solves (jax: {{solve: scan}})")
    exceptions = [name for name in ("lms", "ddpm") if ways[name]["steps"]]
    if exceptions:
        say(f"{' and '.join(exceptions)}, which the Flax pipelines of diffusers could not run, are among them")


def _marked(row: Mapping[str, Any]) -> str:
    return f"{_MARKS[row['status']]} {row['name']}"
