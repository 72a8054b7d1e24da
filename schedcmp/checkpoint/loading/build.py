"""A pipeline from the files that were found and nothing else, in the dtypes that were asked for."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.elsewhere import BESIDE, Elsewhere
from schedcmp.checkpoint.embeddings import learn
from schedcmp.checkpoint.ip_adapter import see
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.kinds import GGUF
from schedcmp.checkpoint.quantize import config as quantization
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.checkpoint.view import only
from schedcmp.errors import CheckpointError


def build(checkpoint: Checkpoint, dtype: torch.dtype, vae_dtype: torch.dtype | None) -> Any:
    pipeline_class = _pipeline_class(checkpoint)
    files = [file for file in (*checkpoint.content, *checkpoint.beside) if file.name]  # a single file's has none
    with only(files) as folder:
        try:
            pipeline = _load_from(folder, checkpoint, pipeline_class, dtype, vae_dtype)
            learn(pipeline, checkpoint.embeddings, folder)
            if checkpoint.ip_adapter:
                see(pipeline, folder)
            return pipeline
        except Exception as error:
            error.args = tuple(str(arg).replace(str(folder), str(checkpoint.config_folder)) for arg in error.args)
            raise


def _load_from(
    folder: Path, checkpoint: Checkpoint, pipeline_class: Any, dtype: torch.dtype, vae_dtype: torch.dtype | None
) -> Any:
    options: dict[str, Any] = {"torch_dtype": dtype}  # renamed to dtype after diffusers 0.38, which ignores that name
    # SDXL writes a watermark into its images where the optional package is there; it spoils pixel metrics.
    unwanted: dict[str, Any] = {"add_watermarker": False}
    if not checkpoint.spec.safety_checker:
        unwanted |= {layout.SAFETY_CHECKER: None, "requires_safety_checker": False}
    unwanted |= dict.fromkeys(layout.absent(read_json(folder / layout.MODEL_INDEX)))
    takes = inspect.signature(pipeline_class.__init__).parameters
    options |= {name: value for name, value in unwanted.items() if name in takes}
    configs = _quantization(folder, checkpoint, dtype)
    for part in checkpoint.elsewhere:
        own = vae_dtype if part.name == "vae" and vae_dtype else dtype
        options[part.name] = _load_elsewhere(folder, checkpoint, part, own, configs.pop(part.name, None))
    if checkpoint.kind == "folder":
        if vae_dtype:  # not cast later: what fp16 has rounded stays so
            options["torch_dtype"] = {"vae": vae_dtype, "default": dtype}
        if configs:
            from diffusers import PipelineQuantizationConfig

            options["quantization_config"] = PipelineQuantizationConfig(quant_mapping=configs)
        return pipeline_class.from_pretrained(
            folder,
            variant=checkpoint.spec.variant,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **options,
        )
    if not hasattr(pipeline_class, "from_single_file"):
        raise CheckpointError(
            f"{checkpoint.path}: diffusers loads no {checkpoint.pipeline_class} from one file; give a folder."
        )
    if vae_dtype and "vae" in takes and "vae" not in options:
        options["vae"] = _vae_of_file(checkpoint, folder, vae_dtype)
    return pipeline_class.from_single_file(str(checkpoint.path), config=str(folder), local_files_only=True, **options)


def _quantization(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Any]:
    """The configs of the components that are to be quantised."""
    index = read_json(folder / layout.MODEL_INDEX)
    return {name: quantization(index[name][0], method, dtype) for name, method in checkpoint.quantized.items()}


def _vae_of_file(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> Any:
    library, name = read_json(folder / layout.MODEL_INDEX)["vae"]
    cls = getattr(import_module(library), name)
    return cls.from_single_file(
        str(checkpoint.path), config=str(folder), subfolder="vae", torch_dtype=dtype, local_files_only=True
    )


def _load_elsewhere(
    folder: Path, checkpoint: Checkpoint, part: Elsewhere, dtype: torch.dtype, quantization_config: Any
) -> Any:
    """A component that the checkpoint takes from elsewhere; its files are in `folder`, as one of its own would be."""
    index = read_json(folder / layout.MODEL_INDEX)
    library, class_name = BESIDE.get(part.name) or index[part.name]
    name = read_json(part.config).get("_class_name", class_name)
    if library not in layout.LIBRARIES:
        raise CheckpointError(f"{checkpoint.path}: {part.name} is of {library}, which cannot be taken from elsewhere.")
    cls = getattr(import_module(library), name)
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    if quantization_config:
        options["quantization_config"] = quantization_config
    if part.path.is_dir() or not hasattr(cls, "from_single_file"):
        return cls.from_pretrained(folder / part.name, use_safetensors=True, **options)
    if part.path.suffix == GGUF:
        from diffusers import GGUFQuantizationConfig

        options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=dtype)
    return cls.from_single_file(str(part.path), config=str(folder), subfolder=part.name, **options)


def _pipeline_class(checkpoint: Checkpoint) -> Any:
    import diffusers

    found = getattr(diffusers, checkpoint.pipeline_class, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.pipeline_class}, which diffusers {diffusers.__version__}"
            " does not have; upgrade diffusers or use another checkpoint."
        )
    return found
