"""First questions, each answered once: schedulers that start from the same noise, level and prompt ask the same one.

Guidance is mixed in after the answer, and schedules of other lengths often start at one level, so that a sweep of few
steps has many lanes that begin alike.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

import torch

from schedcmp.checkpoint.layout import DENOISERS
from schedcmp.engine.calls.signature import content_of
from schedcmp.engine.lane import Lane
from schedcmp.guard.private import tree_map_tensors

_MOST = 32  # answers that are kept


class Openings:
    """The answers to first questions, and the lanes that wait for one that another lane has asked."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._asked: dict[Hashable, Lane] = {}
        self._followers: defaultdict[Lane, list[Lane]] = defaultdict(list)
        self._keys: dict[Lane, Hashable] = {}

    def known(self, lane: Lane) -> Any:
        """The answer to the lane's call, if it is a first question that was answered before; else None."""
        key = _key(lane)
        if key is None:
            return None
        if key in self._answers:
            self._answers.move_to_end(key)
            return _own(self._answers[key])
        self._keys[lane] = key
        return None

    def follows(self, lane: Lane) -> bool:
        """Whether another lane waits for the answer to the same question; then this one gets it from `told`."""
        key = self._keys.get(lane)
        if key is None or (leader := self._asked.setdefault(key, lane)) is lane:
            return False
        self._followers[leader].append(lane)
        del self._keys[lane]
        return True

    def told(self, lane: Lane, answer: Any) -> Iterator[tuple[Lane, Any]]:
        """The lanes that followed this one, with the answer of each. An error is no answer: they get None."""
        key = self._keys.pop(lane, None)
        if key is None:
            return
        del self._asked[key]
        failed = isinstance(answer, Exception)
        if not failed:
            self._answers[key] = _own(answer)
            while len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        for follower in self._followers.pop(lane, ()):
            yield follower, None if failed else _own(answer)


def _own(answer: Any) -> Any:
    """A copy, since a scheduler may write into what it is given."""
    return tree_map_tensors(torch.clone, answer)


def _key(lane: Lane) -> Hashable | None:
    """The content of a lane's first question of a denoiser; None for any other call."""
    call = lane.call
    if call is None or call.target not in DENOISERS or lane.asked != 1 or call.evaluations != 1:
        return None
    try:
        return (call.target, call.cells, call.processors.kind, content_of(call.arguments))
    except TypeError:  # what it holds cannot be compared
        return None
