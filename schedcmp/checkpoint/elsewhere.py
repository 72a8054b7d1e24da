"""Components that a checkpoint takes from somewhere else: what a sweep names, or what a single file lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.kinds import GGUF, KINDS, Kind, Shapes
from schedcmp.checkpoint.weights import (
    ContentFile,
    content_file,
    gguf_shapes,
    refuse_oversized,
    resolve_shards,
    tensor_shapes,
)
from schedcmp.errors import CheckpointError, PartError
from schedcmp.files import user_path

# What the libraries call the weights of a model in a folder
_FILE_NAMES = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
IMAGE_ENCODER = "image_encoder"
# Components that a checkpoint need not name: library and class, where that is always the same
BESIDE = {"controlnet": ("diffusers", ""), IMAGE_ENCODER: ("transformers", "CLIPVisionModelWithProjection")}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A component, and where it is."""

    name: str  # "vae"
    path: Path  # its own folder, or a single file
    config: Path  # its config.json; for a single file the checkpoint's
    content: tuple[ContentFile, ...]  # what it adds to the fingerprint
    beside: tuple[ContentFile, ...] = ()  # what else loading reads: the indexes of shards


def part_of(folder: Path, part: layout.Component) -> Elsewhere | None:
    """A component in a folder of configs that has its weights too; None where it has not."""
    names = layout.file_names(folder)
    try:
        weights = layout.choose_weights([part], names, None, str(folder))
    except CheckpointError:
        return None
    return _in_folder(part.name, folder / part.name, weights, names)[0]


def other_part(name: str, place: str, checkpoint: Path) -> Elsewhere:
    """A component that a sweep names, for a checkpoint with these configs.

    Args:
        name: a key of `KINDS`.
        place: its folder, a pipeline's folder, or a single file.
        checkpoint: the folder of configs.

    Raises:
        PartError: it is not there, is none, is unsafe, or does not fit the checkpoint's other models.
    """
    try:
        own = next((c for c in components_of(checkpoint) if c.name == name), None)
        if own is None:
            there = ", ".join(c.name for c in components_of(checkpoint) if c.name in KINDS)
            raise CheckpointError(f"{checkpoint} has none that another one could replace; it has {there}.")
        if own.library not in layout.LIBRARIES:
            raise CheckpointError(
                f"{checkpoint}: its {name} is of {own.library}, which cannot be taken from elsewhere."
            )
        path = user_path(place)
        return _file(own, path, checkpoint) if path.is_file() else _folder(own, path, checkpoint)
    except CheckpointError as error:
        raise PartError((name,), str(error)) from error


def components_of(checkpoint: Path) -> list[layout.Component]:
    """Those of a folder of configs. Raises CheckpointError."""
    return layout.components(read_json(checkpoint / layout.MODEL_INDEX), layout.file_names(checkpoint), str(checkpoint))


def _file(own: layout.Component, path: Path, checkpoint: Path) -> Elsewhere:
    kind, config = KINDS[own.name], checkpoint / own.name / "config.json"
    if path.suffix not in kind.suffixes:
        raise CheckpointError(
            f"{path} is no {' or '.join(kind.suffixes)} file, and others are never loaded; convert it."
        )
    shapes = gguf_shapes(path) if path.suffix == GGUF else tensor_shapes(path)
    refuse_oversized(config, shapes.values())
    _check_shapes(kind, path, shapes, read_json(config))
    name = own.name + GGUF if path.suffix == GGUF else f"{own.name}/{_FILE_NAMES[own.library]}"
    content = content_file(name, path), content_file(f"{own.name}/config.json", config)
    return Elsewhere(own.name, path, config, content)


def _folder(own: layout.Component, path: Path, checkpoint: Path) -> Elsewhere:
    kind = KINDS[own.name]
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder or file; {_remedy(kind)}.")
    path = path / own.name if (path / layout.MODEL_INDEX).is_file() else path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path} has no config.json; {_remedy(kind)}.")
    part = layout.Component(path.name, own.library, own.class_name)
    names = [f"{path.name}/{file.name}" for file in path.iterdir()]
    weights = layout.choose_weights([part], names, None, str(path.parent))
    config = read_json(path / "config.json")
    _refuse_other(kind, path, config, read_json(checkpoint / own.name / "config.json"))
    found, shapes = _in_folder(own.name, path, weights, names)
    _check_shapes(kind, path, shapes, config)
    return found


def image_encoder(name: str) -> Elsewhere:
    """The CLIP model that an IP-Adapter sees images with.

    Raises:
        CheckpointError: it is not there, or is none.
    """
    path, (_, cls) = user_path(name), BESIDE[IMAGE_ENCODER]
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path} has no config.json; name the folder of the image encoder as `image_encoder`.")
    if read_json(path / "config.json").get("architectures") != [cls]:
        raise CheckpointError(f"{path} holds no {cls}; give the folder of an IP-Adapter's image encoder.")
    return _alone(IMAGE_ENCODER, path, layout.Component(path.name, "transformers", cls))


def controlnet(name: str) -> Elsewhere:
    """The ControlNet that a sweep names.

    Raises:
        CheckpointError: it is not there, or is none.
    """
    path = user_path(name)
    path = path / "controlnet" if (path / "controlnet/config.json").is_file() else path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"controlnet: {path} has no config.json; give a ControlNet's folder.")
    cls = str(read_json(path / "config.json").get("_class_name", ""))
    if not (cls.isidentifier() and "ControlNet" in cls):
        raise CheckpointError(f"controlnet: {path} holds a {cls or 'model of no name'}, which is no ControlNet.")
    return _alone("controlnet", path, layout.Component(path.name, "diffusers", cls))


def _alone(name: str, path: Path, part: layout.Component) -> Elsewhere:
    names = [f"{path.name}/{file.name}" for file in path.iterdir()]
    weights = layout.choose_weights([part], names, None, str(path.parent))
    return _in_folder(name, path, weights, names)[0]


def _remedy(kind: Kind) -> str:
    return f"give a {kind.word}'s folder or {' or '.join(kind.suffixes)} file"


def _refuse_other(kind: Kind, path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for key in kind.keys:
        if key in theirs and key in ours and theirs[key] != ours[key]:
            raise CheckpointError(
                f"{path} has {key}: {theirs[key]}, and the checkpoint's other models go with {ours[key]}; use a"
                f" {kind.word} that fits."
            )


def _check_shapes(kind: Kind, path: Path, shapes: Shapes, config: Mapping[str, Any]) -> None:
    if not kind.is_in(shapes):
        raise CheckpointError(f"{path} holds no {kind.word}; {_remedy(kind)}.")
    if found := kind.misfit(shapes, config):
        tensor, width, wanted = found
        raise CheckpointError(
            f"{path} has a {tensor} for {width} inputs, and its config says {wanted}; use a {kind.word} that fits."
        )


def _in_folder(name: str, folder: Path, weights: Sequence[str], names: Collection[str]) -> tuple[Elsewhere, Shapes]:
    """A component in a folder of its own, and its tensors; `weights` and `names` begin with the folder's name."""
    weights, indexes = resolve_shards(folder.parent, weights, names)
    shapes = {key: s for weight in weights for key, s in tensor_shapes(folder.parent / weight).items()}
    config = folder / "config.json"
    refuse_oversized(config, shapes.values())
    content, beside = (
        tuple(content_file(f"{name}/{Path(file).name}", folder.parent / file) for file in files)
        for files in ((f"{folder.name}/config.json", *weights), indexes)
    )
    return Elsewhere(name, folder, config, content, beside), shapes
