"""LoRAs on a loaded pipeline: each is loaded once, and put on and taken off between cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from schedcmp.checkpoint.adapters import WEIGHTS, Adapter
from schedcmp.checkpoint.quiet import quiet
from schedcmp.checkpoint.view import only
from schedcmp.errors import CheckpointError, one_line
from schedcmp.guard.private import lora_models
from schedcmp.records import IP_ADAPTER, Worn


@dataclass(frozen=True, slots=True)
class _Seam:
    """A layer of a model that LoRAs change, and what stands in its place when none does."""

    parent: torch.nn.Module
    name: str
    changed: torch.nn.Module
    plain: torch.nn.Module


class Wardrobe:
    """What cells wear. With nothing on, the models are built as if there were no LoRA: of the same layers."""

    def __init__(
        self,
        pipeline: Any,
        adapters: Mapping[str, Adapter],
        error: Callable[[str, str], Exception] = lambda digest, why: CheckpointError(why),
    ) -> None:
        """
        Args:
            pipeline: of diffusers; its models are changed in place.
            adapters: by digest.
            error: what to raise for one that does not fit the pipeline, by its digest and the reason.
        """
        self._pipeline = pipeline
        # Names that occur in no other and in no layer's: diffusers looks for them as parts of keys
        self._names = {digest: f"schedcmp{i:03}" for i, digest in enumerate(adapters)}
        self._scale: float | None = None
        for digest, adapter in adapters.items():
            if why := _load(pipeline, adapter, self._names[digest]):
                raise error(digest, why)
        self._seams = [seam for model in lora_models(pipeline) for seam in _seams(model)] if adapters else []
        self._worn: Worn | None = None
        self.wear(())

    def wear(self, dress: Worn) -> None:
        """Put on the LoRAs of these digests with these weights, and nothing else; set the IP-Adapter's scale."""
        scale = dict(dress).get(IP_ADAPTER)
        if scale is not None and scale != self._scale:
            self._pipeline.set_ip_adapter_scale(scale)
            self._scale = scale
        adapters = tuple(item for item in dress if item[0] != IP_ADAPTER)
        if adapters == self._worn:
            return
        if bool(adapters) != bool(self._worn) or self._worn is None:
            for seam in self._seams:
                setattr(seam.parent, seam.name, seam.changed if adapters else seam.plain)
        if adapters:
            names, weights = zip(*((self._names[digest], weight) for digest, weight in adapters), strict=True)
            self._pipeline.set_adapters(list(names), list(weights))
        self._worn = adapters


def _load(pipeline: Any, adapter: Adapter, name: str) -> str:
    """Why it does not fit; empty if it does."""
    with only([adapter.file]) as folder, quiet() as messages:
        try:
            pipeline.load_lora_weights(
                str(folder), weight_name=WEIGHTS, adapter_name=name, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # each family's loader has its own ways to say so
            return _misfit(pipeline, adapter, one_line(error)[:300])
    if not any(name in loaded for loaded in pipeline.get_list_adapters().values()):
        return _misfit(pipeline, adapter, "none of its layers is there")
    if unexpected := next((text for text in messages if "unexpected keys" in text), None):
        return _misfit(pipeline, adapter, f"{unexpected.rpartition(': ')[2].strip()[:200]} is not there")
    return ""


def _misfit(pipeline: Any, adapter: Adapter, why: str) -> str:
    return (
        f"{adapter.place} does not fit this {type(pipeline).__name__}: {why}. Use a LoRA that was made for this family"
        " of models, or leave it out."
    )


def _seams(model: torch.nn.Module) -> Iterator[_Seam]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            changed: Any = layer
            parent, _, own = name.rpartition(".")
            yield _Seam(model.get_submodule(parent), own, changed.eval(), changed.get_base_layer())
