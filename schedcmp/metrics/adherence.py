"""Whether an image of an embedded checkpoint shows what its prompt asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedcmp.metrics.metric import Metric

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.checkpoint.source import Checkpoint

CHECKPOINTS = ("builtin:tiny", "builtin:tiny-flow")


class Adherence(Metric):
    """See `truth.adherence`."""

    name = "adherence"
    label = "prompt adherence"
    brief = "adherence"
    source = "a fixed rule on the drawings that the embedded checkpoints learnt"

    def refusal(self, checkpoint: Checkpoint) -> str:
        if checkpoint.name in CHECKPOINTS:
            return ""
        return (
            f"adherence reads the shapes and colours that {' and '.join(CHECKPOINTS)} draw, and {checkpoint.name}"
            " draws others; use clip, or leave it out"
        )

    def measure(self, image: Image, prompt: str) -> float | None:
        from schedcmp.truth.adherence import adherence

        return adherence(image, prompt)
