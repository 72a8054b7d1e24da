"""A checkpoint in one .safetensors file, and the diffusers configs that it needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.weights import tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import user_path

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
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    # Its tests look at names and shapes only, so that the header is enough.
    found = fetch_diffusers_config({name: SimpleNamespace(shape=shape) for name, shape in shapes.items()})
    repository = str(found["pretrained_model_name_or_path"])
    denoiser = any(name.startswith(_DENOISER) for name in shapes)
    if ("stable-diffusion-v1-5" in repository and not denoiser) or "subfolder" in found:
        raise CheckpointError(
            f"{path} is in no layout that diffusers knows as a whole pipeline; set `config` to a diffusers"
            " folder of the same architecture, or convert the file with diffusers."
        )
    return repository
