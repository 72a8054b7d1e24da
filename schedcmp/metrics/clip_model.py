"""What a CLIP model says of images: how well they fit their prompts, and how they differ from real ones as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from schedcmp.checkpoint.layout import TEXTS, read_json
from schedcmp.checkpoint.view import only
from schedcmp.checkpoint.weights import content_file, refuse_oversized, tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import user_path

Features = npt.NDArray[np.float64]  # (n, d), rows of length 1

_BATCH = 32
_BANDWIDTH, _SCALE = 10.0, 1000.0  # Jayasumana et al. 2024
# The statistics of the pixels that CLIP was trained with (Radford et al. 2021), where no file tells others
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def find_clip(model: str, *, progress: bool = False) -> Path:
    """The folder of a CLIP model in transformers' format.

    Args:
        model: a folder, or a hub id, which is fetched into the hub's cache.

    Raises:
        CheckpointError: there is none, it cannot be had, or it has no safetensors weights.
    """
    folder = user_path(model)
    if not folder.is_dir():
        from schedcmp.checkpoint.hub import fetch_model

        try:
            folder = fetch_model(model, progress=progress)
        except CheckpointError as error:
            raise CheckpointError(f"clip_model: {error}") from error
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"clip_model: {model} has no {name}; give a CLIP model that transformers' save_pretrained() wrote"
            )
    config, weights = folder / "config.json", folder / "model.safetensors"
    refuse_oversized(config, tensor_shapes(weights).values())
    kind = read_json(config).get("model_type")
    if kind != "clip":
        raise CheckpointError(f"clip_model: {model} is a model of type {kind!r}; give one of type 'clip'")
    return folder


class Clip:
    """A CLIP model on the CPU, in fp32."""

    def __init__(self, folder: Path) -> None:
        weights = (folder / "model.safetensors").stat()
        self.origin = f"{folder.resolve()} {weights.st_size} {weights.st_mtime_ns}"  # tells one model from another
        self._folder = folder
        self._texts: dict[str, Features] = {}

    def images(self, images: Iterable[Image.Image]) -> Features:
        """Embeddings, one row per image, of which there must be one at least."""
        import torch

        pixels, rows = map(self._pixels, images), []
        while batch := list(islice(pixels, _BATCH)):
            with torch.inference_mode():
                seen = self._model.vision_model(pixel_values=torch.from_numpy(np.stack(batch)))
                rows.append(_unit(self._model.visual_projection(seen.pooler_output)))
        return np.concatenate(rows)

    def text(self, text: str) -> Features:
        """The embedding (1, d) of a text, cut to what the model can read."""
        import torch

        if text not in self._texts:
            tokens = self._tokenizer(text, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                read = self._model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
                self._texts[text] = _unit(self._model.text_projection(read.pooler_output))
        return self._texts[text]

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPModel

        with self._only("config.json", "model.safetensors") as folder:
            return CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).float().eval()

    @property
    def scale(self) -> float:
        """What it learnt to multiply cosines with."""
        return float(self._model.logit_scale.detach().exp())

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        texts = [path.name for path in self._folder.iterdir() if path.suffix in TEXTS and path.is_file()]
        with self._only(*texts) as folder:
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def _only(self, *names: str) -> AbstractContextManager[Path]:
        return only(content_file(name, self._folder / name) for name in names)

    @cached_property
    def _processing(self) -> dict[str, Any]:
        path = self._folder / "preprocessor_config.json"
        config = read_json(path) if path.is_file() else {}
        return {"size": self._model.config.vision_config.image_size, "mean": _MEAN, "std": _STD} | {
            name: config[f"image_{name}"] for name in ("mean", "std") if f"image_{name}" in config
        }

    def _pixels(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """(3, size, size): shortest side resized, centre cut out, normalised."""
        side = self._processing["size"]
        scale = side / min(image.size)
        width, height = (max(side, round(n * scale)) for n in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        cut = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) / 255
        normal = (cut - np.float32(self._processing["mean"])) / np.float32(self._processing["std"])
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


@cache
def opened_clip(model: str, *, progress: bool = False) -> Clip:
    """One for all that read by it. Raises CheckpointError."""
    return Clip(find_clip(model, progress=progress))


def clip_score(image: Features, text: Features) -> float:
    """100 times the cosine of an image's and a text's embedding (Hessel et al. 2021, who cut it off at 0)."""
    return float(100 * (image * text).sum())


def cmmd(made: Features, real: Features) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024, arXiv:2401.09603): 1000 times the unbiased estimate of the
    squared MMD with a Gaussian kernel of σ 10. 0 for two samples of one distribution, give or take chance.

    Needs two images of each at least.
    """
    return _SCALE * (_off_diagonal_mean(made) + _off_diagonal_mean(real) - 2 * float(_kernel(made, real).mean()))


def _kernel(x: Features, y: Features) -> npt.NDArray[np.float64]:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    kernel: npt.NDArray[np.float64] = np.exp(-squared / (2 * _BANDWIDTH**2))
    return kernel


def _off_diagonal_mean(x: Features) -> float:
    n = len(x)
    return (float(_kernel(x, x).sum()) - n) / (n * (n - 1))


def _unit(features: Any) -> Features:
    rows = features.double()
    found: Features = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    return found


def read_images(paths: Sequence[Path]) -> Iterable[Image.Image]:
    """Opened one by one, so that a large folder need not fit into memory."""
    for path in paths:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP", "BMP"]) as image:  # for others Pillow starts programs
            yield image.convert("RGB")
