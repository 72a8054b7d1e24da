"""`report.html`: a run as one page that opens from disk. It needs no server, no network and no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from schedcmp.errors import RunError
from schedcmp.report.answer import Answer, answer
from schedcmp.report.inert import repeats
from schedcmp.report.page.data import page_data
from schedcmp.report.page.render import render
from schedcmp.report.page.thumbs import thumbnails
from schedcmp.store.several import Shown

__all__ = ["LivePage", "write_page"]

_EVERY_S = 10.0
_SHARE = 0.02  # of the run's time, at most: writing the page takes the longer, the more cells there are


def write_page(
    store: Shown,
    *,
    running: bool = False,
    inert: Mapping[str, str] | None = None,
    answers: Sequence[Answer] | None = None,
) -> Path:
    """Write `report.html` into a run's folder, and thumbnails of large images beside it.

    Args:
        running: the run goes on. The page then reloads itself, and cells are not searched for repeated images.
        inert: what cells repeat, by id, where that is known already (see `report.inert`).
        answers: what the run answers, likewise.

    Raises:
        RunError: the folder cannot be written.
    """
    cells = list(store.cells())
    if inert is None:
        inert = {} if running else repeats(cells, store.folder, store.fingerprints()).cells
    if answers is None:
        answers = answer(cells, store.references().values(), known=store.readings())
    try:
        thumbs = thumbnails(cells, store.folder)
    except OSError as error:
        raise RunError(f"{store.folder / 'thumbs'}: cannot be written: {error.strerror or error}") from error
    return store.write_text("report.html", render(page_data(store, cells, thumbs, inert, answers, running=running)))


class LivePage:
    """Writes the page of a run that goes on, every ten seconds or more seldom."""

    def __init__(self, store: Shown) -> None:
        self._store = store
        self._due = monotonic() + _EVERY_S

    def update(self) -> None:
        """Write the page if it is due. To be called between cells, never beside a timed one. Raises RunError."""
        start = monotonic()
        if start < self._due:
            return
        write_page(self._store, running=True)
        end = monotonic()
        self._due = end + max(_EVERY_S, (end - start) / _SHARE)
