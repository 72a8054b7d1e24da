"""A diffusers folder, judged by its model_index.json and its file names. Nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from schedcmp.errors import CheckpointError
from schedcmp.pipelines.source import DENOISERS as DENOISERS

MODEL_INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
BUILTIN = "builtin:"  # begins the names of what is embedded
LIBRARIES = ("diffusers", "transformers")
SAFETY_CHECKER = "safety_checker"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
TEXTS = (".json", ".txt", ".model", ".jinja")  # configs, vocabularies, templates of chats
UNSAFE = "is pickled, and unpickling can run code, so it is never loaded. If you trust it, convert it:"
_NO_CODE = "and code from checkpoints is never run"
# diffusers.utils.constants and transformers.utils: SAFETENSORS_WEIGHTS_NAME, SAFE_WEIGHTS_NAME;
# the last alternative is diffusers' former name of a variant's shard.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)"
    r"(?:(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-\d{5})?|-\d{5}-of-\d{5}\.(?P<old_variant>[\w-]+))\.safetensors"
)
# As _add_variant and _fetch_index_file_legacy of diffusers name them
_INDEX = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.([\w-]+?))?\.safetensors(?:\.([\w-]+?))?\.index(?:\.([\w-]+))?\.json"
)
_NOT_A_MODEL = re.compile(r"(Tokenizer|TokenizerFast|Processor|Extractor|Scheduler)$")
# What lies in the folders of parts without weights, whatever their classes are called
_CONFIG_OF_NO_MODEL = re.compile(r"[^/]+/(tokenizer|preprocessor|processor|scheduler|guider)_config\.json")


@dataclass(frozen=True, slots=True)
class Component:
    """One entry of a model_index.json."""

    name: str
    library: str
    class_name: str
    is_model: bool = True


def components(
    index: Mapping[str, Any], names: Collection[str], where: str, *, safety_checker: bool = True
) -> list[Component]:
    """The components that a model_index.json names, the absent ones left out.

    Args:
        index: the parsed file.
        names: the checkpoint's files, as `file_names` gives them.
        where: the checkpoint's name, for messages.
        safety_checker: with the one that it may have.

    Raises:
        CheckpointError: a custom class, or nothing whose schedulers could be compared.
    """
    if not isinstance(index.get("_class_name"), str):
        raise CheckpointError(
            f"{where}: {MODEL_INDEX} names the custom pipeline {index.get('_class_name')!r}, {_NO_CODE};"
            " use a checkpoint whose pipeline is part of diffusers."
        )
    found = [
        Component(name, value[0], value[1], _has_weights(name, value[1], names))
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
        if safety_checker or name != SAFETY_CHECKER
    ]
    for component in found:
        if not _is_known_library(component.library):
            raise CheckpointError(
                f"{where}: {MODEL_INDEX} takes {component.name} from {component.library!r}, which is neither"
                f" diffusers nor transformers, {_NO_CODE}; use a checkpoint without custom classes."
            )
    if "scheduler" not in {component.name for component in found}:
        raise CheckpointError(f"{where}: {MODEL_INDEX} names no scheduler; use a pipeline that has one.")
    return found


def _has_weights(name: str, class_name: str, names: Collection[str]) -> bool:
    """Whether a component is a model, judged by its class's name, and where that tells nothing by its files."""
    if _NOT_A_MODEL.search(class_name):
        return False
    own = [file for file in names if file.startswith(f"{name}/")]
    if any(file == f"{name}/config.json" or is_weights(file) for file in own):
        return True
    return not any(map(_CONFIG_OF_NO_MODEL.fullmatch, own))


def absent(index: Mapping[str, Any]) -> list[str]:
    """The components that a model_index.json says are not there, as Stable Diffusion 3 is saved without its T5 encoder:
    diffusers loads such a folder only if told so."""
    return [name for name, value in index.items() if value == [None, None]]


def _is_known_library(library: str) -> bool:
    # Besides the two packages, diffusers resolves a name among its own pipeline modules ("stable_diffusion").
    if library in LIBRARIES:
        return True
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None or not library.isidentifier():
        return False
    return (Path(spec.origin).parent / "pipelines" / library).is_dir()


def builtin(name: str, holding: str, otherwise: str) -> Path:
    """The embedded folder of a name, with this file in it.

    Raises:
        CheckpointError: there is none, which is told by `otherwise`.
    """
    folder = Path(str(files("schedcmp"))) / "builtin"
    path = folder / name.removeprefix(BUILTIN)
    if (path / holding).is_file() and path.parent == folder:
        return path
    known = sorted(f"{BUILTIN}{file.parent.name}" for file in folder.glob(f"*/{holding}"))
    remedy = f"use {', '.join(known)}" if known else "install it anew"
    raise CheckpointError(f"{name} {otherwise}; {remedy}.")


