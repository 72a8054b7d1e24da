"""Prompts with weights, as embeddings that the package compel makes with a pipeline's own text encoders."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from schedcmp.checkpoint.source import Checkpoint
from schedcmp.pipelines.source import pipeline_source
from schedcmp.sweep.emphasis import chunks, plain

if TYPE_CHECKING:
    import torch

    from schedcmp.sweep.document import Sweep

A1111 = "a1111"
PACKAGE = "compel"
_MOST_KNOWN = 1_000  # pairs of prompts: a gigabyte of XL's
_INSTALL = 'pip install "schedcmp[prompt-weights]"'
# The classes of text encoders, of Stable Diffusion 1 and 2, and of XL
_KNOWN = (("CLIPTextModel",), ("CLIPTextModel", "CLIPTextModelWithProjection"))
# Of the call, what says otherwise how texts are encoded
_OF_TEXTS = ("clip_skip", "prompt_2", "negative_prompt_2", "max_sequence_length")


def no_weights(checkpoint: Checkpoint, sweep: Sweep) -> str:
    """Why no weights can be read in a sweep's prompts; empty if they can."""
    pipeline, encoders = checkpoint.pipeline_class, _encoders(checkpoint)
    source = pipeline_source(pipeline)
    if encoders not in _KNOWN or not source or "prompt_embeds" not in source.arguments:
        told = f"{pipeline} has {', '.join(encoders) or 'none'}; leave it out"
        return f"is read for the text encoders of Stable Diffusion 1, 2 and XL, and {told}"
    if other := next((name for name in _OF_TEXTS if name in sweep.call), None):
        return f"has no place with call: {other}, as texts are encoded before the call; leave one of the two out"
    if sweep.optimize.offload:
        return "has no place with optimize: offload, where text encoders wait elsewhere; leave one of the two out"
    if find_spec(PACKAGE) is None:
        return f"is read by the package {PACKAGE}, which is not there: {_INSTALL}"
    return ""


def _encoders(checkpoint: Checkpoint) -> tuple[str, ...]:
    found = [item for name, item in sorted(checkpoint.config("").items()) if name.startswith("text_encoder")]
    return tuple(str(item[1]) for item in found if isinstance(item, list | tuple) and item[1])


class Embedder:
    """A pipeline's prompts as embeddings; each is made once, or again where there were very many in between."""

    def __init__(self, pipeline: Any) -> None:
        from compel import Compel, DiffusersTextualInversionManager, ReturnedEmbeddingsType

        self._pipeline = pipeline
        self._is_xl = getattr(pipeline, "text_encoder_2", None) is not None
        last = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        last_but_one = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        self._readers = [
            Compel(
                tokenizer=getattr(pipeline, f"tokenizer{end}"),
                text_encoder=getattr(pipeline, f"text_encoder{end}"),
                textual_inversion_manager=DiffusersTextualInversionManager(pipeline),
                truncate_long_prompts=False,
                returned_embeddings_type=last_but_one if self._is_xl else last,
            )
            for end in ("", "_2")[: 1 + self._is_xl]
        ]
        self.arguments = lru_cache(_MOST_KNOWN)(self._arguments)

    def _arguments(self, prompt: str, negative: str | None, dress: Hashable) -> Mapping[str, torch.Tensor]:
        """What the pipeline's call is given instead of texts.

        Args:
            negative: None where there is none.
            dress: what the text encoders wear.
        """
        import torch

        texts = (prompt, negative or "")
        padded = [
            reader.pad_conditioning_tensors_to_same_length([_read(reader, t) for t in texts])
            for reader in self._readers
        ]
        found = dict(
            zip(("prompt_embeds", "negative_prompt_embeds"), map(_side_by_side, zip(*padded, strict=True)), strict=True)
        )
        if not self._is_xl:
            return found
        pooled = self._readers[1].conditioning_provider.get_pooled_embeddings([plain(text) for text in texts])
        found |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
        if negative is None and self._pipeline.config.force_zeros_for_empty_prompt:
            found |= {name: torch.zeros_like(value) for name, value in found.items() if name.startswith("negative")}
        return found


def _side_by_side(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat([*tensors], -1)


def _read(reader: Any, text: str) -> torch.Tensor:
    """Size (1, tokens, width)."""
    from compel.prompt_parser import Conjunction, FlattenedPrompt

    prompts = [FlattenedPrompt(list(chunk)) for chunk in chunks(text)]
    embedded: torch.Tensor = reader.build_conditioning_tensor_for_conjunction(Conjunction(prompts))[0]
    return embedded
