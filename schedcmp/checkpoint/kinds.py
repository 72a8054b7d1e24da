"""The components that a checkpoint may take from elsewhere, and what one must be like to stand in for its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SAFETENSORS, GGUF = ".safetensors", ".gguf"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table."""

    word: str
    signs: Mapping[str, str | None]  # patterns of tensors' names, one of which any such file has → config key of width
    keys: tuple[str, ...]  # of config.json: what the checkpoint's other models rely on
    suffixes: tuple[str, ...] = (SAFETENSORS,)

    def is_in(self, shapes: Shapes) -> bool:
        """Whether a file with these tensors has such a component."""
        return any(re.fullmatch(sign, name) for sign in self.signs for name in shapes)

    def misfit(self, shapes: Shapes, config: Mapping[str, Any]) -> tuple[str, int, int] | None:
        """(tensor, what its second dimension is, what the config says) where these differ."""
        for sign, key in self.signs.items():
            wanted = config.get(key or "")
            if not isinstance(wanted, int):  # one for each block
                continue
            for name, shape in shapes.items():
                if len(shape) > 1 and re.fullmatch(sign, name) and shape[1] != wanted:
                    return name, shape[1], wanted
        return None


_TEXT = Kind(
    "text encoder",
    {
        r"(.+\.)?token_embedding\.weight": "hidden_size",
        r"(.+\.)?shared\.weight": "d_model",
        r"(.+\.)?embed_tokens\.weight": "hidden_size",
    },
    ("hidden_size", "d_model"),
)
KINDS: Mapping[str, Kind] = {
    "vae": Kind(
        "VAE",
        {r"(.+\.)?decoder\.conv_in\.weight": "latent_channels", r"decoder\.(conv_in|layers\.0)\b.+": None},
        ("latent_channels",),
    ),
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
    "text_encoder_3": _TEXT,
    "unet": Kind(
        "UNet",
        {
            r"conv_in\.weight|(model\.diffusion_model\.)?input_blocks\.0\.0\.weight": "in_channels",
            r"(?!cond_stage|conditioner).*attn2\.to_k\.weight": "cross_attention_dim",
        },
        ("in_channels", "out_channels", "cross_attention_dim", "addition_embed_type", "time_cond_proj_dim"),
        (SAFETENSORS, GGUF),
    ),
    "transformer": Kind(
        "transformer",
        {
            r"(model\.diffusion_model\.)?img_in\.weight|pos_embed\.proj\.weight": "in_channels",
            r"(model\.diffusion_model\.)?(txt_in|context_embedder)\.weight": "joint_attention_dim",
            r"(.+\.)?\w*(blocks|layers)\.\d+\..+": None,
        },
        ("in_channels", "joint_attention_dim", "pooled_projection_dim", "cross_attention_dim", "caption_channels"),
        (SAFETENSORS, GGUF),
    ),
}
