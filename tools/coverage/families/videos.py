"""Pipelines that make videos."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import transformers

from tools.coverage import parts
from tools.coverage.families.unets import size_unet
from tools.coverage.family import Family

_SHORT = {"max_sequence_length": 16}
_SMALL = (16, 16)
_CONNECTOR = {
    "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None,
}  # fmt: skip


def _wan_transformer() -> Any:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=parts.WIDTH, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def _unipc() -> Any:
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )


def wan(*, two: bool = False, **options: Any) -> Any:
    return diffusers.WanPipeline(
        parts.t5_tokenizer(), parts.t5("UMT5"), wan_vae(), _unipc(), _wan_transformer(),
        _wan_transformer() if two else None, **options,
    )  # fmt: skip


def skyreels() -> Any:
    transformer = diffusers.SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=parts.WIDTH, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    return diffusers.SkyReelsV2Pipeline(parts.t5_tokenizer(), parts.t5("UMT5"), transformer, wan_vae(), _unipc())


def ltx() -> Any:
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
        num_layers=1, caption_channels=parts.WIDTH,
    )  # fmt: skip
    widths, layers, halves = (8,) * 4, (1,) * 5, (True, True, False, False)
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=widths, decoder_block_out_channels=widths, layers_per_block=layers,
        decoder_layers_per_block=layers, spatio_temporal_scaling=halves, decoder_spatio_temporal_scaling=halves,
        patch_size=1,
    )  # fmt: skip
    own = parts.by_size(base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1)
    return diffusers.LTXPipeline(own, vae, parts.t5(), parts.t5_tokenizer(), transformer)


def cogvideox() -> Any:
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2, num_layers=1,
        text_embed_dim=parts.WIDTH, sample_width=2, sample_height=2, sample_frames=9, max_text_seq_length=16,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    own = diffusers.CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, set_alpha_to_one=True, snr_shift_scale=3.0, timestep_spacing="trailing",
    )  # fmt: skip
    return diffusers.CogVideoXPipeline(parts.t5_tokenizer(), parts.t5(), vae, transformer, own)


def hunyuan_video_vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4
    )


def hunyuan_video() -> Any:
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=parts.WIDTH, pooled_projection_dim=parts.WIDTH, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    return diffusers.HunyuanVideoPipeline(
        parts.language_model("LlamaConfig", "LlamaModel"), parts.plain_tokenizer(), transformer, hunyuan_video_vae(),
        parts.flow(shift=7.0), parts.clip(), parts.clip_tokenizer(),
    )  # fmt: skip


def ltx2() -> Any:
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    text_config = {
        "vocab_size": parts.VOCABULARY, "hidden_size": parts.WIDTH, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(text_config=text_config, vision_config=vision, mm_tokens_per_image=4)
    rope: dict[str, Any] = {"rope_double_precision": False, "rope_type": "split"}
    transformer = diffusers.LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=2, caption_channels=parts.WIDTH, **rope,
    )  # fmt: skip
    kinds = [{f"{kind}_connector_{name}": value for name, value in _CONNECTOR.items()} for kind in ("video", "audio")]
    connectors = LTX2TextConnectors(
        caption_channels=parts.WIDTH, text_proj_in_factor=3, connector_rope_base_seq_len=32, **rope, **kinds[0],
        **kinds[1],
    )  # fmt: skip
    one = {"block_out_channels": (8,), "decoder_block_out_channels": (8,), "layers_per_block": (1,)}
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False), downsample_type=("spatial",),
        upsample_type=("spatiotemporal",), upsample_residual=(False,), upsample_factor=(1,), patch_size=1,
        decoder_causal=False, **one,
    )  # fmt: skip
    sound = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
    )  # fmt: skip
    return diffusers.LTX2Pipeline(
        scheduler=parts.by_size(), vae=vae, audio_vae=sound, tokenizer=parts.gemma_tokenizer(), connectors=connectors,
        text_encoder=transformers.Gemma3ForConditionalGeneration(config), transformer=transformer, vocoder=vocoder,
    )  # fmt: skip


def mochi() -> Any:
    transformer = diffusers.MochiTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16, in_channels=12,
        text_embed_dim=parts.WIDTH, time_embed_dim=4, max_sequence_length=16,
    )  # fmt: skip
    widths = (32,) * 4
    vae = diffusers.AutoencoderKLMochi(
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, layers_per_block=(1,) * 5
    )
    own = parts.flow(shift=1.0, invert_sigmas=True)
    return diffusers.MochiPipeline(own, vae, parts.t5(), parts.t5_tokenizer(), transformer)


def latte() -> Any:
    transformer = diffusers.LatteTransformer3DModel(
        sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
        caption_channels=parts.WIDTH, cross_attention_dim=24, out_channels=8, attention_bias=True,
        activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6, video_length=4,
    )  # fmt: skip
    return diffusers.LattePipeline(parts.t5_tokenizer(), parts.t5(), parts.vae(), transformer, parts.betas())


def animatediff(cls: str = "AnimateDiffPipeline") -> Any:
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4
    )
    return getattr(diffusers, cls)(
        parts.vae(), parts.clip(), parts.clip_tokenizer(), parts.unet(), adapter, parts.betas()
    )


def animatediff_xl() -> Any:
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4,
        use_motion_mid_block=False,
    )  # fmt: skip
    own = parts.betas("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)
    return diffusers.AnimateDiffSDXLPipeline(
        vae=parts.vae(), text_encoder=parts.clip(), text_encoder_2=parts.clip_projection(), scheduler=own,
        tokenizer=parts.clip_tokenizer(), tokenizer_2=parts.clip_tokenizer(), motion_adapter=adapter,
        unet=size_unet(parts.WIDTH, cross_attention_dim=2 * parts.WIDTH),
    )  # fmt: skip


def text_to_video() -> Any:
    unet = diffusers.UNet3DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        cross_attention_dim=parts.WIDTH, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    return diffusers.TextToVideoSDPipeline(parts.vae(), parts.clip(), parts.clip_tokenizer(), unet, parts.betas())


def sana_video() -> Any:
    transformer = diffusers.SanaVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=parts.WIDTH,
        rope_max_seq_len=32, sample_size=8,
    )  # fmt: skip
    text = parts.language_model("Gemma2Config", "Gemma2Model")
    return diffusers.SanaVideoPipeline(parts.gemma_tokenizer(), text, wan_vae(), transformer, parts.flow(shift=8.0))


def hunyuan_video15() -> Any:
    from diffusers.guiders import ClassifierFreeGuidance

    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2, num_refiner_layers=1,
        mlp_ratio=2.0, text_embed_dim=parts.WIDTH, text_embed_2_dim=parts.WIDTH, image_embed_dim=12,
        rope_axes_dim=(2, 2, 4), target_size=16, task_type="t2v",
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(16,) * 5, layers_per_block=1
    )  # fmt: skip
    glyphs = transformers.T5EncoderModel(
        transformers.T5Config(d_model=parts.WIDTH, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=384)
    )
    return diffusers.HunyuanVideo15Pipeline(
        parts.qwen_vl().model.language_model, parts.qwen_tokenizer(), transformer, vae, parts.flow(shift=5.0), glyphs,
        transformers.ByT5Tokenizer(), ClassifierFreeGuidance(guidance_scale=6.0),
    )  # fmt: skip


def kandinsky5() -> Any:
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=parts.WIDTH, in_text_dim2=parts.WIDTH, time_dim=16, out_visual_dim=4,
        model_dim=32, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6), attention_type="regular",
    )  # fmt: skip
    return diffusers.Kandinsky5T2VPipeline(
        transformer, hunyuan_video_vae(), parts.qwen_vl(), parts.qwen_vl_processor(), parts.clip(),
        parts.clip_tokenizer(), parts.flow(shift=5.0),
    )  # fmt: skip


def vace() -> Any:
    transformer = diffusers.WanVACETransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=parts.WIDTH, freq_dim=16, ffn_dim=32, num_layers=3, rope_max_seq_len=32, vace_layers=[0, 2],
        vace_in_channels=2 * 4 + 64,
    )  # fmt: skip
    return diffusers.WanVACEPipeline(parts.t5_tokenizer(), parts.t5("UMT5"), wan_vae(), parts.flow(), transformer)


VIDEOS = {
    "WanPipeline": Family(wan, call=_SHORT, frames=5),
    "WanPipeline with two transformers": Family(
        partial(wan, two=True, boundary_ratio=0.875), call={**_SHORT, "guidance_scale_2": 3.0}, frames=5
    ),
    "WanPipeline with a timestep for each token": Family(partial(wan, expand_timesteps=True), call=_SHORT, frames=5),
    "SkyReelsV2Pipeline": Family(skyreels, call=_SHORT, frames=5),
    "LTXPipeline": Family(ltx, call=_SHORT, frames=9),
    "LTX2Pipeline": Family(ltx2, call=_SHORT, frames=5),
    "CogVideoXPipeline": Family(cogvideox, _SMALL, call=_SHORT, frames=9),
    "HunyuanVideoPipeline": Family(hunyuan_video, call=_SHORT, frames=5),
    "HunyuanVideo15Pipeline": Family(hunyuan_video15, guided={}, frames=5),
    "Kandinsky5T2VPipeline": Family(kandinsky5, call=_SHORT, packages=("torchvision",), frames=5),
    "WanVACEPipeline": Family(vace, call=_SHORT, frames=5),
    "MochiPipeline": Family(mochi, _SMALL, call=_SHORT, frames=7),
    "LattePipeline": Family(latte, _SMALL, frames=4),
    "AnimateDiffPipeline": Family(animatediff, call={"decode_chunk_size": 3}, frames=5),
    "AnimateDiffPAGPipeline": Family(partial(animatediff, "AnimateDiffPAGPipeline"), frames=5),
    "AnimateDiffSDXLPipeline": Family(animatediff_xl, frames=5),
    "TextToVideoSDPipeline": Family(text_to_video, frames=5),
    "SanaVideoPipeline": Family(sana_video, call={"use_resolution_binning": False}, frames=5),
}
