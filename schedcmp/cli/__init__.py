"""The command line: the only place that prints or exits."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from io import TextIOWrapper

from schedcmp.cli import process
from schedcmp.cli.app import app
from schedcmp.cli.process import NO_ROOM, UNFINISHED
from schedcmp.guard import shortage


def main() -> None:
    """Run the command of `sys.argv`. Raises SystemExit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that has no "µ" shows "?"
            stream.reconfigure(errors="replace")
    process.is_ours = True
    gc.freeze()
    try:
        app()
    finally:
        gc.freeze()  # else the process spends its last second looking for garbage


def command() -> None:
    """The `schedcmp` command: `main`, and the end of the process. Taking all functions and classes apart would be 0.2 s
    for nothing, so they stay as they are, unless somebody else still needs them."""
    try:
        main()
    except SystemExit as ended:
        busy = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
        if busy or sys.getprofile() or sys.gettrace() or not isinstance(ended.code, int):
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code)
    except Exception as error:
        if shortage.told(error) is None:
            raise
        os.write(2, NO_ROOM)  # not even for a message of its own
        os._exit(UNFINISHED)
