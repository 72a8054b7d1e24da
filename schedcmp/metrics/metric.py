"""What a metric is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from schedcmp.readings import Reading

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.checkpoint.source import Checkpoint


class Metric:
    """A number that is read off an image and its prompt.

    Class attributes say how to read it, `measure` takes it; the rest may stay as it is here. The constructor takes the
    options that a sweep gives: `metrics: [{name: mine, metric: my_package.Mine, options: {strength: 2}}]`.
    """

    name: ClassVar[str]  # a column of results.csv
    label: ClassVar[str]  # "CLIP score"
    brief: ClassVar[str] = ""  # in sentences; the label by default
    unit: ClassVar[str] = ""
    higher: ClassVar[bool | None] = True  # more is better; None: neither end is
    ratio: ClassVar[bool] = False  # positive, and compared as ratios
    decides: ClassVar[bool] = True  # an answer may go by it without being asked to
    source: ClassVar[str] = ""  # where it is defined
    paths: ClassVar[tuple[str, ...]] = ()  # options that may be places on the disk

    called: str = ""  # its name in this sweep, where that is another one

    def refusal(self, checkpoint: Checkpoint) -> str:
        """Why it means nothing on this checkpoint, or "". Nothing is loaded yet."""
        return ""

    def prepare(self) -> None:
        """Load what it needs; before an image is made. Raises CheckpointError."""

    @property
    def origin(self) -> str:
        """What it is measured with: values of another origin are taken again."""
        return ""

    @property
    def told(self) -> str:
        """What the user should know of how it is measured, or ""."""
        return ""

    def measure(self, image: Image, prompt: str) -> float | None:
        """Of an RGB image; None where it has no meaning."""
        raise NotImplementedError

    def measure_frames(self, frames: Sequence[Image], prompt: str) -> float | None:
        """Of an image, or of a video's frames: the mean over them."""
        return _mean([self.measure(frame, prompt) for frame in frames])

    @property
    def column(self) -> str:
        return self.called or self.name

    @property
    def reading(self) -> Reading:
        label = self.label if not self.called else f"{self.label} ({self.called})"
        facts: dict[str, Any] = {"higher": self.higher, "ratio": self.ratio, "unit": self.unit, "decides": self.decides}
        return Reading(self.column, label, self.brief or label, **facts)


class Comparison(Metric):
    """A number that is read off an image and the converged one of its prompt and seed, see `truth.reference`: of what
    draws no noise, where references are made. Asking for one asks for references."""

    decides = False  # each setting has converged images of its own, and RMSE to them an uncertainty

    def compare(self, image: Image, converged: Image) -> float | None:
        """Of RGB images; None where it has no meaning."""
        raise NotImplementedError

    def compare_frames(self, frames: Sequence[Image], converged: Sequence[Image]) -> float | None:
        """Likewise, or of the frames of videos: the mean over them."""
        if len(frames) != len(converged):
            return None
        return _mean([self.compare(*pair) for pair in zip(frames, converged, strict=True)])


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found and len(found) == len(values) else None
