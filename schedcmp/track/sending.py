"""Sending a run to every place that its sweep names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from schedcmp.errors import RequestError
from schedcmp.report.answer import Answer
from schedcmp.store.store import Store
from schedcmp.track.record import record
from schedcmp.track.trackers import send

SENT = "tracked"  # the name under which the store keeps what runs are called elsewhere


def track(store: Store, places: Iterable[str], answers: Sequence[Answer], written: Sequence[Path]) -> Iterator[str]:
    """Send a run to each place; a sentence for each that it could not be sent to. What was sent before is sent to the
    same run there."""
    sent = dict(store.meta(SENT) or {})
    for address in places:
        try:
            sent[address] = send(address, record(store, answers, written), sent.get(address, ""))
        except RequestError as error:
            yield str(error)
            continue
        store.note(SENT, sent)
