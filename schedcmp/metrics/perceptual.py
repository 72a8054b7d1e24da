"""How far apart two images look: distances of a network's features, as people's judgements have weighed them.

Both go by VGG16 (Simonyan and Zisserman 2015, arXiv:1409.1556) as it was trained on ImageNet; how its channels are
weighed is in heads/, as LPIPS' and DISTS' authors have published it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.errors import CheckpointError
from schedcmp.metrics.metric import Comparison
from schedcmp.metrics.weights import origin_of, weights_file

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

VGG16 = "timm/vgg16.tv_in1k"  # torchvision's weights, as safetensors
_SMALLEST = 16  # pixels on a side: each of four poolings halves it
# Width and number of the 3 × 3 convolutions of each stage; the maximum of 2 × 2 is taken between stages
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# What is subtracted from pixels, and what they are divided by
_LPIPS = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Perceptual(Comparison):
    higher = False
    ratio = True
    paths = ("model",)

    def __init__(self, model: str = VGG16) -> None:
        """`model`: VGG16's weights under torchvision's names (`features.0.weight`, ...), in the safetensors format: a
        file, a folder with a model.safetensors, or a hub id."""
        self.model = model

    @cached_property
    def _file(self) -> Path:
        path, found = weights_file(self.model, self.column)
        if wrong := [name for name, shape in shapes().items() if found.get(name) != shape]:
            raise CheckpointError(
                f"{self.column}: {path} has no {wrong[0]} of VGG16's shape; give its weights under torchvision's names"
            )
        return path

    def prepare(self) -> None:
        assert self._file

    @property
    def origin(self) -> str:
        return origin_of(self._file)

    def compare(self, image: Image, converged: Image) -> float | None:
        import torch

        if image.size != converged.size or min(image.size) < _SMALLEST:
            return None
        with torch.inference_mode():
            of = (self._seen(_pixels(x), _loaded(self._file)) for x in (image, converged))
            return self._distance(zip(*of, strict=True))

    def _seen(self, x: Tensor, vgg16: Mapping[str, Tensor]) -> Iterable[Tensor]:
        """What of an image (1, 3, h, w) in [0, 1] is compared."""
        raise NotImplementedError

    def _distance(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
        raise NotImplementedError


class Lpips(_Perceptual):
    """The weighted square of the difference of VGG16's features, each of length 1, in the mean over the image."""

    name = "lpips"
    label = "LPIPS to the converged image"
    brief = "LPIPS"
    source = "Zhang et al. 2018 (arXiv:1801.03924), equation 1; its weights 0.1 for VGG16"

    def _seen(self, x: Tensor, vgg16: Mapping[str, Tensor]) -> Iterable[Tensor]:
        from torch.nn.functional import max_pool2d

        return stages(_scaled(2 * x - 1, *_LPIPS), vgg16, lambda h: max_pool2d(h, 2))

    def _distance(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
        apart = ((_of_length_1(x) - _of_length_1(y)).square().mean((2, 3)) for x, y in pairs)
        return sum(float(squares @ _heads()[f"lpips.{i}"]) for i, squares in enumerate(apart))


class Dists(_Perceptual):
    """How alike the means (texture) and the correlations (structure) of VGG16's features and of the pixels are."""

    name = "dists"
    label = "DISTS to the converged image"
    brief = "DISTS"
    source = "Ding et al. 2020 (arXiv:2004.07728), equations 4 to 7"

    def _seen(self, x: Tensor, vgg16: Mapping[str, Tensor]) -> Iterable[Tensor]:
        return x, *stages(_scaled(x, *_IMAGENET), vgg16, l2_pool)

    def _distance(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
        import torch

        texture, structure = (torch.cat(s, dim=1).flatten() for s in zip(*(_likeness(*p) for p in pairs), strict=True))
        alpha, beta = _heads()["dists.alpha"], _heads()["dists.beta"]
        return float(1 - (alpha @ texture + beta @ structure) / (alpha.sum() + beta.sum()))


def stages(x: Tensor, vgg16: Mapping[str, Tensor], pool: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """What comes out of the last convolution of each stage, after the rectifier; x is (n, 3, h, w), normalised."""
    from torch.nn.functional import conv2d, relu

    layer = 0  # as torchvision counts them: a convolution, a rectifier, and a pooling between stages
    for stage, (_, convolutions) in enumerate(_STAGES):
        if stage:
            x, layer = pool(x), layer + 1
        for _ in range(convolutions):
            x = relu(conv2d(x, vgg16[f"features.{layer}.weight"], vgg16[f"features.{layer}.bias"], padding=1))
            layer += 2
        yield x


def shapes() -> dict[str, tuple[int, ...]]:
    """Of VGG16's convolutions, by name."""
    found: dict[str, tuple[int, ...]] = {}
    layer, before = 0, 3
    for stage, (width, convolutions) in enumerate(_STAGES):
        layer += bool(stage)
        for _ in range(convolutions):
            found |= {f"features.{layer}.weight": (width, before, 3, 3), f"features.{layer}.bias": (width,)}
            layer, before = layer + 2, width
    return found


def l2_pool(x: Tensor) -> Tensor:
    """The root of the Hanning-weighted mean square of 3 × 3, which aliases less (Ding et al. 2020, equation 2)."""
    import torch
    from torch.nn.functional import conv2d

    window = torch.tensor([0.25, 0.5, 0.25])
    kernel = (window[:, None] * window).expand(x.shape[1], 1, 3, 3)
    return (conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def _likeness(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(1, c) each: of the channels' means, and of their spreads."""
    small = 1e-6
    means = [h.mean((2, 3)) for h in (x, y)]
    spreads = [(h - m[..., None, None]).square().mean((2, 3)) for h, m in zip((x, y), means, strict=True)]
    product = means[0] * means[1]
    shared = (x * y).mean((2, 3)) - product
    texture = (2 * product + small) / (means[0].square() + means[1].square() + small)
    return texture, (2 * shared + small) / (spreads[0] + spreads[1] + small)


def _of_length_1(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def _scaled(x: Tensor, mean: tuple[float, ...], spread: tuple[float, ...]) -> Tensor:
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(spread)[:, None, None]


def _pixels(image: Image) -> Tensor:
    """(1, 3, h, w) in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255).permute(2, 0, 1)[None]


@cache
def _loaded(file: Path) -> Mapping[str, Tensor]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name).float() for name in shapes()}


@cache
def _heads() -> dict[str, Any]:
    from safetensors.torch import load_file

    with as_file(files("schedcmp.metrics") / "heads" / "perceptual.safetensors") as path:
        return load_file(path)
