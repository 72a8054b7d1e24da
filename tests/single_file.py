"""Write a Stable Diffusion 1.x pipeline as one .safetensors file in its original layout: the inverse of the
conversion in diffusers' loaders/single_file_utils.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "conv_in": "input_blocks.0.0",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_original_layout(pipeline: Any, path: Path) -> Path:
    tensors = {f"model.diffusion_model.{k}": v for k, v in _unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in _vae(pipeline.vae).items()}
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def _unet(unet: Any) -> dict[str, torch.Tensor]:
    layers = unet.config.layers_per_block + 1
    return {_unet_name(name, layers, unet): tensor for name, tensor in unet.state_dict().items()}


def _unet_name(name: str, layers: int, unet: Any) -> str:
    if match := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name):
        way, i, kind, j, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        first, side = (1, "input") if way == "down" else (0, "output")
        if kind == "downsamplers":
            return f"input_blocks.{first + i * layers + layers - 1}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            place = 2 if hasattr(unet.up_blocks[i], "attentions") else 1
            return f"output_blocks.{i * layers + layers - 1}.{place}.{rest}"
        block = f"{side}_blocks.{first + i * layers + j}"
        return f"{block}.0.{_replace(rest, _RESNET)}" if kind == "resnets" else f"{block}.1.{rest}"
    if match := re.match(r"mid_block\.(\w+)\.(\d+)\.(.*)", name):
        if match[1] == "resnets":
            return f"middle_block.{2 * int(match[2])}.{_replace(match[3], _RESNET)}"
        return f"middle_block.1.{match[3]}"
    return _replace(name, _UNET)


def _replace(name: str, table: dict[str, str]) -> str:
    return next((name.replace(old, new, 1) for old, new in table.items() if name.startswith(old)), name)


def _vae(vae: Any) -> dict[str, torch.Tensor]:
    blocks = len(vae.config.block_out_channels)
    tensors = {}
    for name, tensor in vae.state_dict().items():
        old = _vae_name(name, blocks)
        is_matrix = "mid.attn_1" in old and tensor.ndim == 2
        tensors[old] = tensor[:, :, None, None] if is_matrix else tensor  # the original has 1x1 convolutions
    return tensors


def _vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.*)", name):
        return f"{match[1]}.mid.attn_1.{_replace(match[2], _VAE_ATTENTION)}"
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}", name)
    name = re.sub(r"resnets\.(\d)", r"block.\1", name)
    return re.sub(r"(down|up)samplers\.0", r"\1sample", name)
