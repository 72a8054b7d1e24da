"""Ctrl-C at any moment: 130, a line or nothing, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Sends itself a signal when the module is looked for, as somebody's keyboard may
SENT_AT = """
import os, runpy, signal, sys
at, number = sys.argv[1], int(sys.argv[2])
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Sender())
sys.argv[:3] = ["schedcmp"]
runpy.run_module("schedcmp", run_name="__main__")
"""


def _ran(*words: object, code: str = SENT_AT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize(
    "module",
    [
        "schedcmp.guard.interrupts",
        "schedcmp.cli",
        "typer",
        "schedcmp.cli.looking",
        "schedcmp.registry.table",
        "rich.table",
    ],
)
def test_ctrl_c_while_python_imports_is_no_traceback(module: str) -> None:
    done = _ran(module, int(signal.SIGINT), "list-compatible")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in ("", "interrupted\n")


def test_ctrl_c_after_a_command_is_no_traceback() -> None:
    code = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n" + SENT_AT
    done = _ran("", 0, "--version", code=code)
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_where_nothing_can_be_raised_comes_again() -> None:
    """As while Python frees an object, or the lock of an import."""
    code = (
        "import os, signal, sys, time\n"
        "from schedcmp.guard.interrupts import end_at_once, interruptible\n"
        "class Freed:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(1000): pass\n"
        "end_at_once()\n"
        "try:\n"
        "    with interruptible():\n"
        "        Freed()\n"
        "        time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = _ran(code=code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_sigterm_ends_a_command_without_a_word() -> None:
    done = _ran("schedcmp.registry.table", int(signal.SIGTERM), "list-compatible")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


def test_ctrl_c_that_is_ignored_stays_so() -> None:
    """As in a job of a shell's background."""
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SENT_AT
    assert _ran("typer", int(signal.SIGINT), "--version", code=code).returncode == 0


def test_the_script_begins_where_the_module_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"schedcmp": "schedcmp.__main__:command"}


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_a_run(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schedcmp", "run", str(write_sweep()), "-o", str(tmp_path / "whole")]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - begun
    for share in (0.3, 0.7):
        out = str(tmp_path / f"out-{share}")
        process = subprocess.Popen([*command[:-1], out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(share * whole)
        for _ in range(3):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.02)
        _, err = process.communicate()
        assert process.returncode in (0, 130)
        assert "Traceback" not in err
