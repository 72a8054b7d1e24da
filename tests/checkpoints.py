"""Checkpoints with random weights, as small as their classes allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from schedcmp.checkpoint import Checkpoint
from schedcmp.checkpoint.loading.load import load

VOCABULARY = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"]


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, merges=[], model_max_length=8)


def text_config(**options: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, **options,
    )  # fmt: skip


def unet(**options: Any) -> UNet2DConditionModel:
    shape = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(
        sample_size=8, layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
        **shape | options,
    )  # fmt: skip


def quick_unet() -> UNet2DConditionModel:
    """It has latents, a timestep and a prompt to heed, and takes a third of the time."""
    down, up = ("CrossAttnDownBlock2D",), ("UpBlock2D",)
    return unet(block_out_channels=(8,), down_block_types=down, mid_block_type=None, up_block_types=up)


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def scheduler() -> PNDMScheduler:
    """With Stable Diffusion 1.5's config."""
    return PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
    )


def save_sd1(
    folder: Path, its_vae: Callable[[], Any] = vae, its_unet: Callable[[], UNet2DConditionModel] = quick_unet
) -> Path:
    """A Stable Diffusion 1.x pipeline."""
    torch.manual_seed(0)
    text = CLIPTextModel(text_config())
    StableDiffusionPipeline(
        its_vae(), text, tokenizer(), its_unet(), scheduler(), None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return folder


def image(checkpoint: Checkpoint, prompt: str = "a b", **options: Any) -> np.ndarray[Any, Any]:
    """What its pipeline makes in two steps, from 0 to 1."""
    pipeline: Any = load(checkpoint, "cpu", **options)
    made = pipeline(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np")
    return np.asarray(made.images[0])
