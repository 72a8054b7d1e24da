"""More of those whose prompts are encoded by a language model."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import transformers

from tools.coverage import parts
from tools.coverage.families.language_models import flux2_vae
from tools.coverage.family import GUIDANCE, Family

_CONSTANT = {"guidance_scale": GUIDANCE, "guidance_schedule": None}
_SHORT = {"max_sequence_length": 16}


def z_image_omni() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        siglip_feat_dim=32, axes_dims=[8, 4, 4], axes_lens=[512, 64, 64],
    )  # fmt: skip
    vision = transformers.Siglip2VisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_patches=16, patch_size=4
    )
    return diffusers.ZImageOmniPipeline(
        scheduler=parts.flow(), vae=parts.flow_vae(16), tokenizer=parts.qwen_tokenizer(), transformer=transformer,
        text_encoder=parts.language_model("Qwen3Config", "Qwen3Model"), siglip=transformers.Siglip2VisionModel(vision),
        siglip_processor=transformers.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16),
    )  # fmt: skip


def krea2() -> Any:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, timestep_embed_dim=8, text_hidden_dim=32, num_text_layers=3, text_num_attention_heads=2,
        text_num_key_value_heads=1, text_intermediate_size=32, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )  # fmt: skip
    pieces = (parts.by_size(), parts.qwen_vae(), parts.qwen_vl("Qwen3VLModel"), parts.qwen_tokenizer(), transformer)
    return diffusers.Krea2Pipeline(*pieces, text_encoder_select_layers=(0, 1, 2))


def nucleus() -> Any:
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(8, 4, 4), moe_enabled=False, capacity_factors=[8.0, 8.0],
    )  # fmt: skip
    text = parts.qwen_vl("Qwen3VLForConditionalGeneration", num_hidden_layers=8)
    return diffusers.NucleusMoEImagePipeline(
        transformer=transformer, scheduler=parts.flow(), vae=parts.qwen_vae(), text_encoder=text,
        processor=parts.qwen_vl_processor("Qwen3VLProcessor"),
    )  # fmt: skip


def dreamlite(cls: str = "DreamLitePipeline") -> Any:
    unet = diffusers.DreamLiteUNetModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), cross_attention_dim=32,
        attention_head_dim=8, layers_per_block=1, norm_num_groups=4, transformer_layers_per_block=1,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    return getattr(diffusers, cls)(
        text_encoder=parts.qwen_vl("Qwen3VLForConditionalGeneration"), tokenizer=parts.qwen_tokenizer(), vae=vae,
        processor=parts.qwen_vl_processor("Qwen3VLProcessor"), unet=unet, scheduler=parts.flow(),
    )  # fmt: skip


def longcat() -> Any:
    transformer = diffusers.LongCatImageTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    text = parts.qwen_vl(max_position_embeddings=8192)
    return diffusers.LongCatImagePipeline(
        scheduler=parts.by_size(), vae=parts.flow_vae(16), text_encoder=text, tokenizer=parts.qwen_tokenizer(),
        text_processor=parts.qwen_vl_processor("Qwen2_5_VLProcessor"), transformer=transformer,
    )  # fmt: skip


def qwen_image21() -> Any:
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=32,
        axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage21(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )  # fmt: skip
    return diffusers.QwenImage21Pipeline(
        scheduler=parts.by_size(), vae=vae, text_encoder=parts.qwen_vl("Qwen3VLForConditionalGeneration"),
        processor=parts.qwen_vl_processor("Qwen3VLProcessor"), transformer=transformer,
    )  # fmt: skip


def ernie() -> Any:
    transformer = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=2, ffn_hidden_size=32, in_channels=16, out_channels=16,
        text_in_dim=32, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    text = parts.language_model("MistralConfig", "MistralModel")
    return diffusers.ErnieImagePipeline(transformer, flux2_vae(), text, parts.plain_tokenizer(), parts.flow())


def ideogram4() -> Any:
    def transformer() -> Any:
        return diffusers.Ideogram4Transformer2DModel(
            in_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2, intermediate_size=32,
            adaln_dim=32, llm_features_dim=13 * 16, mrope_section=(4, 2, 2),
        )  # fmt: skip

    text = parts.qwen_vl("Qwen3VLModel", num_hidden_layers=36, hidden_size=16, head_dim=16)
    return diffusers.Ideogram4Pipeline(
        scheduler=parts.flow(), vae=flux2_vae(), text_encoder=text, tokenizer=parts.qwen_tokenizer(),
        transformer=transformer(), unconditional_transformer=transformer(),
    )  # fmt: skip


def omnigen() -> Any:
    transformer = diffusers.OmniGenTransformer2DModel(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=4, intermediate_size=32, num_layers=1, in_channels=4,
        time_step_dim=4, rope_scaling={"long_factor": [1, 2, 2, 2], "short_factor": [1, 2, 2, 2]}, vocab_size=300,
        pad_token_id=0,
    )  # fmt: skip
    own = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1)
    return diffusers.OmniGenPipeline(transformer, own, parts.vae(widths=(8,) * 4), parts.plain_tokenizer())


def _prx_transformer(channels: int, **options: Any) -> Any:
    return diffusers.PRXTransformer2DModel(
        patch_size=2, in_channels=channels, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[8, 8], **options,
    )  # fmt: skip


def prx() -> Any:
    text = parts.language_model("Gemma2Config", "Gemma2Model")
    return diffusers.PRXPipeline(_prx_transformer(4), parts.flow(), text, parts.gemma_tokenizer(), vae=parts.flow_vae())


def prx_pixel() -> Any:
    text = parts.language_model("Qwen3Config", "Qwen3Model")
    transformer = _prx_transformer(3, bottleneck_size=8, resolution_embeds=True)
    pieces = (transformer, parts.flow(), text, parts.qwen_tokenizer())
    return diffusers.PRXPixelPipeline(*pieces, prompt_max_tokens=16)


def bria_fibo() -> Any:
    transformer = diffusers.BriaFiboTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=64, text_encoder_dim=32, pooled_projection_dim=None, axes_dims_rope=[0, 4, 4],
    )  # fmt: skip
    vae = diffusers.AutoencoderKLWan(
        base_dim=8, decoder_base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, out_channels=12,
        in_channels=12, patch_size=2, scale_factor_spatial=16, is_residual=True,
        temperal_downsample=[False, True, True],
    )  # fmt: skip
    text = parts.language_model("SmolLM3Config", "SmolLM3ForCausalLM", vocab_size=128_256)  # for its <|begin_of_text|>
    return diffusers.BriaFiboPipeline(transformer, parts.by_size(), vae, text, parts.plain_tokenizer())


def bria_fibo2() -> Any:
    transformer = diffusers.BriaFibo2Transformer2DModel(
        in_channels=4, dim=32, n_layers=5, n_refiner_layers=1, n_heads=2, cap_feat_dim=3 * 16,
        injection_layer_ids=(0, 1, 2, 3, 4), perceiver_num_layers=1, min_num_gist_tokens=4, max_num_gist_tokens=8,
        gist_step=2, gist_min_text_len=8, axes_dims=(4, 6, 6), axes_lens=(512, 64, 64),
    )  # fmt: skip
    text = parts.qwen_vl("Qwen3VLForConditionalGeneration", num_hidden_layers=36, hidden_size=16, head_dim=16)
    return diffusers.BriaFibo2Pipeline(
        transformer, parts.flow(), flux2_vae(), text, parts.qwen_vl_processor("Qwen3VLProcessor")
    )


RECENT = {
    "ZImageOmniPipeline": Family(z_image_omni, call=_SHORT),
    "Krea2Pipeline": Family(krea2, call=_SHORT),
    "NucleusMoEImagePipeline": Family(nucleus, call={**_SHORT, "return_index": -1}, packages=("torchvision",)),
    "DreamLitePipeline": Family(dreamlite, call=_SHORT, packages=("torchvision",)),
    "DreamLiteMobilePipeline": Family(
        partial(dreamlite, "DreamLiteMobilePipeline"), call=_SHORT, packages=("torchvision",)
    ),
    "LongCatImagePipeline": Family(longcat, call={"enable_prompt_rewrite": False}, packages=("torchvision",)),
    "QwenImage21Pipeline": Family(qwen_image21, guided={}, packages=("torchvision",)),
    "ErnieImagePipeline": Family(ernie, call={"use_pe": False}),
    "Ideogram4Pipeline": Family(
        ideogram4, call={"max_sequence_length": 64}, guided={"guidance_scale": GUIDANCE, "guidance_schedule": None}
    ),
    "OmniGenPipeline": Family(omnigen, (64, 64)),
    "PRXPipeline": Family(prx, call={"use_resolution_binning": False}),
    "PRXPixelPipeline": Family(prx_pixel, call={"use_resolution_binning": False}),
    "BriaFiboPipeline": Family(bria_fibo, call=_SHORT),
    "BriaFibo2Pipeline": Family(bria_fibo2, packages=("torchvision",)),
}
