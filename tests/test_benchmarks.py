"""That the script for GPUs works before it meets one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_section_for_gpus_runs_on_shrunken_shapes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--dry-run",
        "--minutes",
        "4",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: result["error"] for name, result in found.items() if "error" in result} == {}
    assert not [name for name, result in found.items() if "skipped" in result]
    assert done.returncode == 0, done.stderr[-2000:]
    assert found["correctness"]["float32"]["not_bit_equal"] == []
    assert found["sd15"]["packed_over_loop"] > 0
