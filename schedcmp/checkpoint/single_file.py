"""A checkpoint in one .safetensors file, and the diffusers configs that it needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.weights import tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import user_path
from schedcmp.guard.private import single_file_config

_DENOISER = "model.diffusion_model."  # the prefix of Stable Diffusion's original layout


def config_folder(path: Path, config: str | None, *, progress: bool = False) -> Path:
    """The folder whose configs, the scheduler's among them, `from_single_file` will use for a file.

    Args:
        path: the file.
        config: a diffusers folder or a hub id; None for the hub id that diffusers infers from the tensors.
        progress: show the bars of a download.

    Raises:
        CheckpointError: the file is pickled, broken or no whole checkpoint, or its configs cannot be had.
    """
    shapes = _checkpoint_shapes(path)
    if config is not None and (folder := user_path(config)).is_dir():
        if not (folder / layout.MODEL_INDEX).is_file() or not (folder / layout.SCHEDULER_CONFIG).is_file():
            raise CheckpointError(
                f"config: {folder} is no diffusers folder; it needs {layout.MODEL_INDEX},"
                f" {layout.SCHEDULER_CONFIG} and the other components' configs (weights are not needed)."
            )
        return folder
    if config is not None and (config.count("/") != 1 or config.startswith((".", "~", "/"))):
        raise CheckpointError(f"config: {config} is neither a folder nor a hub id (owner/name); correct it.")
    from schedcmp.checkpoint import hub

    repository = config or _inferred_repository(path, shapes)
    try:
        return hub.fetch_configs(repository, progress=progress)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} needs the configs of {repository}. {error} Or set `config` to a local diffusers folder"
            " of the same architecture."
        ) from error


def _checkpoint_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix in layout.PICKLED:
        raise CheckpointError(
            f"{path} {layout.UNSAFE} StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)"
        )
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is no checkpoint; give a .safetensors file or a diffusers folder.")
    shapes = tensor_shapes(path)
    if (path.resolve().parent.parent / layout.MODEL_INDEX).is_file():
        parent = path.resolve().parent.parent
        raise CheckpointError(f"{path} is one component of a checkpoint; give the whole checkpoint: {parent}")
    if any(name.startswith("lora_") or ".lora" in name for name in shapes):
        raise CheckpointError(f"{path} is a LoRA; fuse it into a checkpoint with diffusers and give that.")
    return shapes


def _inferred_repository(path: Path, shapes: dict[str, tuple[int, ...]]) -> str:
    found = single_file_config(shapes)
    repository = str(found["pretrained_model_name_or_path"])
    denoiser = any(name.startswith(_DENOISER) for name in shapes)
    if ("stable-diffusion-v1-5" in repository and not denoiser) or "subfolder" in found:
        raise CheckpointError(
            f"{path} is in no layout that diffusers knows as a whole pipeline; set `config` to a diffusers"
            " folder of the same architecture, or convert the file with diffusers."
        )
    return repository


# How the tensors of a component are named in a single file; one that is not here is not looked for
_PREFIXES = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.", "text_encoders.clip_g.", "text_encoders.t5xxl."),
    "text_encoder_3": ("text_encoders.t5xxl.",),
}
_WORDS = {"vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}


def missing_parts(parts: Iterable[layout.Component], tensors: Iterable[str]) -> list[layout.Component]:
    """The components of the configs that a file has no tensors of."""
    prefixes = {name[: name.find(".", name.find(".") + 1) + 1] for name in tensors}
    starts = [p for p in parts if p.name in _PREFIXES]
    return [p for p in starts if not any(there.startswith(_PREFIXES[p.name]) for there in prefixes)]


def refuse_missing(path: Path, missing: Collection[layout.Component]) -> None:
    """Raises CheckpointError where there are any, with what to do about them."""
    if not missing:
        return
    names = [part.name for part in missing]
    told = " and ".join(f"no {_WORDS.get(name, name)}" for name in names)
    folder = (
        "`config` to a whole diffusers folder of the same architecture, and what the file lacks is taken from there"
    )
    vae = "`vae` to a folder or .safetensors file of one, as in model: {id: FILE, vae: VAE}"
    remedy = f"set {vae}; or set {folder}" if names == ["vae"] else f"set {folder}"
    raise CheckpointError(f"{path} holds {told}; {remedy}.")


def refuse_other_channels(path: Path, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Raises CheckpointError where the UNet reads other channels than its configs say, as one for inpainting does."""
    reads = shapes.get(f"{_DENOISER}input_blocks.0.0.weight", (0, 0))[1]
    config = folder / "unet/config.json"
    expected = read_json(config).get("in_channels") if config.is_file() else None
    if reads and expected and reads != expected:
        kind = " (9: an inpainting model)" if reads == 9 else ""
        raise CheckpointError(
            f"{path} has a UNet that reads {reads} channels{kind}, and its configs say {expected}; set `config` to a"
            " diffusers folder of the same architecture."
        )
