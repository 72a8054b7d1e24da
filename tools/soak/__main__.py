"""`python -m tools.soak --minutes 20 --seed 0`: attack schedcmp for a while. Exits 1 if a promise did not hold."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
                "DIFFUSERS_VERBOSITY": "critical", "TRANSFORMERS_VERBOSITY": "error", "COLUMNS": "200"}  # fmt: skip


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long, in all")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random; moments of kills are not")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ATTACK", help=", ".join(names))
    parser.add_argument("--case", type=int, help="this case of the attack alone; its folder is kept")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="attacks side by side")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON")
    return parser.parse_args()


_AT_HOME = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME", "TMPDIR")


class Report:
    """What was tried, and what failed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.begun = seed, time.monotonic()
        self.cases: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.seen: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, Any]] = []

    def take(self, told: dict[str, Any]) -> None:
        attack = told["attack"]
        self.cases[attack] += 1
        self.seconds[attack] += told["seconds"]
        self.seen.setdefault(attack, Counter()).update(told["seen"])
        if told["failed"]:
            again = f"python -m tools.soak --only {attack} --seed {self.seed} --case {told['number']}"
            self.failures.append({k: told[k] for k in ("attack", "number", "failed", "done")} | {"again": again})
            print(f"FAILED   {again}\n         {' | '.join(told['done'])}\n{told['failed']}", flush=True)

    def count(self, attack: str, what: str) -> int:
        seen = self.seen.get(attack, {})
        return seen[what] if what in seen else self.cases[attack]

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "wall_s": time.monotonic() - self.begun, "cpus": os.cpu_count(),
            "attacks": {
                name: {"cases": self.cases[name], "seconds": self.seconds[name], "seen": dict(sorted(seen.items()))}
                for name, seen in self.seen.items()
            },
            "failures": self.failures,
        }  # fmt: skip


def _table(report: Report) -> str:
    from tools.soak.table import ATTACKS

    rows = [("attack", "tried", "failed", "seconds", "seen")]
    for name in report.seen:
        failed = sum(one["attack"] == name for one in report.failures)
        tried = f"{report.count(name, ATTACKS[name].counted):,} {ATTACKS[name].counted}"
        seen = ", ".join(f"{what} {count:,}" for what, count in sorted(report.seen[name].items()))
        rows.append((name, tried, str(failed), f"{report.seconds[name]:.0f}", seen))
    return "\n".join(f"{a:12} {b:>26} {c:>7} {d:>8}  {e}" for a, b, c, d, e in rows)


def main() -> int:
    os.environ.update(_ENVIRONMENT)
    from tools.soak.grounds import make, warm
    from tools.soak.lanes import Lane, run_lanes
    from tools.soak.table import ATTACKS

    asked = _arguments([*ATTACKS])
    report = Report(asked.seed)
    room = tempfile.mkdtemp(prefix="soak-")
    try:
        Path(room, "home").mkdir()
        os.environ |= dict.fromkeys(_AT_HOME, f"{room}/home")
        tempfile.tempdir = None  # it is looked up again
        warm()
        grounds = make(Path(room).resolve())
        left = 60 * asked.minutes - (time.monotonic() - report.begun)
        whole = sum(ATTACKS[name].share for name in asked.only)
        times = {name: max(left, 0) * ATTACKS[name].share / whole for name in asked.only}
        jobs = 1 if asked.case is not None else asked.jobs
        run_lanes(
            [Lane(grounds, asked.seed, n, jobs, times, asked.case, asked.case is not None) for n in range(jobs)],
            report.take,
        )
    finally:
        if asked.case is None:
            shutil.rmtree(room, ignore_errors=True)
        else:
            print(f"kept     {room}")
    print(_table(report))
    if asked.report:
        asked.report.write_text(json.dumps(report.as_json(), indent=1))
    for failure in report.failures:
        print(f"repeat   {failure['again']}")
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
