"""`compare`: two runs, for people and for CI."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from schedcmp.cli.console import say, table, warn, warn_of
from schedcmp.cli.places import reading, tell_unreadable
from schedcmp.cli.process import UNFINISHED
from schedcmp.report.compare import Changes, compare
from schedcmp.report.words.parts import number
from schedcmp.store.several import opened

_SHOWN = 20


def compare_runs(old: str, new: str, *, max_rmse: float, max_slowdown: float | None, as_json_: bool) -> int:
    """Show what changed; returns the exit code: 1 past the limits.

    Raises:
        RunFolderError: no run there, or two that have nothing in common.
    """
    with reading(old) as one, reading(new) as other, opened(one) as before, opened(other) as after:
        found = compare(before, after, max_rmse=max_rmse)
        tell_unreadable(before, old)
        tell_unreadable(after, new)
    problems = found.problems(max_slowdown)
    if as_json_:
        say(json.dumps(_as_json(found, problems), indent=2))
    else:
        _show(found, problems)
    return UNFINISHED if problems else 0


def _show(found: Changes, problems: list[str]) -> None:
    if found.environment:
        head = ["", "old", "new"]
        table(head, [(name, str(a), str(b)) for name, (a, b) in found.environment.items()], left=head)
        say()
    counts = Counter(c.state for c in found.changes)
    say(f"cells    {', '.join(f'{count:,} {state}' for state, count in counts.items())}")
    moved = max((c.rmse for c in found.changes if c.rmse is not None), default=None)
    if moved is not None:
        say(f"images   the most moved one by RMSE {moved:.3g} of 255")
    if found.overall:
        say(f"latency  {number(found.overall)} times the old, over {len(found.slowdowns)} rows; the most changed:")
        most = sorted(found.slowdowns, key=lambda s: abs(math.log(s.ratio.value)), reverse=True)[:_SHOWN]
        rows = [(f"{s.scheduler}{s.setting}", str(s.steps), number(s.ratio), str(s.ratio.n)) for s in most]
        table(["scheduler", "steps", "new / old", "n"], rows, left=("scheduler",))
    for doubt in found.doubts if found.overall else ():
        warn(f"latencies must not be compared: {doubt}")
    warn_of(problems, _SHOWN, "; --json has them all")
    say("changed past the limits" if problems else "nothing changed past the limits")


def _as_json(found: Changes, problems: list[str]) -> dict[str, Any]:
    cells = [
        {
            "cell_id": c.cell.id,
            "scheduler": c.cell.scheduler,
            "steps": c.cell.steps,
            "seed": c.cell.seed,
            "prompt_name": c.cell.prompt_name,
            "state": c.state,
            "rmse": c.rmse,
            "largest": c.largest,
            "detail": c.detail,
        }
        for c in found.changes
    ]
    return {
        "accepted": not problems,
        "problems": problems,
        "cells": cells,
        "latency": [asdict(s) for s in found.slowdowns],
        "latency_overall": found.overall and asdict(found.overall),
        "doubts": list(found.doubts),
        "environment": {name: {"old": a, "new": b} for name, (a, b) in found.environment.items()},
    }
