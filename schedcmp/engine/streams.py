"""Two queues on a GPU: one for the models, one for all that lanes do between their models' answers.

Whatever makes the host wait inside a lane (noise from the host, a finished image) then waits for the lanes' queue
alone, while the models' queue has a batch to compute. Memory is safe without more: each queue follows the other at
every batch, before anything that was freed can be used again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


class Streams:
    """Anywhere but on CUDA there is one queue, and nothing here does anything.

    Attributes:
        overlap: whether a batch may be started before the one before it has been handed back.
    """

    def __init__(self, device: torch.device) -> None:
        self.overlap = device.type == "cuda"
        self._device = device
        self._lanes = torch.cuda.Stream(device) if self.overlap else None  # type: ignore[no-untyped-call]

    @property
    def lanes(self) -> AbstractContextManager[Any]:
        """While open, work goes to the lanes' queue."""
        return torch.cuda.stream(self._lanes) if self._lanes else nullcontext()

    def models_follow(self) -> None:
        """What the models do from here on waits for all that lanes have been asked to do."""
        if self._lanes:
            torch.cuda.current_stream(self._device).wait_stream(self._lanes)

    def models_done(self) -> Any:
        """An event: all that the models have been asked to do is done."""
        return torch.cuda.current_stream(self._device).record_event() if self._lanes else None

    def lanes_follow(self, ready: Any) -> None:
        """What lanes do from here on waits for the event."""
        if self._lanes:
            self._lanes.wait_event(ready)
