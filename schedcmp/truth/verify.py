"""The oracle's table: every entry measured and judged on a checkpoint's noise schedule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from schedcmp.guard.foreign import contained
from schedcmp.registry.build import resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.entry import Entry
from schedcmp.registry.preflight import preflight
from schedcmp.truth.measure import Measurement, measure
from schedcmp.truth.noise import noise_schedule
from schedcmp.truth.verdict import Verdict, judge_measurement, mark_same

_USUAL_STEPS = 40
_ENTRIES_PER_PROCESS = 6  # fewer are measured before a process has imported torch


def verify(
    entries: Sequence[Entry],
    scheduler_config: Mapping[str, Any],
    advance: Callable[[str], None] = lambda name: None,
) -> list[Verdict]:
    """Measure and judge entries, in order, in as many processes as that is worth.

    Args:
        entries: what to measure.
        scheduler_config: of the checkpoint whose noise schedule is meant, as `registry.build.mended` leaves it.
        advance: called with each entry's name when it is finished.

    Raises:
        RegistryError: the checkpoint's noise schedule is not known. An entry that fails is a verdict.
    """
    noise_schedule(scheduler_config)
    verdicts = []
    for verdict in _each(partial(verdict_on, scheduler_config=dict(scheduler_config)), entries):
        advance(verdict.name)
        verdicts.append(verdict)
    return list(mark_same(verdicts))


def verdict_on(entry: Entry, scheduler_config: Mapping[str, Any]) -> Verdict:
    """Measure and judge one entry by itself; whatever its class raises is a verdict."""
    misfit = ""
    try:
        status, reason = judge(entry, scheduler_config)
        misfit = reason if status == "wrong" else ""
        recipe = resolve(entry, scheduler_config)
        with contained(), _one_thread():
            found = judge_measurement(measure(recipe, noise_schedule(scheduler_config)), misfit)
        if found.kind in ("floor", "stochastic, floor") and not found.why:
            found = replace(found, why="; ".join(preflight(recipe, _USUAL_STEPS).remarks))
    except Exception as error:  # a class from elsewhere may fail anywhere
        failed = Measurement(entry.name, False, (), failure=str(error) or type(error).__name__)
        return judge_measurement(failed, misfit)
    return found


def _each(work: Callable[[Entry], Verdict], entries: Sequence[Entry]) -> Iterator[Verdict]:
    processes = min(os.cpu_count() or 1, len(entries) // _ENTRIES_PER_PROCESS)
    if processes < 2:
        yield from map(work, entries)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(work, entries)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, and processes are parallel already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
