"""From what a sweep says of its model to the checkpoint that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.kinds import KINDS
from schedcmp.checkpoint.source import Checkpoint, ModelSpec
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.files import where_it_is

if TYPE_CHECKING:
    from schedcmp.sweep.document import Sweep
    from schedcmp.sweep.parts.model import Model
    from schedcmp.sweep.source import Source


# What a loaded pipeline has decided already
DECIDED = ("device", "dtype", "vae_dtype", "safety_checker", "optimize", "backend", "executor")


def find_checkpoint(
    model: Model, source: Source | None = None, *, safety_checker: bool = True, progress: bool = False
) -> Checkpoint:
    """Raises CheckpointError; its message says where in the sweep the model, or its part that is wrong, was named."""
    try:
        return _find(model, safety_checker, progress)
    except CheckpointError as error:
        key = ("model", *getattr(error, "key", ()))
        raise CheckpointError(f"{source.where(key)}: model: {error}" if source else str(error)) from error


def _find(model: Model, safety_checker: bool, progress: bool) -> Checkpoint:
    if model.python:
        from schedcmp.checkpoint.given import made

        return made(model.python, model.options)
    spec = ModelSpec(
        str(model.id),
        revision=model.revision,
        variant=model.variant,
        config=model.config,
        parts={name: place for name in KINDS if (place := getattr(model, name))},
        embeddings=model.embeddings,
        quantize=model.quantize,
        cache=model.cache,
        safety_checker=safety_checker,
    )
    return inspect(spec, progress=progress)


def settled(sweep: Sweep, source: Source, checkpoint: Any) -> Sweep:
    """The sweep with what a pipeline that the user's code has made has decided. Raises SweepError for another wish."""
    own = checkpoint.settings
    usual = type(sweep).model_fields
    for key in DECIDED:
        value = getattr(sweep, key)
        if value not in (usual[key].default, own.get(key), own.get(key, "").partition(":")[0]):
            raise SweepError(f"{source.at(key)}: the pipeline of {checkpoint.name} has its own; leave it out")
    return sweep.model_copy(update=own)


def portable(model: Model) -> Model:
    """The same from any folder: what is on the disk has its whole path."""
    places = {name: where_it_is(getattr(model, name)) for name in ("id", "config", *KINDS)}
    embeddings = {word: where_it_is(place) for word, place in model.embeddings.items()}
    return model.model_copy(update={**places, "embeddings": embeddings})
