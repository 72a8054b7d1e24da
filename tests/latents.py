"""What schedulers are compared by."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from schedcmp.records import Cell, CellResult


class Latents:
    """The final latents of each cell: what the VAE is given is what schedulers are compared by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from schedcmp.engine import lane, solo

        self.of: dict[str, torch.Tensor] = {}
        for module in (lane, solo):
            finished = module.finished

            def keeping(cell: Cell, made: Any, *args: Any, finished: Any = finished) -> CellResult:
                self.of[cell.id] = made.latents.clone()
                return finished(cell, made, *args)

            monkeypatch.setattr(module, "finished", keeping)
