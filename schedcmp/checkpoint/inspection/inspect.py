"""Find a checkpoint and read what can be known of it without loading it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from schedcmp.checkpoint import layout, single_file
from schedcmp.checkpoint.elsewhere import part_of
from schedcmp.checkpoint.inspection.contents import checkpoint_of, config_files, scheduler_config
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.marks import stated
from schedcmp.checkpoint.source import GIVEN, Checkpoint, ModelSpec
from schedcmp.checkpoint.weights import content_file, refuse_oversized, resolve_shards, tensor_shapes
from schedcmp.errors import CheckpointError
from schedcmp.files import is_address, user_path

_FILE_SUFFIXES = (".safetensors", *layout.PICKLED)


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
        if spec.model.startswith(layout.BUILTIN):
            _refuse_options(spec, "revision", "variant", "config")
            folder = layout.builtin(spec.model, layout.MODEL_INDEX, "is not part of this installation")
            return _from_folder(spec, spec.model, folder)
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


def _from_folder(spec: ModelSpec, name: str, folder: Path) -> Checkpoint:
    if not (folder / layout.MODEL_INDEX).is_file():
        raise CheckpointError(_no_checkpoint(folder))
    index = read_json(folder / layout.MODEL_INDEX)
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
    content = [*config_files(folder, parts), *(content_file(weight, folder / weight) for weight in weights)]
    return checkpoint_of(spec, name, folder, folder, content, indexes)


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
    index = read_json(folder / layout.MODEL_INDEX)
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
    config, remarks = stated(path, tensors, scheduler_config(folder, index))
    remarks += [f"{path.name} has no {t.name}; that of {folder} is taken" for t in taken]
    content = [*config_files(folder, parts), content_file("", path)]
    return checkpoint_of(spec, path.stem, path, folder, content, (), config, taken, remarks)


def _from_hub(spec: ModelSpec, progress: bool) -> Checkpoint:
    _refuse_options(spec, "config")
    is_path = spec.model.startswith((".", "~", "/")) or Path(spec.model).suffix in _FILE_SUFFIXES
    if is_path or spec.model.count("/") != 1:
        raise CheckpointError(
            f"{spec.model}: no such folder or file. Give a diffusers folder, a .safetensors file, a hub id"
            f" (owner/name) or {layout.BUILTIN}tiny."
        )
    from schedcmp.checkpoint import hub

    folder = hub.fetch(spec.model, spec.revision, spec.variant, safety_checker=spec.safety_checker, progress=progress)
    return _from_folder(spec, spec.model, folder)
