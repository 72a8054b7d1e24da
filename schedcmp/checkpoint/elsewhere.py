"""Components that a checkpoint takes from somewhere else: another VAE, or what a single file lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.weights import ContentFile, content_file, refuse_oversized, resolve_shards, tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import user_path


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
    return _in_folder(part.name, folder / part.name, weights, names)


def other_vae(name: str, checkpoint: Path) -> Elsewhere:
    """The VAE that a sweep names, for a checkpoint with these configs.

    Raises:
        CheckpointError: it is not there, is none, or has latents of another number of channels.
    """
    path = user_path(name)
    if path.is_file():
        tensors = _tensors(path)
        if not any(tensor.endswith("decoder.conv_in.weight") for tensor in tensors):
            raise CheckpointError(f"vae: {path} holds no VAE; give a VAE's folder or .safetensors file.")
        config = checkpoint / "vae/config.json"
        content = content_file("vae.safetensors", path), content_file("vae/config.json", config)
        return Elsewhere("vae", path, config, content)
    if not path.is_dir():
        raise CheckpointError(f"vae: {path}: no such folder or file; give a VAE's folder or .safetensors file.")
    path = path / "vae" if (path / layout.MODEL_INDEX).is_file() else path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"vae: {path} has no config.json; give a VAE's folder or .safetensors file.")
    part = layout.Component(path.name, "diffusers", "AutoencoderKL")
    names = [f"{path.name}/{file.name}" for file in path.iterdir()]
    weights = layout.choose_weights([part], names, None, str(path.parent))
    _check_channels(path, checkpoint)
    return _in_folder("vae", path, weights, names)


def controlnet(name: str) -> Elsewhere:
    """The ControlNet that a sweep names.

    Raises:
        CheckpointError: it is not there, or is none.
    """
    path = user_path(name)
    path = path / "controlnet" if (path / "controlnet/config.json").is_file() else path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"controlnet: {path} has no config.json; give a ControlNet's folder.")
    cls = str(layout.read_json(path / "config.json").get("_class_name", ""))
    if not (cls.isidentifier() and "ControlNet" in cls):
        raise CheckpointError(f"controlnet: {path} holds a {cls or 'model of no name'}, which is no ControlNet.")
    part = layout.Component(path.name, "diffusers", cls)
    names = [f"{path.name}/{file.name}" for file in path.iterdir()]
    weights = layout.choose_weights([part], names, None, str(path.parent))
    return _in_folder("controlnet", path, weights, names)


def _check_channels(path: Path, checkpoint: Path) -> None:
    own = checkpoint / "vae/config.json"
    key = "latent_channels"
    theirs, ours = (layout.read_json(p).get(key) if p.is_file() else None for p in (path / "config.json", own))
    if ours and theirs and ours != theirs:
        raise CheckpointError(
            f"vae: {path} has latents of {theirs} channels, and the checkpoint's have {ours}; use one that fits."
        )


def _tensors(path: Path) -> list[str]:
    if path.suffix != ".safetensors":
        raise CheckpointError(f"vae: {path} is no .safetensors file, and others are never loaded; convert it.")
    return list(tensor_shapes(path))


def _in_folder(name: str, folder: Path, weights: Sequence[str], names: Collection[str]) -> Elsewhere:
    """A component in a folder of its own; `weights` and `names` begin with the folder's name."""
    weights, indexes = resolve_shards(folder.parent, weights, names)
    shapes = [shape for weight in weights for shape in tensor_shapes(folder.parent / weight).values()]
    config = folder / "config.json"
    refuse_oversized(config, shapes)
    content, beside = (
        tuple(content_file(f"{name}/{Path(file).name}", folder.parent / file) for file in files)
        for files in ((f"{folder.name}/config.json", *weights), indexes)
    )
    return Elsewhere(name, folder, config, content, beside)
