"""Textual inversion (Gal et al. 2022): words that text encoders learn from a file of a few vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.kinds import SAFETENSORS, Shapes
from schedcmp.checkpoint.weights import ContentFile, content_file, tensor_shapes
from schedcmp.errors import CheckpointError, PartError
from schedcmp.files import slug, user_path

# Of files for several encoders, as A1111 and ComfyUI name them: tensor → encoder and tokenizer
_OF_SEVERAL = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
_ONE = _OF_SEVERAL["clip_l"]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A word, and where its vectors are."""

    token: str
    file: ContentFile
    tensors: tuple[str, ...]  # of the file


def embedding(token: str, place: str, checkpoint: Path) -> Embedding:
    """A word that a sweep names, for a checkpoint with these configs.

    Raises:
        PartError: there is no such file, it holds no vectors, or ones that the text encoders cannot have.
    """
    path = user_path(place)
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; give a {SAFETENSORS} file of textual inversion.")
        if path.suffix != SAFETENSORS:
            raise CheckpointError(f"{path} is no {SAFETENSORS} file, and others are never loaded; convert it.")
        shapes = tensor_shapes(path)
        _check(path, shapes, checkpoint)
        return Embedding(token, content_file(f"embeddings/{slug(token)}{SAFETENSORS}", path), tuple(shapes))
    except CheckpointError as error:
        raise PartError(("embeddings", token), str(error)) from error


def _check(path: Path, shapes: Shapes, checkpoint: Path) -> None:
    if not shapes or (len(shapes) > 1 and not shapes.keys() <= _OF_SEVERAL.keys()):
        raise CheckpointError(
            f"{path} holds {len(shapes)} tensors, and a file of textual inversion has one, or clip_l and clip_g."
        )
    for tensor, shape in shapes.items():
        encoder, _ = _OF_SEVERAL.get(tensor, _ONE)
        config = checkpoint / encoder / "config.json"
        width = read_json(config).get("hidden_size") if config.is_file() else None
        if not 1 <= len(shape) <= 2 or shape[-1] != width:
            reads = f"reads vectors of {width}" if width else "is not there"
            raise CheckpointError(
                f"{path} has vectors of {shape[-1] if shape else 0} numbers, and the checkpoint's {encoder} {reads};"
                " use one that was made for this kind of checkpoint."
            )


def learn(pipeline: Any, words: tuple[Embedding, ...], folder: Path) -> None:
    """Teach a pipeline words, whose files are in this folder. Raises CheckpointError."""
    if words and not hasattr(pipeline, "load_textual_inversion"):
        raise CheckpointError(f"embeddings: {type(pipeline).__name__} of diffusers learns no words; leave them out.")
    for word in words:
        for vectors, encoder, tokenizer in _vectors(word, folder / word.file.name):
            pipeline.load_textual_inversion(
                vectors,
                token=word.token,
                text_encoder=getattr(pipeline, encoder),
                tokenizer=getattr(pipeline, tokenizer),
            )


def _vectors(word: Embedding, path: Path) -> Iterator[tuple[Any, str, str]]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    for name in word.tensors:
        encoder, tokenizer = _OF_SEVERAL.get(name, _ONE)
        yield {word.token: tensors[name]}, encoder, tokenizer
