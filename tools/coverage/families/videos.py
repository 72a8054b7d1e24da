"""Pipelines that make videos."""

from __future__ import annotations

from typing import Any

import diffusers

from tools.coverage import parts
from tools.coverage.family import Family

_SHORT = {"max_sequence_length": 16}
_SIZE = (32, 32)


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


def wan(*, two: bool = False, **options: Any) -> Any:
    own = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    return diffusers.WanPipeline(
        parts.t5_tokenizer(), parts.t5("UMT5"), wan_vae(), own, _wan_transformer(),
        _wan_transformer() if two else None, **options,
    )  # fmt: skip


VIDEOS = {
    "WanPipeline": Family(wan, _SIZE, call=_SHORT, frames=5),
}
