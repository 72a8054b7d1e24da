"""Transformers whose prompts are encoded by CLIP, T5, BERT or Gemma."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import torch
import transformers

from tools.coverage import parts
from tools.coverage.family import Family

_PLAIN = {"clean_caption": False, "use_resolution_binning": False}
_SHORT = {"max_sequence_length": 16}


def sd3(cls: str = "StableDiffusion3Pipeline", **options: Any) -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=32,
    )  # fmt: skip
    return getattr(diffusers, cls)(
        transformer=transformer, scheduler=parts.flow(), vae=parts.flow_vae(), text_encoder=parts.clip_projection(),
        tokenizer=parts.clip_tokenizer(), text_encoder_2=parts.clip_projection(), tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=None, tokenizer_3=None, **options,
    )  # fmt: skip


def flux(cls: str = "FluxPipeline") -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return getattr(diffusers, cls)(
        scheduler=parts.by_size(), vae=parts.flow_vae(), text_encoder=parts.clip(), tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.t5(), tokenizer_2=parts.t5_tokenizer(), transformer=transformer,
    )  # fmt: skip


def chroma() -> Any:
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_hidden_dim=32, approximator_layers=1,
        approximator_num_channels=16,
    )  # fmt: skip
    own = (parts.flow(), parts.flow_vae(), parts.t5(), parts.t5_tokenizer(), transformer)
    return diffusers.ChromaPipeline(*own)


def lumina2() -> Any:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=4, in_channels=4, hidden_size=16, num_layers=2, num_attention_heads=2, num_kv_heads=1,
        multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64), cap_feat_dim=32,
    )  # fmt: skip
    text = parts.language_model("Gemma2Config", "Gemma2Model")
    return diffusers.Lumina2Pipeline(transformer, parts.flow(), parts.flow_vae(), text, parts.gemma_tokenizer())


def lumina() -> Any:
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=4, in_channels=4, hidden_size=16, num_layers=2, num_attention_heads=1, num_kv_heads=1,
        multiple_of=16, learn_sigma=True, qk_norm=True, cross_attention_dim=32, scaling_factor=1.0,
    )  # fmt: skip
    text = parts.language_model("GemmaConfig", "GemmaForCausalLM")
    return diffusers.LuminaPipeline(transformer, parts.flow(), parts.vae(), text, parts.gemma_tokenizer())


def aura_flow() -> Any:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, out_channels=4,
        pos_embed_max_size=64,
    )  # fmt: skip
    pieces = (parts.t5_tokenizer(), parts.t5("UMT5"), parts.vae(), transformer, parts.flow())
    return diffusers.AuraFlowPipeline(*pieces)


def pixart(cls: str = "PixArtSigmaPipeline", **options: Any) -> Any:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        cross_attention_dim=24, in_channels=4, out_channels=8, norm_type="ada_norm_single", norm_num_groups=4,
    )  # fmt: skip
    return getattr(diffusers, cls)(
        tokenizer=parts.t5_tokenizer(), text_encoder=parts.t5(), vae=parts.vae(), transformer=transformer,
        scheduler=parts.betas("DPMSolverMultistepScheduler"), **options,
    )  # fmt: skip


def sana(cls: str = "SanaPipeline", scheduler: Any = None, text: str = "Gemma2Model", **options: Any) -> Any:
    more = options.pop("transformer", {})
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=32,
        sample_size=32, **more,
    )  # fmt: skip
    return getattr(diffusers, cls)(
        tokenizer=parts.gemma_tokenizer(), text_encoder=parts.language_model("Gemma2Config", text),
        vae=parts.dc_vae(), transformer=transformer, scheduler=scheduler or parts.flow(), **options,
    )  # fmt: skip


def sana_sprint() -> Any:
    more = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    return sana("SanaSprintPipeline", diffusers.SCMScheduler(), transformer=more)


def cogview3plus() -> Any:
    transformer = diffusers.CogView3PlusTransformer2DModel(
        in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4, text_embed_dim=32,
        time_embed_dim=8, condition_dim=2, pos_embed_max_size=8, sample_size=8,
    )  # fmt: skip
    own = diffusers.CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", set_alpha_to_one=True,
    )  # fmt: skip
    return diffusers.CogView3PlusPipeline(parts.t5_tokenizer(), parts.t5(), parts.vae(), transformer, own)


def hunyuan_dit(cls: str = "HunyuanDiTPipeline", **options: Any) -> Any:
    transformer = diffusers.HunyuanDiT2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
        cross_attention_dim=32, cross_attention_dim_t5=32, pooled_projection_dim=16, hidden_size=24,
        activation_fn="gelu-approximate", text_len=77, text_len_t5=256,
    )  # fmt: skip
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat")
    tokenizer = transformers.BertTokenizer(vocab={w: i for i, w in enumerate(words)}, model_max_length=77)
    text = transformers.BertModel(transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    ))  # fmt: skip
    own = parts.betas("DDPMScheduler", prediction_type="v_prediction", steps_offset=1)
    return getattr(diffusers, cls)(
        vae=parts.vae(widths=(8,) * 4), text_encoder=text, tokenizer=tokenizer, transformer=transformer, scheduler=own,
        text_encoder_2=parts.t5(), tokenizer_2=parts.t5_tokenizer(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **options,
    )  # fmt: skip


def bria() -> Any:
    transformer = diffusers.BriaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=None, axes_dims_rope=[0, 4, 4],
    )  # fmt: skip
    return diffusers.BriaPipeline(transformer, parts.by_size(), parts.vae(), parts.t5(), parts.t5_tokenizer())


def unidiffuser() -> Any:
    words = parts.bytes_vocabulary()
    transformer = diffusers.UniDiffuserModel(
        text_dim=16, clip_img_dim=32, num_text_tokens=77, num_attention_heads=2, attention_head_dim=8, in_channels=4,
        out_channels=4, num_layers=2, norm_num_groups=4, sample_size=16, patch_size=2, activation_fn="gelu",
        num_embeds_ada_norm=1000, norm_type="layer_norm", use_data_type_embedding=True, block_type="unidiffuser",
        pre_layer_norm=False, norm_elementwise_affine=False, use_patch_pos_embed=False, ff_final_dropout=True,
    )  # fmt: skip
    decoder = diffusers.UniDiffuserTextDecoder(
        prefix_length=77, prefix_inner_dim=32, prefix_hidden_dim=16, vocab_size=len(words), n_positions=256,
        n_embd=32, n_layer=1, n_head=2,
    )  # fmt: skip
    head = decoder.transformer.lm_head
    head.weight = torch.nn.Parameter(head.weight.clone())  # what two layers share cannot be saved
    return diffusers.UniDiffuserPipeline(
        vae=parts.vae(), text_encoder=parts.clip(), clip_tokenizer=parts.clip_tokenizer(), text_decoder=decoder,
        image_encoder=parts.clip_vision(), clip_image_processor=parts.clip_image_processor(), unet=transformer,
        text_tokenizer=transformers.GPT2Tokenizer(vocab=words, merges=[], pad_token="<|endoftext|>"),
        scheduler=parts.betas("DPMSolverMultistepScheduler"),
    )  # fmt: skip


_SIGMA = "PixArtSigmaPAGPipeline"
_BLOCKS = {"pag_applied_layers": ["blocks.1"]}
FLOW = {
    "StableDiffusion3Pipeline": Family(sd3),
    "StableDiffusion3PAGPipeline": Family(partial(sd3, "StableDiffusion3PAGPipeline", **_BLOCKS)),
    "FluxPipeline": Family(flux, call=_SHORT),
    "FluxKontextPipeline": Family(
        partial(flux, "FluxKontextPipeline"), call={**_SHORT, "max_area": 1024, "_auto_resize": False}
    ),
    "ChromaPipeline": Family(chroma, call=_SHORT),
    "Lumina2Pipeline": Family(lumina2, (64, 64), call=_SHORT),
    "LuminaPipeline": Family(lumina, (64, 64), call={"clean_caption": False, **_SHORT}),
    "AuraFlowPipeline": Family(aura_flow, call=_SHORT),
    "PixArtAlphaPipeline": Family(partial(pixart, "PixArtAlphaPipeline"), call={**_PLAIN, **_SHORT}),
    "PixArtSigmaPipeline": Family(pixart, call={**_PLAIN, **_SHORT}),
    _SIGMA: Family(partial(pixart, _SIGMA, pag_applied_layers=["blocks.1"]), call={**_PLAIN, **_SHORT}),
    "SanaPipeline": Family(sana, call={**_PLAIN, **_SHORT}),
    "SanaPAGPipeline": Family(
        partial(sana, "SanaPAGPipeline", pag_applied_layers=["transformer_blocks.1"]), call={**_PLAIN, **_SHORT}
    ),
    "SanaSprintPipeline": Family(sana_sprint, steps=(2,), call={**_PLAIN, **_SHORT}),
    "CogView3PlusPipeline": Family(cogview3plus, (16, 16), call=_SHORT),
    "HunyuanDiTPipeline": Family(hunyuan_dit, (64, 64), call={"use_resolution_binning": False}),
    "HunyuanDiTPAGPipeline": Family(
        partial(hunyuan_dit, "HunyuanDiTPAGPipeline", pag_applied_layers=["blocks.1"]),
        (64, 64),
        call={"use_resolution_binning": False},
    ),
    "BriaPipeline": Family(bria, call=_SHORT),
    "UniDiffuserPipeline": Family(unidiffuser),
}
