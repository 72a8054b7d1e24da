"""Models that embed images and texts into one space: CLIP, SigLIP and SigLIP 2, in transformers' format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.layout import TEXTS
from schedcmp.checkpoint.quiet import quiet
from schedcmp.checkpoint.view import only
from schedcmp.checkpoint.weights import content_file, refuse_oversized, tensor_shapes
from schedcmp.errors import CheckpointError, one_line, raised_as
from schedcmp.files import user_path
from schedcmp.metrics.weights import origin_of
from schedcmp.pipelines.packages import install

Features = npt.NDArray[np.float64]  # (n, d), rows of length 1

_BATCH = 32
_LAST = ("visual_projection.weight", "vision_model.head.layernorm.weight")  # of CLIP, of SigLIP
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
# The statistics of the pixels that CLIP was trained with (Radford et al. 2021), where no file tells others
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def find_clip(model: str, *, progress: bool = False) -> Path:
    """The folder of a CLIP or SigLIP model in transformers' format.

    Args:
        model: a folder, or a hub id, which is fetched into the hub's cache.

    Raises:
        CheckpointError: there is none, it cannot be had, or it has no safetensors weights.
    """
    folder = user_path(model)
    if not folder.is_dir():
        from schedcmp.checkpoint.hub import fetch_model

        with raised_as(CheckpointError, "clip_model", CheckpointError):
            folder = fetch_model(model, progress=progress)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"clip_model: {model} has no {name}; give a model that transformers' save_pretrained() wrote"
            )
    config, weights = folder / "config.json", folder / "model.safetensors"
    refuse_oversized(config, tensor_shapes(weights).values())
    kind = read_json(config).get("model_type")
    if kind not in _KINDS:
        raise CheckpointError(
            f"clip_model: {model} is a model of type {kind!r}; give one of type {', '.join(map(repr, _KINDS))}"
        )
    return folder


class Clip:
    """A CLIP model on the CPU, in fp32."""

    _reader = "CLIPTokenizer"  # of texts, a class of transformers

    def __init__(self, folder: Path) -> None:
        self.weights = folder / "model.safetensors"
        self.origin = origin_of(self.weights, folder)  # tells one model from another
        self._folder = folder
        self._texts: dict[str, Features] = {}

    def images(self, images: Iterable[Image.Image]) -> Features:
        """Embeddings, one row per image, of which there must be one at least."""
        import torch

        left, rows = iter(images), []
        while batch := list(islice(left, _BATCH)):
            with torch.inference_mode():
                rows.append(_unit(self._model.get_image_features(**self._seen(batch))))
        return np.concatenate(rows)

    def text(self, text: str) -> Features:
        """The embedding (1, d) of a text, cut to what the model can read."""
        import torch

        if text not in self._texts:
            with torch.inference_mode():
                self._texts[text] = _unit(self._model.get_text_features(**self._read(text)))
        return self._texts[text]

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        with quiet(), self._only("config.json", "model.safetensors") as folder:
            return AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).float().eval()

    @property
    def width(self) -> int:
        """How many numbers an embedding has; 0 where the weights' names do not tell."""
        shapes = tensor_shapes(self.weights)
        return next((shapes[name][0] for name in _LAST if name in shapes), 0)

    def logit(self, image: Features, text: Features) -> float:
        """The cosine on the scale that the model learnt, and from where a sigmoid model counts it."""
        bias = getattr(self._model, "logit_bias", None)
        scaled = float(self._model.logit_scale.detach().exp()) * float((image * text).sum())
        return scaled if bias is None else scaled + float(bias.detach())

    def refuse_unreadable(self) -> None:
        """Raises CheckpointError if there is nothing that reads texts and images for it, before an image is made."""
        where = f"clip_model: {self._folder}"
        if not any((self._folder / name).is_file() for name in _VOCABULARIES):  # else one of no words would be made up
            raise CheckpointError(f"{where} has no vocabulary for its texts: {', '.join(_VOCABULARIES)}")
        try:
            _ = self._tokenizer, self._processing
        except Exception as error:  # of many kinds, from a missing package to a damaged file
            hint = "" if find_spec("sentencepiece") else f"; if it needs sentencepiece: {install(['sentencepiece'])}"
            raise CheckpointError(f"{where}: its texts or images cannot be read: {one_line(error)}{hint}") from error

    @cached_property
    def _tokenizer(self) -> Any:
        import transformers

        with quiet(), self._small_files() as folder:
            return getattr(transformers, self._reader).from_pretrained(folder, local_files_only=True)

    def _read(self, text: str) -> dict[str, Any]:
        return dict(self._tokenizer(text, truncation=True, return_tensors="pt"))

    def _small_files(self) -> AbstractContextManager[Path]:
        return self._only(*(path.name for path in self._folder.iterdir() if path.suffix in TEXTS and path.is_file()))

    def _only(self, *names: str) -> AbstractContextManager[Path]:
        return only(content_file(name, self._folder / name) for name in names)

    @cached_property
    def _processing(self) -> dict[str, Any]:
        path = self._folder / "preprocessor_config.json"
        config = read_json(path) if path.is_file() else {}
        return {"mean": _MEAN, "std": _STD} | {
            name: config[f"image_{name}"] for name in ("mean", "std") if f"image_{name}" in config
        }

    def _seen(self, images: Iterable[Image.Image]) -> dict[str, Any]:
        import torch

        return {"pixel_values": torch.from_numpy(np.stack([self._pixels(image) for image in images]))}

    def _pixels(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """(3, size, size): shortest side resized, centre cut out, normalised."""
        side = self._model.config.vision_config.image_size
        scale = side / min(image.size)
        width, height = (max(side, round(n * scale)) for n in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        cut = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) / 255
        normal = (cut - np.float32(self._processing["mean"])) / np.float32(self._processing["std"])
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


class Siglip(Clip):
    """SigLIP (Zhai et al. 2023, arXiv:2303.15343) or SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786).

    They were trained by a sigmoid, on texts in lower case that are padded to one length; images are squeezed into a
    square, or cut into so many patches. What reads both is transformers' own.
    """

    _reader = "AutoTokenizer"

    def _read(self, text: str) -> dict[str, Any]:
        length = self._model.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        return dict(self._tokenizer(text.lower(), **options))

    @cached_property
    def _processing(self) -> Any:
        from transformers import AutoImageProcessor

        with quiet(), self._small_files() as folder:
            # not torchvision's, which few have, so that all measure alike
            return AutoImageProcessor.from_pretrained(folder, use_fast=False, local_files_only=True)

    def _seen(self, images: Iterable[Image.Image]) -> dict[str, Any]:
        return dict(self._processing(images=[*images], return_tensors="pt"))


_KINDS = {"clip": Clip, "siglip": Siglip, "siglip2": Siglip}  # by `model_type` of config.json


@cache
def opened_clip(model: str, *, progress: bool = False) -> Clip:
    """One for all that read by it. Raises CheckpointError."""
    folder = find_clip(model, progress=progress)
    return _KINDS[read_json(folder / "config.json")["model_type"]](folder)


def clip_score(image: Features, text: Features) -> float:
    """100 times the cosine of an image's and a text's embedding (Hessel et al. 2021, who cut it off at 0)."""
    return float(100 * (image * text).sum())


def _unit(features: Any) -> Features:
    rows = getattr(features, "pooler_output", features).double()  # transformers 4 returns the tensor itself
    found: Features = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    return found


def read_images(paths: Sequence[Path]) -> Iterable[Image.Image]:
    """Opened one by one, so that a large folder need not fit into memory."""
    for path in paths:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP", "BMP"]) as image:  # for others Pillow starts programs
            yield image.convert("RGB")
