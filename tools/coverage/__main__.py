"""`make coverage`: every text-to-image pipeline class of diffusers, as docs/pipelines.md.

python -m tools.coverage [--only CLASS...] [--again] [--json outputs/coverage.json] [--out docs/pipelines.md]

Rows of the page that are not measured anew stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.coverage.families import FAMILIES
from tools.coverage.measure import Row, code_state, measured
from tools.coverage.page import page, read, told, unmeasured


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="CLASS")
    parser.add_argument(
        "--again", action="store_true", help="measure what this state of the code was measured on before, too"
    )
    parser.add_argument("--json", type=Path, default=Path("outputs/coverage.json"), help="goes on with what is there")
    parser.add_argument("--out", type=Path, default=Path("docs/pipelines.md"))
    asked = parser.parse_args(arguments)
    rows = {name: Row(**row) for name, row in _read(asked.json).items() if name in FAMILIES}
    for name in asked.only:
        if name in rows and rows[name].code == code_state() and not asked.again:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measured(name, Path(folder) / name)
        print(f"{rows[name].seconds:6.1f} s  {name}  {rows[name].error}", file=sys.stderr, flush=True)
        _write(asked.json, rows)
    known = read(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else {}
    known |= {name: told(row) for name, row in rows.items()}
    found = [known[name] for name in FAMILIES if name in known]
    asked.out.write_text(page(found, unmeasured(known.keys())), encoding="utf-8")


def _read(path: Path) -> dict[str, dict[str, object]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write(path: Path, rows: dict[str, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: row.as_json() for name, row in rows.items()}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
