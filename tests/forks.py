"""The command in processes of their own that need not import everything first."""

from __future__ import annotations

import os
import resource
import signal
import sys
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent


def started(*words: object, told: Path | str = os.devnull, more_bytes: int | None = None) -> ForkServerProcess:
    """`schedcmp` with these words, on its way.

    Args:
        told: takes what it prints, standard error last.
        more_bytes: of memory to be had, from where all is imported.
    """
    process = _server().Process(target=_command, args=([*map(str, words)], told, more_bytes, dict(os.environ)))
    process.start()
    return process


@cache
def _server() -> ForkServerContext:
    """It has imported all that commands do."""
    server = get_context("forkserver")
    server.set_forkserver_preload(["warmed"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{_FOLDER}{os.pathsep}{_FOLDER.parent}")
        patch.setenv("MALLOC_ARENA_MAX", "1")  # each arena, one per thread, takes 64 MiB of a bound
        forkserver.ensure_running()
    return server


def ended(*words: object, told: Path, more_bytes: int | None = None) -> tuple[int | None, str]:
    """Its exit code, and what it printed."""
    process = started(*words, told=told, more_bytes=more_bytes)
    process.join()
    return process.exitcode, told.read_text()


def _command(words: list[str], told: Path | str, more_bytes: int | None, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    if more_bytes is not None:
        _limit(more_bytes)
    sys.argv = ["schedcmp", *words]
    from schedcmp.__main__ import command

    command()


def _limit(more_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
