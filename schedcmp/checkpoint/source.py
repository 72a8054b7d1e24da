"""Find a checkpoint and read what can be known of it without loading it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from schedcmp.checkpoint import layout, single_file
from schedcmp.checkpoint.elsewhere import Elsewhere, other_part, part_of
from schedcmp.checkpoint.embeddings import Embedding, embedding
from schedcmp.checkpoint.marks import hints, stated
from schedcmp.checkpoint.quantize import quantized
from schedcmp.checkpoint.weights import (
    ContentFile,
    content_file,
    fingerprint,
    refuse_endless,
    refuse_oversized,
    resolve_shards,
    tensor_shapes,
)
from schedcmp.errors import CheckpointError
from schedcmp.files import is_address, user_path

GIVEN = "pipeline:"  # the name of a pipeline that a program has loaded itself, see `checkpoint.given`
_BUILTIN = "builtin:"
_MOST_PIXELS = 16_384  # a side
_FILE_SUFFIXES = (".safetensors", *layout.PICKLED)


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
    variant: str | None
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
        return layout.read_json(path) if path.is_file() else {}

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


def inspect(spec: ModelSpec, *, progress: bool = False) -> Checkpoint:
    """Find a checkpoint, fetch it if it is on the hub or at an address, and read its configs.

    Args:
        spec: what to look for.
        progress: show the bars of a download.

    Raises:
        CheckpointError: it is not there, not whole, not readable, not safe or no diffusion pipeline.
    """
    if spec.model.startswith(GIVEN):
        raise CheckpointError(
            f"{spec.model} was handed over by a Python program and is in no file; run it from there, with"
            " schedcmp.run(..., pipeline=...), or give a checkpoint."
        )
    if is_address(spec.model):
        from schedcmp.checkpoint.remote import fetch

        path = fetch(spec.model)
    else:
        path = user_path(spec.model)
    try:
        if spec.model.startswith(_BUILTIN):
            _refuse_options(spec, "revision", "variant", "config")
            return _from_folder(spec, spec.model, _builtin(spec.model))
        if path.is_dir():
            _refuse_options(spec, "revision", "config")
            return _from_folder(spec, path.resolve().name, path)
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is a pipe or a device; give a diffusers folder or a .safetensors file.")
        if path.is_file():
            _refuse_options(spec, "revision", "variant")
            return _from_file(spec, path, progress)
        return _from_hub(spec, progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{error.filename or path} cannot be read ({reason}); correct that.") from error


def _refuse_options(spec: ModelSpec, *names: str) -> None:
    meant_for = {"revision": "a hub id", "variant": "a folder or a hub id", "config": "a single file"}
    for name in names:
        if getattr(spec, name) is not None:
            raise CheckpointError(f"`{name}` is for {meant_for[name]}; {spec.model} is none, so leave it out.")


def with_part(checkpoint: Checkpoint, part: Elsewhere) -> Checkpoint:
    """The checkpoint with a component from elsewhere that it has not."""
    return replace(
        checkpoint,
        elsewhere=(*checkpoint.elsewhere, part),
        content=(*checkpoint.content, *part.content),
        beside=(*checkpoint.beside, *part.beside),
    )


def _builtin(model: str) -> Path:
    folder = Path(str(files("schedcmp"))) / "builtin"
    path = folder / model.removeprefix(_BUILTIN)
    if (path / layout.MODEL_INDEX).is_file() and path.parent == folder:
        return path
    known = sorted(f"{_BUILTIN}{index.parent.name}" for index in folder.glob(f"*/{layout.MODEL_INDEX}"))
    remedy = f"use {', '.join(known)}" if known else "install it anew"
    raise CheckpointError(f"{model} is not part of this installation; {remedy}.")


def _from_folder(spec: ModelSpec, name: str, folder: Path) -> Checkpoint:
    if not (folder / layout.MODEL_INDEX).is_file():
        raise CheckpointError(_no_checkpoint(folder))
    index = layout.read_json(folder / layout.MODEL_INDEX)
    names = layout.file_names(folder)
    parts = layout.components(index, names, str(folder), safety_checker=spec.safety_checker)
    layout.refuse_code(index, names, str(folder))
    layout.refuse_incomplete(parts, names, str(folder))
    weights = layout.choose_weights(parts, names, spec.variant, str(folder))
    weights, indexes = resolve_shards(folder, weights, names)
    shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for weight in weights:
        shapes[weight.rpartition("/")[0]] += tensor_shapes(folder / weight).values()
    for component, own in shapes.items():
        refuse_oversized(folder / component / "config.json", own)
    content = [*_config_files(folder, parts), *(content_file(weight, folder / weight) for weight in weights)]
    return _checkpoint(spec, name, folder, folder, content, indexes)


def _no_checkpoint(folder: Path) -> str:
    if (folder.resolve().parent / layout.MODEL_INDEX).is_file():
        parent = folder.resolve().parent
        return f"{folder} is one component of a checkpoint; give the whole checkpoint: {parent}"
    missing = f"{layout.MODEL_INDEX} is missing"
    if (folder / "config.json").is_file():
        return f"{folder} is one model without its pipeline ({missing}); give the pipeline's folder."
    if singles := sorted(folder.glob("*.safetensors")):
        return f"{folder} is no diffusers folder ({missing}); for a single file give {singles[0]}"
    return f"{folder} is no checkpoint ({missing}); give a folder that save_pretrained() wrote."


def _from_file(spec: ModelSpec, path: Path, progress: bool) -> Checkpoint:
    folder = single_file.config_folder(path, spec.config, progress=progress)
    index = layout.read_json(folder / layout.MODEL_INDEX)
    names = layout.file_names(folder)
    parts = layout.components(index, names, str(folder), safety_checker=False)  # from_single_file never loads one
    layout.refuse_code(index, names, str(folder))
    layout.refuse_incomplete(parts, names, str(folder))
    tensors = tensor_shapes(path)
    for part in parts:
        if part.is_model:
            refuse_oversized(folder / part.name / "config.json", tensors.values())
    single_file.refuse_other_channels(path, tensors, folder)
    missing = [part for part in single_file.missing_parts(parts, tensors) if part.name not in spec.parts]
    taken = [found for part in missing if (found := part_of(folder, part))]
    single_file.refuse_missing(path, [part for part in missing if part.name not in {t.name for t in taken}])
    config, remarks = stated(path, tensors, _scheduler_config(folder, index))
    remarks += [f"{path.name} has no {t.name}; that of {folder} is taken" for t in taken]
    content = [*_config_files(folder, parts), content_file("", path)]
    return _checkpoint(spec, path.stem, path, folder, content, (), config, taken, remarks)


def _from_hub(spec: ModelSpec, progress: bool) -> Checkpoint:
    _refuse_options(spec, "config")
    is_path = spec.model.startswith((".", "~", "/")) or Path(spec.model).suffix in _FILE_SUFFIXES
    if is_path or spec.model.count("/") != 1:
        raise CheckpointError(
            f"{spec.model}: no such folder or file. Give a diffusers folder, a .safetensors file, a hub id"
            f" (owner/name) or {_BUILTIN}tiny."
        )
    from schedcmp.checkpoint import hub

    folder = hub.fetch(spec.model, spec.revision, spec.variant, safety_checker=spec.safety_checker, progress=progress)
    return _from_folder(spec, spec.model, folder)


def _config_files(folder: Path, parts: list[layout.Component]) -> Iterator[ContentFile]:
    yield content_file(layout.MODEL_INDEX, folder / layout.MODEL_INDEX)
    for part in parts:
        if part.name == "scheduler":
            continue
        for path in sorted((folder / part.name).glob("*")):
            wanted = path.name == "config.json" or (not part.is_model and path.suffix in layout.TEXTS)
            if wanted and path.is_file():
                yield content_file(f"{part.name}/{path.name}", path)


def _scheduler_config(folder: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """Raises CheckpointError."""
    config = layout.read_json(folder / layout.SCHEDULER_CONFIG)
    if not str(config.get("_class_name", "x")).isidentifier():  # a dotted one would be imported
        raise CheckpointError(f"{folder / layout.SCHEDULER_CONFIG}: `_class_name` must name a class of diffusers.")
    return {"_class_name": index["scheduler"][1], **config}


def _checkpoint(
    spec: ModelSpec,
    name: str,
    path: Path,
    folder: Path,
    content: list[ContentFile],
    indexes: Iterable[str],
    scheduler: dict[str, Any] | None = None,
    elsewhere: Iterable[Elsewhere] = (),
    remarks: Iterable[str] = (),
) -> Checkpoint:
    index = layout.read_json(folder / layout.MODEL_INDEX)
    scheduler = scheduler or _scheduler_config(folder, index)
    parts = [*elsewhere, *(other_part(part, place, folder) for part, place in spec.parts.items())]
    files = dict.fromkeys(index, path) if path.is_file() else {}
    files |= {part.name: part.path for part in parts}
    learned = tuple(embedding(token, place, folder) for token, place in spec.embeddings.items())
    replaced = tuple(f"{part.name}/" for part in parts)
    kept = [name for name in indexes if not name.startswith(replaced)]
    for part in index:
        refuse_endless(folder / part / "tokenizer_config.json")
    width, height = layout.image_size(folder)
    if max(width or 0, height or 0) > _MOST_PIXELS:
        raise CheckpointError(
            f"{folder}: `sample_size` asks for images of over {_MOST_PIXELS:,} pixels; fetch it again."
        )
    return Checkpoint(
        spec=spec,
        name=name,
        path=path,
        kind="file" if path.is_file() else "folder",
        config_folder=folder,
        variant=spec.variant,
        pipeline_class=index["_class_name"],
        width=width,
        height=height,
        scheduler_json=json.dumps(scheduler),
        content=(
            *(file for file in content if not file.name.startswith(replaced)),
            *(file for part in parts for file in part.content),
            *(one.file for one in learned),
        ),
        beside=(
            *(content_file(file, folder / file) for file in (layout.SCHEDULER_CONFIG, *kept)),
            *(file for part in parts for file in part.beside),
        ),
        elsewhere=tuple(parts),
        embeddings=learned,
        quantized=quantized(spec.quantize, folder, {part: file for part, file in files.items() if file.is_file()}),
        remarks=(*remarks, *hints(name, scheduler)),
    )
