"""Pipelines of real shapes with random weights, made on the device in seconds: no files, no network.

Text encoders keep their widths and lose most of their layers: a prompt is encoded once. Every weight is normal with a
variance of one over its inputs, so that activations keep their size and 16 bits hold them. `small` gives the same
classes as small as they allow, for a dry run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers

from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec

_LETTERS = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
PROMPT = "a"
CLIP_WORDS = ["<|startoftext|>", "<|endoftext|>", *_LETTERS]
T5_WORDS = ["<pad>", "</s>", "<unk>", "▁", *_LETTERS]
DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Model:
    """A kind of checkpoint, and what to ask of it."""

    name: str
    build: Callable[[bool], Any]  # small? → pipeline, on the default device
    size: int  # pixels, width and height
    small_size: int
    guidance: float
    flow: bool = False
    trained: bool = False  # comes with weights of its own

    def pipeline(self, device: torch.device, dtype: torch.dtype, small: bool) -> Any:
        torch.manual_seed(0)
        with torch.device(device):
            made = self.build(small)
        for part in made.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
                if not self.trained:
                    _fill(part)
        made.set_progress_bar_config(disable=True)
        return made.to(device, dtype)


@torch.no_grad()
def _fill(module: torch.nn.Module) -> None:
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            weight.normal_(0, weight[0].numel() ** -0.5)
        else:
            weight.fill_(float("norm" in name and name.endswith("weight")))


def tiny(small: bool) -> Any:
    return load(inspect(ModelSpec("builtin:tiny")), "cpu", "fp32")


def sd15(small: bool) -> Any:
    shrunk = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("DownBlock2D", DOWN[1]), "up_block_types": (UP[1], "UpBlock2D")}
    unet = diffusers.UNet2DConditionModel(
        sample_size=8 if small else 64, cross_attention_dim=_width(768, small), attention_head_dim=2 if small else 8,
        **(shrunk | blocks if small else {}),
    )  # fmt: skip
    text = transformers.CLIPTextModel(_clip(768, small))
    parts = (_vae(small, 4), text, _clip_tokenizer(), unet, _betas(), None, None)
    return diffusers.StableDiffusionPipeline(*parts, requires_safety_checker=False)


def sdxl(small: bool) -> Any:
    heads: Any = 2 if small else [5, 10, 20]
    pooled, ids = _width(1280, small), 4 if small else 256
    unet = diffusers.UNet2DConditionModel(
        sample_size=8 if small else 128, down_block_types=DOWN, up_block_types=UP, attention_head_dim=heads,
        block_out_channels=(8, 16, 16) if small else (320, 640, 1280), norm_num_groups=4 if small else 32,
        transformer_layers_per_block=1 if small else [1, 2, 10], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=ids,
        projection_class_embeddings_input_dim=pooled + 6 * ids, cross_attention_dim=_width(768, small) + pooled,
    )  # fmt: skip
    texts = (
        transformers.CLIPTextModel(_clip(768, small)),
        transformers.CLIPTextModelWithProjection(_clip(1280, small, projection_dim=pooled)),
    )
    # A VAE that 16 bits can hold, as the ones with "fp16-fix" in their names: else the pipeline casts it back and forth
    vae = _vae(small, 4, force_upcast=False)
    parts = (vae, *texts, _clip_tokenizer(), _clip_tokenizer(), unet, _betas())
    return diffusers.StableDiffusionXLPipeline(*parts, add_watermarker=False)


def sd35_medium(small: bool) -> Any:
    """Stable Diffusion 3.5 medium's transformer, 2.2 billion parameters."""
    heads, size, layers = (2, 8, 2) if small else (24, 64, 24)
    widths = (_width(768, small), _width(1280, small))
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8 if small else 128, in_channels=16, out_channels=16, num_layers=layers, attention_head_dim=size,
        num_attention_heads=heads, joint_attention_dim=max(_width(4096, small), sum(widths)),
        caption_projection_dim=heads * size, pooled_projection_dim=sum(widths), pos_embed_max_size=8 if small else 384,
        dual_attention_layers=tuple(range(layers // 2 + 1)), qk_norm="rms_norm",
    )  # fmt: skip
    clips = [transformers.CLIPTextModelWithProjection(_clip(w, small, projection_dim=w)) for w in widths]
    encoders = [part for clip in clips for part in (clip, _clip_tokenizer())]
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    t5 = _t5(transformer.config.joint_attention_dim)
    return diffusers.StableDiffusion3Pipeline(transformer, flow, _flow_vae(small), *encoders, *t5)


def flux(small: bool) -> Any:
    """FLUX.1-dev's transformer with an eighth of its layers, 1.5 billion parameters."""
    heads, size, double, single = (2, 8, 1, 1) if small else (24, 128, 2, 5)
    width = _width(4096, small)
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64, num_layers=double, num_single_layers=single, attention_head_dim=size,
        num_attention_heads=heads, joint_attention_dim=width, pooled_projection_dim=_width(768, small),
        guidance_embeds=True, axes_dims_rope=(2, 2, 4) if small else (16, 56, 56),
    )  # fmt: skip
    text = transformers.CLIPTextModel(_clip(768, small))
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    parts = (flow, _flow_vae(small), text, _clip_tokenizer(), *_t5(width), transformer)
    return diffusers.FluxPipeline(*parts)


def _flow_vae(small: bool) -> Any:
    return _vae(small, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)


def _t5(width: int) -> tuple[Any, Any]:
    """The encoder, one layer of it, and its tokenizer."""
    config = transformers.T5Config(
        vocab_size=len(T5_WORDS), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    words = [(word, -float(i)) for i, word in enumerate(T5_WORDS)]
    return transformers.T5EncoderModel(config), transformers.T5Tokenizer(vocab=words, extra_ids=0)


def _width(real: int, small: bool) -> int:
    return 16 if small else real


def _clip(width: int, small: bool, **options: Any) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=len(CLIP_WORDS), hidden_size=_width(width, small), intermediate_size=_width(4 * width, small),
        num_hidden_layers=2, num_attention_heads=2 if small else width // 64, max_position_embeddings=77,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, **options,
    )  # fmt: skip


def _clip_tokenizer() -> Any:
    vocabulary = {word: i for i, word in enumerate(CLIP_WORDS)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _vae(small: bool, latent_channels: int, **options: Any) -> Any:
    widths = (8, 8) if small else (128, 256, 512, 512)
    return diffusers.AutoencoderKL(
        block_out_channels=widths, norm_num_groups=4 if small else 32, latent_channels=latent_channels,
        layers_per_block=1 if small else 2, down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths), **options,
    )  # fmt: skip


def _betas() -> Any:
    """Stable Diffusion's own."""
    return diffusers.PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
    )


TINY = Model("tiny", tiny, 64, 64, 2.0, trained=True)
SD15 = Model("sd15", sd15, 512, 16, 7.5)
SDXL = Model("sdxl", sdxl, 1024, 16, 8.0)
SD35 = Model("sd35-medium", sd35_medium, 1024, 16, 4.5, flow=True)
FLUX = Model("flux-slim", flux, 1024, 16, 3.5, flow=True)
