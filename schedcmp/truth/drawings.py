"""What the built-in checkpoints draw: colours, outlines, and other words for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Point = tuple[float, float]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 42),
    "orange": (248, 138, 28),
    "yellow": (250, 222, 58),
    "green": (46, 168, 70),
    "cyan": (70, 206, 222),
    "blue": (44, 84, 216),
    "purple": (132, 58, 180),
    "pink": (246, 130, 180),
    "brown": (122, 74, 40),
    "white": (244, 244, 244),
    "black": (26, 26, 30),
    "gray": (136, 140, 146),
}
SYNONYMS: dict[str, tuple[str, ...]] = {
    "gray": ("grey",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "circle": ("disc", "ball"),
    "square": ("box",),
    "cross": ("plus",),
    "ring": ("donut",),
    "diamond": ("rhombus",),
}


def accent(colour: str) -> tuple[float, ...]:
    """The second tone of a texture: lighter, or darker where the colour is light already."""
    base = COLOURS[colour]
    towards, share = (0.0, 0.4) if sum(base) / 3 > 185 else (255.0, 0.5)
    return tuple(value * (1 - share) + towards * share for value in base)


# --- outlines: corners around (0, 0) for a radius of 1, y pointing down


def _around(count: int, radius: Callable[[int], float], down: float = 0.0) -> list[Point]:
    """`count` corners, the first one at the top."""
    angles = [-math.pi / 2 + 2 * math.pi * i / count for i in range(count)]
    return [(radius(i) * math.cos(a), radius(i) * math.sin(a) + down) for i, a in enumerate(angles)]


def _heart() -> list[Point]:
    """The curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled to radius 1."""
    turns = [2 * math.pi * i / 60 for i in range(60)]
    ys = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(16 * math.sin(t) ** 3 / 16.5, -y / 15.5 - 0.04) for t, y in zip(turns, ys, strict=True)]


def _cross(arm: float = 1.0, half: float = 0.34) -> list[Point]:
    right = [(half, -arm), (half, -half), (arm, -half), (arm, half), (half, half), (half, arm)]
    return right + [(-x, -y) for x, y in right]


OUTLINES: dict[str, list[Point]] = {
    "circle": _around(72, lambda _: 1.0),
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": _around(3, lambda _: 1.1, down=0.14),
    "star": _around(10, lambda i: 0.46 if i % 2 else 1.1, down=0.05),
    "heart": _heart(),
    "diamond": [(0.0, -1.12), (0.74, 0.0), (0.0, 1.12), (-0.74, 0.0)],
    "ring": _around(72, lambda _: 1.0),
    "cross": _cross(),
}
RING_HOLE = 0.56  # of the radius


def drawn(shape: str, side: int, tilt: float) -> npt.NDArray[np.bool_]:
    """A shape alone, (side, side), in the middle, turned by `tilt` radians."""
    canvas = Image.new("1", (side, side))
    draw, radius = ImageDraw.Draw(canvas), 0.4 * side
    draw.polygon(_turned(OUTLINES[shape], side / 2, radius, tilt), fill=1)
    if shape == "ring":
        draw.polygon(_turned(OUTLINES["circle"], side / 2, radius * RING_HOLE, tilt), fill=0)
    return np.asarray(canvas)


def _turned(outline: list[Point], centre: float, radius: float, tilt: float) -> list[Point]:
    c, s = radius * math.cos(tilt), radius * math.sin(tilt)
    return [(centre + x * c - y * s, centre + x * s + y * c) for x, y in outline]
