"""A checkpoint: what a sweep asks for, and what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.elsewhere import Elsewhere
from schedcmp.checkpoint.embeddings import Embedding
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.weights import ContentFile, fingerprint

GIVEN = "pipeline:"  # the name of a pipeline that a program has loaded itself, see `checkpoint.given`


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a sweep asks for."""

    model: str  # "builtin:tiny", a diffusers folder, a .safetensors file, an address of either, or a hub id
    revision: str | None = None  # hub ids: a branch, tag or commit
    variant: str | None = None  # as in file names: "fp16"
    config: str | None = None  # single files: a diffusers folder or hub id that has their configs
    parts: Mapping[str, str] = field(default_factory=dict)  # by keys of `kinds.KINDS`: folders or files of others
    embeddings: Mapping[str, str] = field(default_factory=dict)  # textual inversion: tokens and their files
    quantize: Mapping[str, str] = field(default_factory=dict)  # components, or `quantize.DENOISER`: how
    cache: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)  # a step cache's name, and its options
    safety_checker: bool = True  # load the one that it may have


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `inspect` found."""

    spec: ModelSpec
    name: str  # short, for labels: "builtin:tiny", a folder's name, a file's stem, a hub id
    path: Path  # the folder or the file
    kind: Literal["folder", "file"]
    config_folder: Path  # where the configs are; for a folder, the folder itself
    pipeline_class: str
    width: int | None  # the checkpoint's own size, pixels; None: its configs do not tell
    height: int | None
    scheduler_json: str  # scheduler_config.json as it came with the checkpoint
    content: tuple[ContentFile, ...]  # what the fingerprint is taken of
    beside: tuple[ContentFile, ...]  # what else loading reads: the scheduler's config, the indexes of shards
    elsewhere: tuple[Elsewhere, ...] = ()  # components that are not loaded from `path`
    embeddings: tuple[Embedding, ...] = ()  # what it learns beside
    ip_adapter: bool = False  # whether one is among its content, see `checkpoint.ip_adapter`
    quantized: Mapping[str, str] = field(default_factory=dict)  # components whose weights have fewer bits: how
    remarks: tuple[str, ...] = ()  # what its user should know of it

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The checkpoint's scheduler_config.json, `_class_name` included; a new copy at each call."""
        config: dict[str, Any] = json.loads(self.scheduler_json)
        return config

    def config(self, component: str) -> dict[str, Any]:
        """The config of one of its components, or of the pipeline itself (""); empty where there is none.

        Raises CheckpointError.
        """
        others = {part.name: part.config for part in self.elsewhere}
        own = self.config_folder / component / ("config.json" if component else layout.MODEL_INDEX)
        path = others.get(component, own)
        return read_json(path) if path.is_file() else {}

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the configs of the models by content, not by place, and what is done to them; the
        scheduler's config does not count. Reads the weights once per process.

        Raises:
            CheckpointError: a file can no longer be read.
        """
        beside = [*filter(None, (self.quantized, self.cache))]
        own = fingerprint(self.content)
        return blake2b(f"{own} {beside}".encode(), digest_size=16).hexdigest() if beside else own

    @property
    def cache(self) -> Mapping[Any, Mapping[str, Any]]:
        """The step cache that its cells are made with, see `checkpoint.cache`; references are made without."""
        return self.spec.cache


def with_part(checkpoint: Checkpoint, part: Elsewhere) -> Checkpoint:
    """The checkpoint with a component from elsewhere that it has not."""
    return replace(
        checkpoint,
        elsewhere=(*checkpoint.elsewhere, part),
        content=(*checkpoint.content, *part.content),
        beside=(*checkpoint.beside, *part.beside),
    )
