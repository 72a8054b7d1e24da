"""Stable Diffusion and what else has a UNet."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers

from tools.coverage import parts
from tools.coverage.family import Family

_SMALL_TIME = 8
_UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def sd(cls: str = "StableDiffusionPipeline", scheduler: Any = None, *, unchecked: bool = True, **options: Any) -> Any:
    more = _UNCHECKED if unchecked else {}
    unet = parts.unet(**options.pop("unet", {}))
    own = scheduler or parts.betas("PNDMScheduler", skip_prk_steps=True, steps_offset=1)
    text = parts.clip(**options.pop("text", {}))
    return getattr(diffusers, cls)(
        vae=parts.vae(), text_encoder=text, tokenizer=parts.clip_tokenizer(), unet=unet, scheduler=own,
        **more, **options,
    )  # fmt: skip


def lcm() -> Any:
    return sd(
        "LatentConsistencyModelPipeline", parts.betas("LCMScheduler", clip_sample=False, set_alpha_to_one=False),
        unet={"time_cond_proj_dim": 32},
    )  # fmt: skip


def sd_pag() -> Any:
    return sd("StableDiffusionPAGPipeline", pag_applied_layers=["mid"])


def size_unet(pooled: int, **options: Any) -> Any:
    """Told of sizes, as Stable Diffusion XL's."""
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": _SMALL_TIME}
    given = {"projection_class_embeddings_input_dim": pooled + 6 * _SMALL_TIME, "use_linear_projection": True}
    return parts.unet(**told, **given, **options)


def sdxl(cls: str = "StableDiffusionXLPipeline", **options: Any) -> Any:
    own = parts.betas("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)
    return getattr(diffusers, cls)(
        vae=parts.vae(), text_encoder=parts.clip(), text_encoder_2=parts.clip_projection(), scheduler=own,
        tokenizer=parts.clip_tokenizer(), tokenizer_2=parts.clip_tokenizer(), add_watermarker=False,
        unet=size_unet(parts.WIDTH, cross_attention_dim=2 * parts.WIDTH), **options,
    )  # fmt: skip


def kolors(cls: str = "KolorsPipeline", **options: Any) -> Any:
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    text = ChatGLMModel(ChatGLMConfig(
        num_layers=2, padded_vocab_size=128, hidden_size=32, ffn_hidden_size=32, kv_channels=16, num_attention_heads=2,
        seq_length=256, rmsnorm=True, add_qkv_bias=True, multi_query_attention=True, multi_query_group_num=1,
        bias_dropout_fusion=False, post_layer_norm=True, original_rope=True,
    ))  # fmt: skip
    own = parts.betas("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)
    return getattr(diffusers, cls)(
        vae=parts.vae(), text_encoder=text, tokenizer=parts.chatglm_tokenizer(), scheduler=own,
        unet=size_unet(32), **options,
    )  # fmt: skip


def ldm() -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    config = LDMBertConfig(
        vocab_size=54, max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2,
        head_dim=16, d_model=32, pad_token_id=0,
    )  # fmt: skip
    own = parts.betas(clip_sample=False, set_alpha_to_one=False)
    pieces = (parts.vae(), LDMBertModel(config), parts.clip_tokenizer(), parts.unet(), own)
    return diffusers.LDMTextToImagePipeline(*pieces)


def deepfloyd() -> Any:
    from diffusers.models.attention_processor import AttnAddedKVProcessor

    unet = parts.unet(
        sample_size=16, down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), in_channels=3,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", out_channels=6, encoder_hid_dim=32, attention_head_dim=8,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
        act_fn="gelu", block_out_channels=(32, 64),
    )  # fmt: skip
    unet.set_attn_processor(AttnAddedKVProcessor())
    own = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        variance_type="learned_range",
    )  # fmt: skip
    return diffusers.IFPipeline(
        tokenizer=parts.t5_tokenizer(), text_encoder=parts.t5(), unet=unet, scheduler=own, watermarker=None,
        **_UNCHECKED,
    )  # fmt: skip


def prior() -> Any:
    return diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1)


def stable_unclip() -> Any:
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    cosine = {"beta_schedule": "squaredcos_cap_v2"}
    unet = parts.unet(
        class_embed_type="projection", projection_class_embeddings_input_dim=64, use_linear_projection=True
    )
    return diffusers.StableUnCLIPPipeline(
        prior_tokenizer=parts.clip_tokenizer(), prior_text_encoder=parts.clip_projection(), prior=prior(),
        prior_scheduler=diffusers.DDPMScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0, **cosine
        ),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=32), tokenizer=parts.clip_tokenizer(),
        image_noising_scheduler=diffusers.DDPMScheduler(**cosine), text_encoder=parts.clip(), unet=unet,
        scheduler=parts.betas(prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1),
        vae=parts.vae(),
    )  # fmt: skip


UNETS = {
    "StableDiffusionPipeline": Family(sd, (16, 16)),
    "StableDiffusionPAGPipeline": Family(sd_pag, (16, 16)),
    "StableDiffusionSAGPipeline": Family(partial(sd, "StableDiffusionSAGPipeline"), (16, 16)),
    "StableDiffusionPanoramaPipeline": Family(partial(sd, "StableDiffusionPanoramaPipeline"), (128, 64)),
    "StableDiffusionPipelineSafe": Family(partial(sd, "StableDiffusionPipelineSafe"), (16, 16)),
    "SemanticStableDiffusionPipeline": Family(partial(sd, "SemanticStableDiffusionPipeline"), (16, 16)),
    "StableDiffusionModelEditingPipeline": Family(partial(sd, "StableDiffusionModelEditingPipeline"), (16, 16)),
    "StableDiffusionXLPipeline": Family(sdxl, (64, 64)),
    "StableDiffusionXLPAGPipeline": Family(
        partial(sdxl, "StableDiffusionXLPAGPipeline", pag_applied_layers=["mid"]), (16, 16)
    ),
    "KolorsPipeline": Family(kolors, (64, 64), packages=("sentencepiece",)),
    "KolorsPAGPipeline": Family(
        partial(kolors, "KolorsPAGPipeline", pag_applied_layers=["mid"]), (16, 16), packages=("sentencepiece",)
    ),
    "LatentConsistencyModelPipeline": Family(lcm, (16, 16)),
    "LDMTextToImagePipeline": Family(ldm, (64, 64)),
    "IFPipeline": Family(deepfloyd, (16, 16)),
    "StableUnCLIPPipeline": Family(stable_unclip, (16, 16), call={"prior_num_inference_steps": 2}),
}
