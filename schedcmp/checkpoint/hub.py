"""Checkpoints on the Hugging Face hub: fetched into its cache, or one sentence on why not."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.layout import SAFETY_CHECKER
from schedcmp.errors import CheckpointError, one_line

_LOG_IN = "run `hf auth login` or set HF_TOKEN"


def fetch(
    repository: str, revision: str | None, variant: str | None, *, safety_checker: bool = True, progress: bool = False
) -> Path:
    """Download a diffusers pipeline, or find it in the cache; only configs and safetensors weights.

    Args:
        repository: hub id, "owner/name".
        revision: branch, tag or commit; None for the default branch.
        variant: as in file names ("fp16"); None for the plain files.
        safety_checker: with the one that it may have.
        progress: show the bars of the download.

    Raises:
        CheckpointError: it cannot be had, is pickled, brings its own code or is no diffusers pipeline.
    """
    with _explained(repository, revision, progress), _listed(repository, revision) as names:
        index = read_json(_index(repository, revision, names))
        parts = layout.components(index, names or (), repository, safety_checker=safety_checker)
        if names is not None:
            layout.refuse_code(index, names, repository)
            layout.refuse_incomplete(parts, names, repository)
            layout.choose_weights(parts, names, variant, repository)
        from diffusers import DiffusionPipeline

        folder = DiffusionPipeline.download(
            repository,
            revision=revision,
            variant=variant,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=names is None,
            **({} if safety_checker else {SAFETY_CHECKER: None}),
        )
    return Path(folder)


def fetch_configs(repository: str, *, progress: bool = False) -> Path:
    """Download a pipeline's configs and tokenizers without its weights.

    Raises:
        CheckpointError: they cannot be had, or it is no diffusers pipeline.
    """
    from huggingface_hub import snapshot_download

    with _explained(repository, None, progress), _listed(repository) as names:
        _index(repository, None, names)
        # As diffusers' from_single_file.
        patterns = ["*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model"]
        folder = snapshot_download(repository, allow_patterns=patterns, local_files_only=names is None)
    return Path(folder)


def fetch_model(repository: str, *, progress: bool = False) -> Path:
    """Download one model of transformers with what reads its inputs; only configs and safetensors weights.

    Raises:
        CheckpointError: it cannot be had.
    """
    from huggingface_hub import snapshot_download

    with _explained(repository, None, progress), _listed(repository) as names:
        patterns = ["*.json", "*.txt", "*.model", "model.safetensors"]
        folder = snapshot_download(repository, allow_patterns=patterns, local_files_only=names is None)
    return Path(folder)


def fetch_adapter(
    repository: str, chosen: Callable[[list[str]], str], revision: str | None, *, progress: bool = False
) -> Path:
    """Download a LoRA, and nothing else of its repository.

    Args:
        chosen: of the repository's files the one that is meant; it may raise CheckpointError.

    Raises:
        CheckpointError: it cannot be had, is pickled, or is one of several.
    """
    from huggingface_hub import snapshot_download

    with _explained(repository, revision, progress), _listed(repository, revision) as names:
        wanted = "*.safetensors" if names is None else chosen(names)
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=[wanted], local_files_only=names is None
        )
    return Path(folder)


@contextmanager
def _listed(repository: str, revision: str | None = None) -> Iterator[list[str] | None]:
    """The names of the repository's files; None where the hub refuses or does not answer, which is raised if the cache
    lacks what is looked for."""
    from huggingface_hub import HfApi, errors

    names, refusal = None, None
    try:
        # Asked first, since a download retries for half a minute before it says that there is no network.
        names = [file.rfilename for file in HfApi().model_info(repository, revision=revision).siblings or []]
    except Exception as error:  # raised below, unless the cache helps
        refusal = error
    try:
        yield names
    except errors.LocalEntryNotFoundError as error:
        raise error from refusal or error.__cause__


def _index(repository: str, revision: str | None, names: list[str] | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, layout.MODEL_INDEX, revision=revision, local_files_only=names is None))


@contextmanager
def _explained(repository: str, revision: str | None, progress: bool) -> Iterator[None]:
    from schedcmp.checkpoint.quiet import quiet

    try:
        with quiet(progress=progress):
            yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(_explain(error, repository, revision)) from error


def _explain(error: BaseException | None, repository: str, revision: str | None) -> str:
    from huggingface_hub import errors

    match error:
        case errors.LocalEntryNotFoundError():
            return _explain_absent(error.__cause__, repository, revision)
        case errors.GatedRepoError():
            return f"{repository} is gated: accept its licence on the model's page, then {_LOG_IN}."
        case errors.RepositoryNotFoundError():
            return (
                f"{repository}: no such folder here, and no such model on the hub that you may see;"
                f" check the spelling, and if the model is private {_LOG_IN}."
            )
        case errors.RevisionNotFoundError():
            return f"{repository} has no revision {revision!r}; give one of its branches, tags or commits."
        case errors.HFValidationError():
            return f"{repository!r} is neither a folder nor a hub id (owner/name); correct it."
        case errors.EntryNotFoundError():
            return (
                f"{repository} is no diffusers pipeline ({layout.MODEL_INDEX} is missing);"
                " download its .safetensors file and give that file."
            )
        case errors.HfHubHTTPError() if error.response.status_code == 401:
            return f"{repository}: the hub refuses your token; {_LOG_IN} with a valid one."
        case errors.HfHubHTTPError():
            return (
                f"{repository}: the hub answers with status {error.response.status_code}; try again later,"
                " or use a local folder."
            )
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
        return f"{repository}: the disk is full; free some room, or set HF_HOME to a folder on another disk."
    return f"{repository} cannot be fetched: {one_line(error)}"


def _explain_absent(cause: BaseException | None, repository: str, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    if isinstance(cause, errors.HfHubHTTPError):
        return _explain(cause, repository, revision)
    why, remedy = "the hub cannot be reached", "check the network"
    if constants.HF_HUB_OFFLINE:
        why, remedy = "HF_HUB_OFFLINE is set", "unset it"
    return f"{repository} is not complete in the local cache, and {why}; {remedy}, or use a local folder."
