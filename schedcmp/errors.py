"""Everything schedcmp raises for its user.

SchedcmpError
├── RequestError           the request was wrong; nothing was written (exit code 2)
│   ├── SweepError         the sweep file or an override, with file:line
│   ├── RegistryError      an unknown scheduler, or an option that its class does not take
│   ├── CheckpointError    no such checkpoint, or one that cannot be read
│   │   └── PartError      a part that it takes from elsewhere
│   └── RunFolderError     an output folder that is busy, foreign or not writable
└── RunError               a run that had to stop; what was finished is kept (exit code 1)

A message says what is wrong, where, and the remedy. Only `cli` shows them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONG_WORD = re.compile(r"(\S{200})\S{200,}(\S{40})")


class SchedcmpError(Exception):
    """Base of all errors whose text is meant for the user. A word of hundreds of letters, which a value had, is told by
    its beginning and end."""

    def __str__(self) -> str:
        return _LONG_WORD.sub(r"\1…\2", super().__str__())


class RequestError(SchedcmpError):
    """The request cannot be carried out as it stands."""


class SweepError(RequestError):
    """A sweep file, or an override on the command line, is wrong."""


class RegistryError(RequestError):
    """A scheduler, sigma schedule or option that the registry cannot provide."""


class CheckpointError(RequestError):
    """A checkpoint that is missing, unreadable, unsafe or not a diffusion pipeline."""


class PartError(CheckpointError):
    """What a checkpoint takes from elsewhere, and its key in a sweep's `model`."""

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(key)}: {message}")
        self.key = key


class RunFolderError(RequestError):
    """A run's folder that cannot be used."""


class RunError(SchedcmpError):
    """A run stopped before its end for a reason outside the sweep (such as a full disk)."""


@contextmanager
def raised_as(kind: type[SchedcmpError], place: str, *caught: type[Exception]) -> Iterator[None]:
    """While open, what is caught is raised as an error of this kind, which begins with the place."""
    try:
        yield
    except caught as error:
        raise kind(f"{place}: {error}") from error


def one_line(error: BaseException | None) -> str:
    """What another library's error says, without its lines; the name of its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(value: object, most: int = 80) -> str:
    """A value as a message shows it: in quotes if it is a text, and its beginning alone if it is long."""
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
    return repr(short) if isinstance(value, str) else short
