"""Tokenizers, text encoders, VAEs and denoisers that several families share, as small as their classes allow."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import diffusers
import torch
import transformers

WIDTH = 32  # of text encoders
LENGTH = 512  # of the longest prompt
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CLIP_WORDS = ("<|startoftext|>", "<|endoftext|>", *(f"{letter}{end}" for letter in _LETTERS for end in ("", "</w>")))
_T5_WORDS = ("<pad>", "</s>", "<unk>", "▁", *_LETTERS)
_CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_TURNS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<unk>", "<s>", "</s>", "<pad>",
)  # fmt: skip


def clip_tokenizer() -> Any:
    vocabulary = {word: i for i, word in enumerate(_CLIP_WORDS)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip(**options: Any) -> Any:
    return transformers.CLIPTextModel(clip_config(**options))


def clip_projection(**options: Any) -> Any:
    return transformers.CLIPTextModelWithProjection(clip_config(projection_dim=WIDTH, **options))


def clip_config(**options: Any) -> Any:
    shape = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return transformers.CLIPTextConfig(
        **{"vocab_size": len(_CLIP_WORDS), "max_position_embeddings": 77, **shape, **ends, **options}
    )


def clip_vision() -> Any:
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(
        hidden_size=WIDTH, image_size=28, projection_dim=WIDTH, intermediate_size=WIDTH, num_attention_heads=2,
        num_hidden_layers=1, patch_size=14,
    ))  # fmt: skip


def clip_image_processor() -> Any:
    return transformers.CLIPImageProcessorPil(size=28, crop_size=28)


def t5_tokenizer() -> Any:
    words = [(word, -float(i)) for i, word in enumerate(_T5_WORDS)]
    return transformers.T5Tokenizer(vocab=words, extra_ids=0, model_max_length=LENGTH)


def t5(cls: str = "T5") -> Any:
    config = getattr(transformers, f"{cls}Config")(
        vocab_size=len(_T5_WORDS), d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    return getattr(transformers, f"{cls}EncoderModel")(config)


def bytes_vocabulary() -> dict[str, int]:
    """All bytes, and the marks of chats."""
    from tokenizers.pre_tokenizers import ByteLevel

    return {token: i for i, token in enumerate([*_TURNS, *sorted(ByteLevel.alphabet())])}


VOCABULARY = 300  # at least as many as there are


def qwen_tokenizer() -> Any:
    made = transformers.Qwen2Tokenizer(vocab=bytes_vocabulary(), merges=[], model_max_length=LENGTH)
    made.add_special_tokens({"additional_special_tokens": list(_TURNS[1:8])})
    made.chat_template = _CHAT
    return made


def plain_tokenizer(**special: str) -> Any:
    """One that transformers saves under no model's name, as GLM's and Llama's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    inner = Tokenizer(models.BPE(vocab=bytes_vocabulary(), merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", _TURNS.index("<s>"))])
    named = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=LENGTH, **named, **special)
    made.chat_template = _CHAT
    return made


def gemma_tokenizer() -> Any:
    words = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS)
    return transformers.GemmaTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=LENGTH)


def _causal(**options: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2 * LENGTH,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, **options,
    }  # fmt: skip


def language_model(config: str, cls: str, **options: Any) -> Any:
    """A model of transformers that reads tokens from left to right."""
    return getattr(transformers, cls)(getattr(transformers, config)(**_causal(**options)))


def qwen_vl(cls: str = "Qwen2_5_VLForConditionalGeneration", **options: Any) -> Any:
    rope = {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"}
    vision = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    kind = "Qwen3VLConfig" if cls.startswith("Qwen3VL") else "Qwen2_5_VLConfig"
    marks = {"vision_start_token_id": 3, "vision_end_token_id": 4, "vision_token_id": 5}
    tokens = {**marks, "image_token_id": 6, "video_token_id": 7}
    config = getattr(transformers, kind)(
        text_config=_causal(rope_scaling=rope, rope_theta=1e6, **options), vision_config=vision, hidden_size=WIDTH,
        **tokens,
    )  # fmt: skip
    return getattr(transformers, cls)(config)


def qwen_vl_processor(cls: str = "Qwen2_5_VLProcessor") -> Any:
    images = transformers.Qwen2VLImageProcessor()
    parts = {"image_processor": images, "tokenizer": qwen_tokenizer(), "chat_template": _CHAT}
    return getattr(transformers, cls)(**parts, video_processor=transformers.Qwen2VLVideoProcessor())


def chatglm_tokenizer() -> Any:
    """Kolors'."""
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    return ChatGLMTokenizer(f"{_sentencepiece().name}/tokenizer.model")


@cache
def _sentencepiece() -> tempfile.TemporaryDirectory[str]:
    """A folder with a small model, there until the process ends: a tokenizer copies it when it is saved."""
    import sentencepiece

    folder = tempfile.TemporaryDirectory()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_LETTERS, " ".join(_LETTERS)] * 20), model_prefix=f"{folder.name}/tokenizer",
        vocab_size=64, model_type="bpe", hard_vocab_limit=False, minloglevel=2, pad_id=3,
    )  # fmt: skip
    return folder


def vae(channels: int = 4, *, widths: tuple[int, ...] = (8, 8), **options: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=widths, norm_num_groups=4, latent_channels=channels, sample_size=64, layers_per_block=1,
        mid_block_add_attention=False,  # of all pixels, which takes longer than all else
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
        **options,
    )  # fmt: skip


def flow_vae(channels: int = 4, **options: Any) -> Any:
    return vae(channels, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False, **options)


def qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


def dc_vae() -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), downsample_block_type="Conv", upsample_block_type="interpolate",
    )  # fmt: skip


def movq() -> Any:
    """Kandinsky's autoencoder."""
    return diffusers.VQModel(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), in_channels=3,
        out_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=8, norm_type="spatial",
        num_vq_embeddings=12, vq_embed_dim=4, up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    )  # fmt: skip


def unet(**options: Any) -> Any:
    shape = {"sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    blocks = {"down_block_types": down, "up_block_types": up, "cross_attention_dim": WIDTH, "attention_head_dim": 2}
    return diffusers.UNet2DConditionModel(**{**shape, **blocks, **options})


def betas(cls: str = "DDIMScheduler", **options: Any) -> Any:
    """A scheduler with Stable Diffusion's noise schedule."""
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return getattr(diffusers, cls)(**{**schedule, **options})


def flow(**options: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options})


def by_size(**options: Any) -> Any:
    """A scheduler for flow matching whose shift depends on an image's size."""
    return flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, **options)


@torch.no_grad()
def filled(pipeline: Any, seed: int = 0) -> Any:
    """The pipeline with every weight drawn, so that activations keep their size and no layer answers zero."""
    torch.manual_seed(seed)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
            for name, weight in part.named_parameters():
                if weight.ndim > 1:
                    weight.normal_(0, max(weight.numel() // max(len(weight), 1), 1) ** -0.5)
                else:
                    weight.fill_(float("norm" in name and name.endswith("weight")))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
