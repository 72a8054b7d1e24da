"""A metric of one's own: `metrics: [auto, redness.Redness]`, with this folder on PYTHONPATH."""

from PIL.Image import Image

from schedcmp.metrics import Metric


class Redness(Metric):
    """The mean of the red channel, from 0 to 1."""

    name = "redness"
    label = "redness"
    higher = False

    def measure(self, image: Image, prompt: str) -> float | None:
        red, _, _ = image.split()
        return sum(i * n for i, n in enumerate(red.histogram())) / (255 * image.width * image.height)
