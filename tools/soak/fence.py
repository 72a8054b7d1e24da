"""A fence around commands that run in this process: who writes outside of a folder, starts a program, unpickles a class
or opens a connection is noted. It sees what Python does, and not what C libraries do by themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events whose arguments are paths that change; which of them
_CHANGING = {
    "os.remove": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "shutil.rmtree": (0,),
    "shutil.move": (0, 1), "shutil.copyfile": (1,),
}  # fmt: skip
_NEVER = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class"}
_ASKED = ("uname", "ldconfig", "fc-list")  # programs that libraries ask about this machine
_HARMLESS = ("/dev/null", "/dev/tty", "/proc/")


class _Fence:
    """There is one, as hooks cannot be taken off."""

    def __init__(self) -> None:
        self.around: tuple[str, ...] | None = None
        self.crossed: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.around is None:
            return
        if event in _NEVER:
            self._note(event, arguments)
        elif event == "open" and self._writes(arguments):
            self._look(event, arguments[0])
        elif event in _CHANGING:
            for place in _CHANGING[event]:
                self._look(event, arguments[place])

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        _, mode, flags = arguments
        return bool(set(mode or "") & set("wax+")) or bool(isinstance(flags, int) and flags & _WRITING)

    def _look(self, event: str, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):  # a file that is open already
            return
        around, self.around = self.around, None  # finding out opens nothing, but asks
        try:
            parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
            real = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
            if event == "open":
                real = os.path.realpath(real)
        finally:
            self.around = around
        if not real.startswith((*(around or ()), *_HARMLESS)):
            self._note(event, (real,))

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        told = f"{event} {arguments!r:.300}"
        if not any(name in told for name in _ASKED):
            self.crossed.append(told)


_fence: _Fence | None = None


@contextmanager
def fenced(*folders: Path) -> Iterator[list[str]]:
    """Gives what crosses the fence around these folders, a line each."""
    global _fence
    if _fence is None:
        _fence = _Fence()
        sys.addaudithook(_fence)
    _fence.crossed = []
    _fence.around = tuple(os.path.realpath(folder) for folder in folders)
    try:
        yield _fence.crossed
    finally:
        _fence.around = None