def denoisers(pipeline: Any) -> list[Any]:
    """A pipeline's models whose evaluations are NFE."""
    return [model for name in DENOISERS if (model := getattr(pipeline, name, None)) is not None]


def file_names(folder: Path) -> list[str]:
    """Names of the folder's files and of its component folders' files, as a hub lists them."""
    return sorted(path.relative_to(folder).as_posix() for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        yield from (p for p in entry.iterdir() if p.is_file()) if entry.is_dir() else [entry]


def refuse_code(index: Mapping[str, Any], names: Collection[str], where: str) -> None:
    """Raises:
    CheckpointError: Python files lie where a pipeline or a component would run them.
    """
    folders = {name for name, value in index.items() if isinstance(value, list)}
    for name in names:
        folder, _, file = name.rpartition("/")
        if file.endswith(".py") and (folder in folders or name == "pipeline.py"):
            raise CheckpointError(
                f"{where} brings its own code ({name}), {_NO_CODE}; use a checkpoint whose classes are"
                " part of diffusers or transformers."
            )


def refuse_incomplete(parts: Collection[Component], names: Collection[str], where: str) -> None:
    """Raises:
    CheckpointError: a component's folder or its config is missing.
    """
    if SCHEDULER_CONFIG not in names:
        raise CheckpointError(f"{where}: {SCHEDULER_CONFIG} is missing; fetch it again.")
    for part in parts:
        if not any(name.startswith(f"{part.name}/") for name in names):
            raise CheckpointError(f"{where}: {part.name}/ is missing, though {MODEL_INDEX} names it; fetch it.")
        if part.is_model and f"{part.name}/config.json" not in names:
            raise CheckpointError(f"{where}: {part.name}/config.json is missing; fetch it again.")


def choose_weights(parts: Collection[Component], names: Collection[str], variant: str | None, where: str) -> list[str]:
    """Names of the weight files that loading will read: the variant's, else a component's plain ones.

    Args:
        parts: the checkpoint's components.
        names: the checkpoint's files, as `file_names` gives them.
        variant: as in file names ("fp16"); None for the plain files.
        where: the checkpoint's name, for messages.

    Raises:
        CheckpointError: no such variant, or a model without weights in the safetensors format.
    """
    found = {part.name: _by_variant(part.name, names) for part in parts if part.is_model}
    variants = sorted({name for weights in found.values() for name in weights if name})
    if variant and variant not in variants:
        there = f"there are: {', '.join(variants)}" if variants else "there are only plain files"
        raise CheckpointError(f"{where} has no variant {variant!r}; {there}. Correct `variant` or leave it out.")
    chosen = []
    for name, weights in found.items():
        if not (files := weights.get(variant or "") or weights.get("")):
            raise CheckpointError(_no_weights(name, names, sorted(weights), where))
        chosen += files
    return chosen


def find_indexes(weights: Collection[str], names: Collection[str]) -> list[str]:
    """Names of the indexes of shards that the libraries would read, and prefer, for one component's chosen weights."""
    variants = {match["variant"] or match["old_variant"] for name in weights if (match := _weights(name))}
    folder = min(weights).rpartition("/")[0]
    found = ((name, _INDEX.fullmatch(name.removeprefix(f"{folder}/"))) for name in sorted(names))
    return [name for name, match in found if match and ({*match.groups()} - {None} or {None}) <= variants]


def is_weights(name: str) -> bool:
    """Whether a file of this name has a model's weights, as the libraries name them."""
    return _weights(name) is not None


def _weights(name: str) -> re.Match[str] | None:
    return _WEIGHTS.fullmatch(name.rpartition("/")[2])


def _by_variant(component: str, names: Collection[str]) -> dict[str, list[str]]:
    weights: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.rpartition("/")[0] == component and (match := _weights(name)):
            weights.setdefault(match["variant"] or match["old_variant"] or "", []).append(name)
    return weights


def _no_weights(component: str, names: Collection[str], variants: list[str], where: str) -> str:
    if variants:
        return f"{where}: {component}/ has weights only as variant {', '.join(variants)}; set `variant`."
    pickled = [name for name in names if name.startswith(f"{component}/") and name.endswith(PICKLED)]
    if pickled:
        without = " Or leave it out: `safety_checker: false`." if component == SAFETY_CHECKER else ""
        convert = "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        return f"{where}: {pickled[0]} {UNSAFE} {convert}{without}"
    return f"{where}: {component}/ holds no .safetensors weights; fetch the missing file."
