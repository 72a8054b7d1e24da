"""Components that a checkpoint takes from somewhere else: another VAE, or what a single file lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.weights import ContentFile, check_shards, content_file, tensor_shapes
from schedcmp.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A component, and where it is."""

    name: str  # "vae"
    path: Path  # its own folder, or a single file
    config: Path  # its config.json; for a single file the checkpoint's
    content: tuple[ContentFile, ...]  # what it adds to the fingerprint


def part_of(folder: Path, part: layout.Component) -> Elsewhere | None:
    """A component in a folder of configs that has its weights too; None where it has not."""
    names = layout.file_names(folder)
    try:
        weights = layout.choose_weights([part], names, None, str(folder))
    except CheckpointError:
        return None
    return _in_folder(part.name, folder / part.name, [folder / weight for weight in weights])


def other_vae(name: str, checkpoint: Path) -> Elsewhere:
    """The VAE that a sweep names, for a checkpoint with these configs.

    Raises:
        CheckpointError: it is not there, is none, or has latents of another number of channels.
    """
    path = Path(name).expanduser()
    if path.is_file():
        tensors = _tensors(path)
        if not any(tensor.endswith("decoder.conv_in.weight") for tensor in tensors):
            raise CheckpointError(f"vae: {path} holds no VAE; give a VAE's folder or .safetensors file.")
        return Elsewhere("vae", path, checkpoint / "vae/config.json", (content_file("vae/", path),))
    if not path.is_dir():
        raise CheckpointError(f"vae: {path}: no such folder or file; give a VAE's folder or .safetensors file.")
    path = path / "vae" if (path / layout.MODEL_INDEX).is_file() else path
    if not (path / "config.json").is_file():
        raise CheckpointError(f"vae: {path} has no config.json; give a VAE's folder or .safetensors file.")
    part = layout.Component(path.name, "diffusers", "AutoencoderKL")
    weights = layout.choose_weights([part], layout.file_names(path.parent), None, str(path.parent))
    _check_channels(path, checkpoint)
    return _in_folder("vae", path, [path.parent / weight for weight in weights])


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


def _in_folder(name: str, folder: Path, weights: list[Path]) -> Elsewhere:
    check_shards(folder.parent, [f"{folder.name}/{weight.name}" for weight in weights])
    for weight in weights:
        tensor_shapes(weight)
    files = [folder / "config.json", *weights]
    return Elsewhere(name, folder, files[0], tuple(content_file(f"{name}/{file.name}", file) for file in files))
