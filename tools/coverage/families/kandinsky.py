"""The Kandinsky pipelines, two of which are made of pipelines."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from tools.coverage import parts
from tools.coverage.families.unets import prior
from tools.coverage.family import Family

_SIMPLE = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), "out_channels": 8,
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), "block_out_channels": (32, 64),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "resnet_time_scale_shift": "scale_shift",
    "encoder_hid_dim": 32, "attention_head_dim": 4,
}  # fmt: skip


def _prior_parts() -> dict[str, Any]:
    own = diffusers.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
    )
    return {
        "prior_prior": prior(), "prior_image_encoder": parts.clip_vision(),
        "prior_text_encoder": parts.clip_projection(), "prior_tokenizer": parts.clip_tokenizer(),
        "prior_scheduler": own,
        "prior_image_processor": parts.clip_image_processor(),
    }  # fmt: skip


def _ddim() -> Any:
    return diffusers.DDIMScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def kandinsky21() -> Any:
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    words = [(word, -float(i)) for i, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", "▁", "a", "c", "t"))]
    config = MCLIPConfig(
        numDims=32, transformerDimensions=32, hidden_size=32, intermediate_size=32, num_attention_heads=2,
        num_hidden_layers=1, vocab_size=16, max_position_embeddings=128,
    )  # fmt: skip
    unet = parts.unet(**_SIMPLE, addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj")
    tokenizer = transformers.XLMRobertaTokenizer(vocab=words, model_max_length=77)
    return diffusers.KandinskyCombinedPipeline(
        text_encoder=MultilingualCLIP(config), tokenizer=tokenizer, unet=unet, scheduler=_ddim(), movq=parts.movq(),
        **_prior_parts(),
    )  # fmt: skip


def kandinsky22() -> Any:
    unet = parts.unet(**_SIMPLE, addition_embed_type="image", encoder_hid_dim_type="image_proj")
    return diffusers.KandinskyV22CombinedPipeline(unet=unet, scheduler=_ddim(), movq=parts.movq(), **_prior_parts())


def kandinsky3() -> Any:
    from diffusers.models.unets.unet_kandinsky3 import Kandinsky3UNet

    unet = Kandinsky3UNet(
        in_channels=4, time_embedding_dim=4, groups=2, attention_head_dim=4, layers_per_block=3,
        block_out_channels=(32, 64), cross_attention_dim=4, encoder_hid_dim=32,
    )  # fmt: skip
    own = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, steps_offset=1, beta_schedule="squaredcos_cap_v2", clip_sample=True
    )
    return diffusers.Kandinsky3Pipeline(parts.t5_tokenizer(), parts.t5(), unet, own, parts.movq())


def kandinsky5() -> Any:
    from diffusers.models.transformers.transformer_kandinsky import Kandinsky5Transformer3DModel

    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=16, in_text_dim=32, in_text_dim2=32, time_dim=16, out_visual_dim=16, patch_size=(1, 2, 2),
        model_dim=32, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6), visual_cond=False,
        attention_type="regular",
    )  # fmt: skip
    return diffusers.Kandinsky5T2IPipeline(
        transformer=transformer, vae=parts.flow_vae(16), text_encoder=parts.qwen_vl(), scheduler=parts.flow(),
        tokenizer=parts.qwen_vl_processor(), text_encoder_2=parts.clip(), tokenizer_2=parts.clip_tokenizer(),
    )  # fmt: skip


_PRIOR_STEPS = {"prior_num_inference_steps": 2}
KANDINSKY = {
    "KandinskyCombinedPipeline": Family(kandinsky21, (16, 16), call=_PRIOR_STEPS),
    "KandinskyV22CombinedPipeline": Family(kandinsky22, (16, 16), call=_PRIOR_STEPS),
    "Kandinsky3Pipeline": Family(kandinsky3, (16, 16)),
    "Kandinsky5T2IPipeline": Family(
        kandinsky5, (1024, 1024), call={"max_sequence_length": 16}, packages=("torchvision",)
    ),
}
