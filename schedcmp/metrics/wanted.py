"""Which metrics a sweep gets: what it asks for, if that is possible on its checkpoint. Loads no model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.layout import DENOISERS, MODEL_INDEX
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import RegistryError, SweepError
from schedcmp.files import is_address, user_path, where_it_is
from schedcmp.metrics.metric import Metric
from schedcmp.metrics.table import ALWAYS, compares, opened, together
from schedcmp.records import Cell
from schedcmp.registry.build import Recipe
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.parts.measuring import MetricSpec
from schedcmp.sweep.parts.steps import Search
from schedcmp.truth.reference import References, plan_references

_WHOLE = ("auto", "reference")  # what is measured of whole tasks
_SEARCH = "steps: auto"
_SHARED = {name: {"model": "clip_model"} for name in ("clip", "aesthetic")}  # options that are keys of the sweep
_SMALL_BYTES = 200_000_000  # of the denoiser's weights: 50 million parameters in fp32
_MOST_FILES = 100_000
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def wanted_metrics(sweep: Sweep, checkpoint: Checkpoint) -> tuple[Metric, ...]:
    """What is read off single images, `metrics.table.ALWAYS` among it unless metrics are off. Loads no model.

    Raises:
        SweepError: one that was asked for by name cannot be had on this checkpoint; the message says why.
    """
    asked = [_opened(item, sweep) for item in sweep.metrics if item not in _WHOLE]
    named = {metric.column for metric in asked}
    always = [opened(name, {}) for name in ALWAYS if sweep.metrics and name not in named]
    for metric in asked:
        if why := metric.refusal(checkpoint):
            raise SweepError(why)
    return together([*asked, *(metric for metric in always if not metric.refusal(checkpoint))])


def _opened(item: str | MetricSpec, sweep: Sweep) -> Metric:
    kind, options, name = (item, {}, item) if isinstance(item, str) else (item.kind, item.options, item.name)
    shared = {option: getattr(sweep, key) for option, key in _SHARED.get(kind, {}).items()}
    return opened(kind, {**shared, **options}, "" if name == kind else name)


def portable(asked: Iterable[str | MetricSpec], metrics: Iterable[Metric]) -> tuple[str | MetricSpec, ...]:
    """What a sweep asks for, with the whole paths of what is on the disk."""
    paths = {metric.column: metric.paths for metric in metrics}

    def placed(spec: MetricSpec) -> MetricSpec:
        own = {name: where_it_is(spec.options[name]) for name in paths.get(spec.name, ()) if name in spec.options}
        return spec.model_copy(update={"options": spec.options | own})

    return tuple(item if isinstance(item, str) else placed(item) for item in asked)


def wants_references(sweep: Sweep, checkpoint: Checkpoint) -> bool:
    """Whether distances to the converged image are asked for: by `auto` on a small checkpoint, where that costs little.

    Raises:
        SweepError: they were asked for by name, and have no meaning.
    """
    latent = bool(read_json(checkpoint.config_folder / MODEL_INDEX).get("vae"))
    needing = _needing_references(sweep)
    instead = "give numbers of steps" if needing == _SEARCH else "leave it out"
    if needing and not latent:
        raise SweepError(f"{needing} compares latents, and {checkpoint.pipeline_class} has no VAE; {instead}")
    if min(sweep.strength or (1.0,)) < 1:
        if needing:
            raise SweepError(
                f"{needing} has no meaning at a strength below 1, where each sigma schedule begins at a noise level of"
                f" its own and heads for another image; {instead}"
            )
        return False
    small = latent and _denoiser_bytes(checkpoint) <= _SMALL_BYTES
    return bool(needing) or ("auto" in sweep.metrics and small)


def _needing_references(sweep: Sweep) -> str:
    """What of a sweep cannot do without them, or ""."""
    if isinstance(sweep.steps, Search):
        return _SEARCH
    names = ((item, item) if isinstance(item, str) else (item.name, item.kind) for item in sweep.metrics)
    return next((name for name, kind in names if kind == "reference" or (kind != "auto" and compares(kind))), "")


def wanted_references(
    sweep: Sweep, cells: Iterable[Cell], recipes: Mapping[str, Recipe], scheduler_config: Mapping[str, Any], nfe: int
) -> References | None:
    """As `plan_references`; None where `auto` would have had them, but they cannot be or would cost more than the
    sweep's own `nfe` evaluations. Raises SweepError."""
    try:
        found = plan_references(cells, recipes, scheduler_config, sweep.generator)
        return found if _needing_references(sweep) or found is None or found.nfe <= nfe else None
    except RegistryError as error:
        if _needing_references(sweep):
            raise SweepError(str(error)) from error
        return None


def real_images(folder: str) -> list[Path]:
    """The images of a folder, or of one at an address, in the order of their names.

    Raises:
        SweepError: there are not two at least, or the address cannot be reached.
    """
    path = _fetched(folder) if is_address(folder) else user_path(folder)
    found = sorted(p for p in _files(path) if p.suffix.lower() in _IMAGES and p.is_file())
    if len(found) < 2:
        raise SweepError(f"{folder} has {len(found)} images ({', '.join(_IMAGES)}); give a folder that has many")
    return found


def _files(folder: Path) -> Iterator[Path]:
    names = 0
    for top, _, files in os.walk(folder):
        names += len(files)
        if names > _MOST_FILES:
            raise SweepError(f"{folder} has over {_MOST_FILES:,} files; give a folder of images, and of nothing else")
        yield from (Path(top, name) for name in files)


def _fetched(address: str) -> Path:
    from schedcmp.checkpoint.remote import fetch

    return fetch(
        address, _IMAGES, cache="images", nothing=f"no images are there ({', '.join(_IMAGES)})", error=SweepError
    )


def _denoiser_bytes(checkpoint: Checkpoint) -> int:
    """Of the denoiser's weight files; a single file counts as a whole."""
    folders = tuple(f"{name}/" for name in DENOISERS)
    weights = [file for file in checkpoint.content if file.path.suffix == ".safetensors"]
    return sum(file.size for file in weights if file.name.startswith(folders) or not file.name)
