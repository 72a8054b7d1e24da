"""Pipelines of other families than Stable Diffusion 1, with random weights, as small as their classes allow.

Every model is put into `eval()`: T5's dropout would make a pipeline differ from itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from checkpoints import scheduler, text_config, tokenizer, unet
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WORDS = ("<pad>", "</s>", "<unk>", "▁", "▁a", "▁b")


def sd(cls: type = StableDiffusionPipeline, **unet_options: Any) -> Any:
    text = CLIPTextModel(text_config())
    parts = (_vae(), text, tokenizer(), unet(**unet_options), scheduler(), None, None)
    return cls(*parts, requires_safety_checker=False)


def sd_img2img() -> Any:
    return sd(StableDiffusionImg2ImgPipeline)


def sd_inpaint() -> Any:
    """The UNet sees the mask and the masked image beside the latents."""
    return sd(StableDiffusionInpaintPipeline, in_channels=9)


def sd_inpaint_by_blending() -> Any:
    """The UNet is that of plain generation; the pipeline blends the image in after every step."""
    return sd(StableDiffusionInpaintPipeline)


def sd_pag() -> Any:
    """Perturbed attention: its processors, put in for the length of a call, take thirds of the batch apart."""
    parts = sd().components
    return StableDiffusionPAGPipeline(**parts, requires_safety_checker=False, pag_applied_layers=["mid"])


def sdxl() -> Any:
    denoiser = UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
    )  # fmt: skip
    texts = (CLIPTextModel(text_config()), CLIPTextModelWithProjection(text_config(projection_dim=16)))
    parts = (_vae(), *texts, tokenizer(), tokenizer(), denoiser, scheduler())
    return StableDiffusionXLPipeline(*parts, add_watermarker=False)


def sd3(channels: int = 4) -> Any:
    transformer = SD3Transformer2DModel(
        sample_size=8, in_channels=channels, out_channels=channels, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=8,
    )  # fmt: skip
    clips = [CLIPTextModelWithProjection(text_config(projection_dim=16)) for _ in range(2)]
    encoders = [part for clip in clips for part in (clip, tokenizer())]
    return StableDiffusion3Pipeline(transformer, _flow(), _vae(channels), *encoders, _t5(), _t5_tokenizer())


def flux() -> Any:
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    flow, text = _flow(use_dynamic_shifting=True), CLIPTextModel(text_config())
    return FluxPipeline(flow, _vae(), text, tokenizer(), _t5(), _t5_tokenizer(), transformer)


def pixart() -> Any:
    transformer = PixArtTransformer2DModel(
        sample_size=8, num_attention_heads=2, attention_head_dim=8, num_layers=2, cross_attention_dim=16,
        caption_channels=32, norm_num_groups=4,
    )  # fmt: skip
    return PixArtSigmaPipeline(_t5_tokenizer(), _t5(), _vae(), transformer, scheduler())


def sana() -> Any:
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=8,
    )  # fmt: skip
    text = Gemma2Model(Gemma2Config(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    ))  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), downsample_block_type="Conv", upsample_block_type="interpolate",
    )  # fmt: skip
    return SanaPipeline(_t5_tokenizer(), text, vae, transformer, _flow())


def ready(build: Callable[[], Any]) -> Any:
    """The same weights every time, in evaluation mode and without progress bars."""
    torch.manual_seed(0)
    pipeline = build()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=channels, sample_size=16, shift_factor=0.1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def _flow(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, **options)


def _t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0)
    )


def _t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=[(word, -float(i)) for i, word in enumerate(WORDS)], extra_ids=0, model_max_length=8)
