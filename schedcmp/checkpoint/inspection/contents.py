"""What of a checkpoint's folder or file counts, and what its configs say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.elsewhere import Elsewhere, other_part
from schedcmp.checkpoint.embeddings import embedding
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.marks import hints
from schedcmp.checkpoint.quantize import quantized
from schedcmp.checkpoint.source import Checkpoint, ModelSpec
from schedcmp.checkpoint.weights import ContentFile, content_file, refuse_endless
from schedcmp.errors import CheckpointError

_MOST_PIXELS = 16_384  # a side


def config_files(folder: Path, parts: list[layout.Component]) -> Iterator[ContentFile]:
    yield content_file(layout.MODEL_INDEX, folder / layout.MODEL_INDEX)
    for part in parts:
        if part.name == "scheduler":
            continue
        for path in sorted((folder / part.name).glob("*")):
            wanted = path.name == "config.json" or (not part.is_model and path.suffix in layout.TEXTS)
            if wanted and path.is_file():
                yield content_file(f"{part.name}/{path.name}", path)


def scheduler_config(folder: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """Raises CheckpointError."""
    config = read_json(folder / layout.SCHEDULER_CONFIG)
    if not str(config.get("_class_name", "x")).isidentifier():  # a dotted one would be imported
        raise CheckpointError(f"{folder / layout.SCHEDULER_CONFIG}: `_class_name` must name a class of diffusers.")
    return {"_class_name": index["scheduler"][1], **config}


def checkpoint_of(
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
    index = read_json(folder / layout.MODEL_INDEX)
    scheduler = scheduler or scheduler_config(folder, index)
    parts = [*elsewhere, *(other_part(part, place, folder) for part, place in spec.parts.items())]
    files = dict.fromkeys(index, path) if path.is_file() else {}
    files |= {part.name: part.path for part in parts}
    learned = tuple(embedding(token, place, folder) for token, place in spec.embeddings.items())
    replaced = tuple(f"{part.name}/" for part in parts)
    kept = [name for name in indexes if not name.startswith(replaced)]
    for part in index:
        refuse_endless(folder / part / "tokenizer_config.json")
    width, height = image_size(folder)
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


def image_size(folder: Path) -> tuple[int | None, int | None]:
    """The checkpoint's own (width, height) in pixels, where its configs tell: the denoiser's
    sample_size times the VAE's factor, as diffusers' pipelines compute it."""
    for denoiser in ("unet", "transformer"):
        path = folder / denoiser / "config.json"
        size = read_json(path).get("sample_size") if path.is_file() else None
        factor = _vae_factor(folder)
        if isinstance(size, int) and factor:
            return size * factor, size * factor
        if isinstance(size, list) and len(size) == 2 and factor:
            return size[1] * factor, size[0] * factor
    return None, None


def _vae_factor(folder: Path) -> int | None:
    vae = next((path for name in ("vae", "vqvae") if (path := folder / name / "config.json").is_file()), None)
    if vae is None:
        return 1
    blocks = read_json(vae).get("block_out_channels")
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else None
