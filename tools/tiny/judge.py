"""Reads a picture's attributes back, to measure whether a model drew what the caption said.

A small classifier, trained on fresh drawings; colours of plain drawings are also read without any network.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pad

from tools.tiny.shapes import COLOURS, OUTLINES, POSITIONS, RADII, TEXTURES, Drawing, Pixels, draw_many
from tools.tiny.training import Meter, cosine_rate, generators, save, set_rate
from tools.tiny.vae import to_tensor

Verdicts = dict[str, npt.NDArray[np.bool_]]

HEADS: dict[str, list[str]] = {
    "shape": list(OUTLINES),
    "colour": list(COLOURS),
    "background": list(COLOURS),
    "size": list(RADII),
    "position": list(POSITIONS),
    "texture": list(TEXTURES),
}
SEED = 2
DRAWINGS = 24_000
ITERATIONS = 2000
BATCH = 64
CHECKED = 1000  # drawings kept aside to measure the judge itself


class Judge(nn.Module):
    """Pictures (n, 3, 64, 64) in [-1, 1] to one row of scores per attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 24, 4, 2, 1), nn.ReLU()),
            *_convolution(24, 48, stride=2),
            *_convolution(48, 64),
            *_convolution(64, 96, stride=2),
            *_convolution(96, 96),
            *(nn.Flatten(), nn.Linear(96 * 8 * 8, 128), nn.ReLU()),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in HEADS.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x)
        return {name: head(features) for name, head in self.heads.items()}


def _convolution(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()


def load_judge(path: Path) -> Judge:
    """The judge saved at `path`, trained first if there is none."""
    judge = Judge()
    if path.exists():
        judge.load_state_dict(torch.load(path, weights_only=True))
    else:
        train(judge)
        save(path, judge.state_dict())
    return judge.eval()


def train(judge: Judge) -> None:
    drawings, images = zip(*draw_many(DRAWINGS, SEED), strict=True)
    pictures, answers = np.stack(images), _answers(drawings)
    optimizer = torch.optim.AdamW(judge.parameters(), fused=True)
    meter = Meter("judge")
    for iteration in range(ITERATIONS):
        rng, noise = generators(SEED, iteration)
        set_rate(optimizer, cosine_rate(iteration, ITERATIONS, 2e-3, warmup=20))
        rows = np.sort(rng.integers(0, DRAWINGS, BATCH))
        scores = judge(_spoil(to_tensor(pictures[rows]), rng, noise))
        loss = torch.stack([cross_entropy(scores[name], answers[name][rows]) for name in HEADS]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.add(iteration, loss=loss.item())


def _answers(drawings: tuple[Drawing, ...]) -> dict[str, Tensor]:
    told = [asdict(d) for d in drawings]
    return {name: torch.tensor([values.index(d[name]) for d in told]) for name, values in HEADS.items()}


def _spoil(x: Tensor, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    """Blur, contrast, tint and grain, as a generated picture may have them."""
    n = len(x)
    if rng.random() < 0.4:
        x = avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    contrast = 1 + 0.1 * torch.randn((n, 1, 1, 1), generator=noise)
    tint = 0.05 * torch.randn((n, 3, 1, 1), generator=noise)
    grain = rng.uniform(0, 0.12) * torch.randn(x.shape, generator=noise)
    return x * contrast + tint + grain


@torch.no_grad()
def verdicts(judge: Judge, images: Pixels, drawings: list[Drawing]) -> Verdicts:
    """Per attribute, which pictures (n, 64, 64, 3) show what the drawing says.

    `colours` is colour and background together; `pixels` the same without a network (of textured drawings,
    the background only).
    """
    scores = judge(to_tensor(images))
    told = [asdict(d) for d in drawings]
    right = {
        name: np.array([values[i] == d[name] for i, d in zip(scores[name].argmax(1), told, strict=True)])
        for name, values in HEADS.items()
    }
    colours = right["colour"] & right["background"]
    others = [right[name] for name in ("shape", "size", "position", "texture")]
    return {
        **right,
        "colours": colours,
        "pixels": np.array([_pixels_agree(i, d) for i, d in zip(images, drawings, strict=True)]),
        "all": np.logical_and.reduce([colours, *others]),
    }


def _pixels_agree(image: Pixels, drawing: Drawing) -> bool:
    """Whether the frame's median colour, and that of the pixels least like it, are the right ones."""
    frame = np.concatenate([image[:3], image[-3:], *np.hsplit(image[:, [0, 1, 2, -3, -2, -1]], 2)], axis=None)
    background = np.median(frame.reshape(-1, 3), axis=0)
    distance = np.abs(image - background).sum(-1)
    colour = np.median(image[distance > 0.6 * np.percentile(distance, 99.5)], axis=0)
    shape_agrees = drawing.texture != "plain" or nearest_colour(colour) == drawing.colour
    return nearest_colour(background) == drawing.background and shape_agrees


def nearest_colour(rgb: npt.NDArray[np.float64]) -> str:
    return min(COLOURS, key=lambda name: float(((rgb - np.array(COLOURS[name])) ** 2).sum()))


def check(judge: Judge) -> dict[str, float]:
    """The share of real drawings, not seen in training, that the judge reads rightly."""
    drawings, images = zip(*draw_many(CHECKED, SEED + 1), strict=True)
    return {name: float(ok.mean()) for name, ok in verdicts(judge, np.stack(images), list(drawings)).items()}
