"""A page that follows a run."""

from __future__ import annotations

from time import monotonic

from schedcmp.report.page import write_page
from schedcmp.store.store import Store

EVERY_S = 10.0
_SHARE = 0.02  # of the run's time, at most: writing the page takes the longer, the more cells there are


class LivePage:
    """Writes the page of a run that goes on, every ten seconds or more seldom."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due = monotonic() + EVERY_S

    def update(self) -> None:
        """Write the page if it is due. To be called between cells, never beside a timed one. Raises RunError."""
        start = monotonic()
        if start < self._due:
            return
        write_page(self._store, running=True)
        end = monotonic()
        self._due = end + max(EVERY_S, (end - start) / _SHARE)
