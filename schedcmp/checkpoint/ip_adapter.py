"""An IP-Adapter (Ye et al. 2023): layers beside a UNet's cross-attention to the prompt, which attend to an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.adapters import chosen
from schedcmp.checkpoint.elsewhere import IMAGE_ENCODER, image_encoder
from schedcmp.checkpoint.kinds import SAFETENSORS, Shapes
from schedcmp.checkpoint.source import Checkpoint, with_part
from schedcmp.checkpoint.weights import content_file, tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import user_path

_WEIGHTS = Path("ip_adapter", f"ip_adapter{SAFETENSORS}")  # in the folder of what is loaded
_KEYS = "ip_adapter.1.to_k_ip.weight"  # reads what the cross-attention reads
# Of each kind that sees images, by a tensor that it alone has: which one reads what in the image encoder's config
_KINDS = {
    "image_proj.proj.weight": ("image_proj.proj.weight", "projection_dim"),
    "image_proj.latents": ("image_proj.proj_in.weight", "hidden_size"),  # Plus
    "image_proj.proj.3.weight": ("image_proj.proj.0.weight", "hidden_size"),  # Full Face
}


def with_ip_adapter(checkpoint: Checkpoint, place: str, encoder: str | None) -> Checkpoint:
    """The checkpoint with an adapter, which is loaded with it.

    Args:
        place: a .safetensors file, or a folder with one.
        encoder: the folder of the CLIP model that sees images; by default `image_encoder` beside the file, unless the
            checkpoint has one.

    Raises:
        CheckpointError: one of them is not there, is none, or does not fit the other or the UNet.
    """
    path = _file(place)
    shapes = tensor_shapes(path)
    reads, key = _reads(path, shapes)
    _refuse_other_unet(path, shapes, checkpoint)
    if encoder or not checkpoint.config(IMAGE_ENCODER):
        checkpoint = with_part(checkpoint, image_encoder(encoder or str(path.parent / IMAGE_ENCODER)))
    width, gives = shapes[reads][-1], checkpoint.config(IMAGE_ENCODER).get(key)
    if width != gives:
        raise CheckpointError(
            f"{path} reads images as {width} numbers, and the image encoder gives {gives}; name the one that it was"
            " made for: {path: ..., image_encoder: FOLDER}."
        )
    return replace(checkpoint, content=(*checkpoint.content, content_file(str(_WEIGHTS), path)), ip_adapter=True)


def places(checkpoint: Checkpoint) -> dict[str, str]:
    """Where an adapter and its image encoder were found, from any folder, by their keys in a sweep."""
    named = ((str(_WEIGHTS), "path"), (IMAGE_ENCODER, IMAGE_ENCODER))
    there = {file.name: file.path for file in checkpoint.content}
    there |= {part.name: part.path for part in checkpoint.elsewhere}
    return {key: str(there[name].absolute()) for name, key in named if name in there}


def _file(place: str) -> Path:
    path = user_path(place)
    path = path / chosen([file.name for file in path.iterdir()], None, str(path)) if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder; fetch it, and give its {SAFETENSORS} file.")
    if path.suffix != SAFETENSORS:
        raise CheckpointError(f"{path} is no {SAFETENSORS} file, and others are never loaded; convert it.")
    return path


def _reads(path: Path, shapes: Shapes) -> tuple[str, str]:
    """Its tensor that reads what the image encoder gives, and what says in its config how wide that is."""
    if _KEYS not in shapes or not any(name.startswith("image_proj.") for name in shapes):
        raise CheckpointError(f"{path} holds no IP-Adapter, which has image_proj... and {_KEYS}; give one.")
    found = next((kind for name, kind in _KINDS.items() if name in shapes), None)
    if found is None or found[0] not in shapes:
        raise CheckpointError(f"{path} reads no image but a face's embedding (FaceID); use a plain IP-Adapter.")
    return found


def _refuse_other_unet(path: Path, shapes: Shapes, checkpoint: Checkpoint) -> None:
    width, reads = shapes[_KEYS][-1], checkpoint.config("unet").get("cross_attention_dim")
    if width != reads:
        own = f"reads {reads}" if reads else "is not there"
        raise CheckpointError(
            f"{path} is for UNets that read prompts as {width} numbers, and that of {checkpoint.name} {own}; use an"
            " IP-Adapter of its family."
        )


def see(pipeline: Any, folder: Path) -> None:
    """Give a pipeline its adapter, whose file is in this folder. Raises whatever diffusers does."""
    pipeline.load_ip_adapter(
        str(folder),
        subfolder=_WEIGHTS.parent.name,
        weight_name=_WEIGHTS.name,
        image_encoder_folder=None,  # it has one
        local_files_only=True,
    )
