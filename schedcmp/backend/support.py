"""What `backend: jax` takes and what it refuses, known without JAX and without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.kinds import GGUF
from schedcmp.checkpoint.source import Checkpoint

if TYPE_CHECKING:
    from schedcmp.sweep.document import Sweep

Refusal = tuple[tuple[str, ...], str]  # the key of the sweep, and why

NOT_INSTALLED = (
    'needs the package jax, which is not installed: pip install "schedcmp[jax]" (docs/jax.md has GPU and TPU)'
)
_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "LatentConsistencyModelPipeline")
_NOT_WITH_JAX = {
    "compile": "JAX compiles the denoiser anyway",
    "channels_last": "JAX's denoiser has its channels last anyway",
    "attention": "it chooses among torch's kernels, and the denoiser runs in JAX",
    "offload": "the denoiser's weights leave torch",
}
# Of UNet2DConditionModel's config. What these say is read from the weights or followed by `backend.unet`.
_FOLLOWED = {
    "sample_size", "in_channels", "out_channels", "flip_sin_to_cos", "freq_shift", "block_out_channels",
    "layers_per_block", "dropout", "norm_num_groups", "norm_eps", "cross_attention_dim", "transformer_layers_per_block",
    "reverse_transformer_layers_per_block", "attention_head_dim", "use_linear_projection", "upcast_attention",
    "addition_time_embed_dim", "addition_embed_type_num_heads", "projection_class_embeddings_input_dim",
    "time_embedding_dim", "time_cond_proj_dim", "conv_in_kernel", "conv_out_kernel",
}  # fmt: skip
_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text_time"),
    "attention_type": ("default",),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),  # any of them for each block
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
    "resnet_out_scale_factor": (1,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # every other key must be off


def refusal(sweep: Sweep, checkpoint: Checkpoint) -> Refusal | None:
    """Why a sweep cannot run with JAX; None if it can."""
    return next(_refusals(sweep, checkpoint), None)


def _refusals(sweep: Sweep, checkpoint: Checkpoint) -> Iterator[Refusal]:
    if find_spec("jax") is None:
        yield ("backend",), f"jax {NOT_INSTALLED}"
    for option in sweep.optimize.enabled:
        if option in _NOT_WITH_JAX:
            yield ("optimize", option), f"has no place with backend: jax ({_NOT_WITH_JAX[option]}); leave it out"
    if checkpoint.quantized or any(part.path.suffix == GGUF for part in checkpoint.elsewhere):
        yield ("model",), "its quantised weights are torch's, and the denoiser runs in JAX; use backend: torch"
    if checkpoint.ip_adapter:
        yield ("ip_adapter",), "its layers are torch's, and the denoiser runs in JAX; use backend: torch"
    why = unknown_checkpoint(checkpoint)
    if why:
        yield ("backend",), f"jax cannot run {checkpoint.name}: {why}; use torch"


def unknown_checkpoint(checkpoint: Checkpoint) -> str | None:
    """Why JAX cannot run a checkpoint, by its configs; None if it can."""
    if checkpoint.pipeline_class not in _PIPELINES:
        return f"it is a {checkpoint.pipeline_class}, and the denoisers of {', '.join(_PIPELINES)} are what it has"
    path = checkpoint.config_folder / "unet/config.json"
    return unknown_config(read_json(path)) if path.is_file() else None  # else it is seen when it is loaded


def unknown_config(config: Mapping[str, Any]) -> str | None:
    """Why the JAX UNet cannot have such a config, with the key; None if it can."""
    for key, value in config.items():
        if key.startswith("_") or key in _FOLLOWED:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        takes = _KNOWN.get(key, (None, False))
        if any(v not in takes for v in values):
            known = ", ".join(map(str, takes))
            return f"its UNet's config has {key}: {value!r}, and the JAX UNet knows {known}"
    if config.get("norm_num_groups", 32) is None:
        return "its UNet's config has norm_num_groups: None, and the JAX UNet knows group norms alone"
    return None
