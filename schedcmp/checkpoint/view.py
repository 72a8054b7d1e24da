"""A checkpoint as a folder that has the files that were checked and no others, so that the libraries load just these.

They look for more than they are asked for: indexes of shards, pickled weights, adapters. What is not there cannot be
found.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from schedcmp.checkpoint.weights import ContentFile, content_file
from schedcmp.errors import CheckpointError


@contextmanager
def only(files: Iterable[ContentFile]) -> Iterator[Path]:
    """A folder with these files, which is gone afterwards.

    Raises:
        CheckpointError: one of them is not as it was when it was checked.
        OSError: it cannot be made.
    """
    with TemporaryDirectory(prefix="schedcmp-", ignore_cleanup_errors=True) as folder:
        for file in files:
            _refuse_changed(file)
            path = Path(folder) / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(file.path.resolve(), path)
        yield Path(folder)


def _refuse_changed(file: ContentFile) -> None:
    with suppress(OSError):
        if content_file(file.name, file.path) == file:
            return
    raise CheckpointError(f"{file.path} has changed since it was checked; repeat the command.")


def _link(target: Path, path: Path) -> None:
    """Where the system or its user may not make links, a copy."""
    with suppress(OSError):
        path.symlink_to(target)
        return
    with suppress(OSError):
        path.hardlink_to(target)
        return
    shutil.copyfile(target, path)
