"""Transformers whose prompts are encoded by a language model."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import transformers

from tools.coverage import parts
from tools.coverage.family import GUIDANCE, Family

_SHORT = {"max_sequence_length": 16}
_TRUE = {"true_cfg_scale": GUIDANCE, "negative_prompt": " "}
_FLUX2_LAYERS = 31  # Flux2 reads the 10th, 20th and 30th; Klein the 9th, 18th and 27th


def qwen_image(cls: str = "QwenImagePipeline") -> Any:
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    pieces = (parts.by_size(), parts.qwen_vae(), parts.qwen_vl(), parts.qwen_tokenizer(), transformer)
    return getattr(diffusers, cls)(*pieces)


def z_image() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    text = parts.language_model("Qwen3Config", "Qwen3Model")
    return diffusers.ZImagePipeline(parts.flow(), parts.flow_vae(16), text, parts.qwen_tokenizer(), transformer)


def _flux2_transformer(channels: int, layers: int, *, guidance: bool) -> Any:
    return diffusers.Flux2Transformer2DModel(
        in_channels=channels, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=layers * 16, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )  # fmt: skip


def flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        sample_size=32, block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip


def flux2() -> Any:
    text_config = {
        "model_type": "mistral", "vocab_size": parts.VOCABULARY, "hidden_size": 16, "intermediate_size": 16,
        "num_attention_heads": 2, "num_hidden_layers": _FLUX2_LAYERS, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 1024, "sliding_window": None,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "image_size": 28, "patch_size": 14, "num_channels": 3,
    }  # fmt: skip
    config = transformers.Mistral3Config(text_config=text_config, vision_config=vision, image_token_index=6)
    images = transformers.PixtralImageProcessor(patch_size=14)
    words = parts.plain_tokenizer()
    processor = transformers.PixtralProcessor(
        images, words, patch_size=14, chat_template=words.chat_template, image_token="<|image_pad|>",
        image_break_token="<|vision_pad|>", image_end_token="<|vision_end|>",
    )  # fmt: skip
    text = transformers.Mistral3ForConditionalGeneration(config)
    own = (parts.by_size(), flux2_vae(), text, processor, _flux2_transformer(16, 3, guidance=True))
    return diffusers.Flux2Pipeline(*own)


def klein(cls: str = "Flux2KleinPipeline") -> Any:
    text = parts.language_model(
        "Qwen3Config", "Qwen3ForCausalLM", hidden_size=16, head_dim=8, num_hidden_layers=_FLUX2_LAYERS
    )
    transformer = _flux2_transformer(16, 3, guidance=False)
    return getattr(diffusers, cls)(parts.by_size(), flux2_vae(), text, parts.qwen_tokenizer(), transformer)


def cogview4() -> Any:
    transformer = diffusers.CogView4Transformer2DModel(
        in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4, out_channels=4, text_embed_dim=32,
        time_embed_dim=8, condition_dim=4,
    )  # fmt: skip
    text = parts.language_model("GlmConfig", "GlmForCausalLM")
    own = parts.flow(
        shift=1.0, use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, base_image_seq_len=256,
        time_shift_type="linear",
    )  # fmt: skip
    return diffusers.CogView4Pipeline(parts.plain_tokenizer(), text, parts.vae(), transformer, own)


def hidream() -> Any:
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=8, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_channels=[32, 32], text_emb_dim=64, num_routed_experts=4,
        num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(128, 128), llama_layers=[0, 1],
    )  # fmt: skip
    llama = parts.language_model("LlamaConfig", "LlamaForCausalLM")
    llama.generation_config.pad_token_id = 0
    clips = [parts.clip_projection(max_position_embeddings=128) for _ in range(2)]
    return diffusers.HiDreamImagePipeline(
        scheduler=parts.flow(), vae=parts.flow_vae(widths=(8,)), transformer=transformer, text_encoder=clips[0],
        text_encoder_2=clips[1], tokenizer=parts.clip_tokenizer(), tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5(), tokenizer_3=parts.t5_tokenizer(), text_encoder_4=llama,
        tokenizer_4=parts.plain_tokenizer(),
    )  # fmt: skip


def hunyuan_image() -> Any:
    from diffusers.guiders import AdaptiveProjectedMixGuidance

    transformer = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=4, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=(1, 1), text_embed_dim=32, text_embed_2_dim=32, rope_axes_dim=(4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 64, 64, 64), layers_per_block=1,
        spatial_compression_ratio=8, sample_size=128, scaling_factor=0.5,
    )  # fmt: skip
    second = transformers.T5EncoderModel(transformers.T5Config(
        d_model=32, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=384, feed_forward_proj="gated-gelu"
    ))  # fmt: skip
    return diffusers.HunyuanImagePipeline(
        transformer=transformer, vae=vae, scheduler=parts.flow(), text_encoder=parts.qwen_vl(num_hidden_layers=3),
        tokenizer=parts.qwen_tokenizer(), text_encoder_2=second, tokenizer_2=transformers.ByT5Tokenizer(),
        guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        ocr_guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=3),
    )  # fmt: skip


def ovis() -> Any:
    transformer = diffusers.OvisImageTransformer2DModel(
        in_channels=16, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    text = parts.language_model("Qwen3Config", "Qwen3Model")
    return diffusers.OvisImagePipeline(parts.by_size(), parts.flow_vae(), text, parts.qwen_tokenizer(), transformer)


LANGUAGE = {
    "QwenImagePipeline": Family(qwen_image, call=_SHORT, guided=_TRUE),
    "ZImagePipeline": Family(z_image, call=_SHORT),
    "Flux2Pipeline": Family(flux2, call=_SHORT, packages=("torchvision",)),
    "Flux2KleinPipeline": Family(klein, call=_SHORT),
    "Flux2KleinKVPipeline": Family(partial(klein, "Flux2KleinKVPipeline"), call=_SHORT, guided={}),
    "CogView4Pipeline": Family(cogview4, call=_SHORT),
    "HiDreamImagePipeline": Family(hidream, (128, 128), call=_SHORT),
    "HunyuanImagePipeline": Family(hunyuan_image, guided={}),
    "OvisImagePipeline": Family(ovis, call=_SHORT),
}
