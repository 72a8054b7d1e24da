"""From what a sweep says of its model to the checkpoint that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedcmp.checkpoint.kinds import KINDS
from schedcmp.checkpoint.source import Checkpoint, ModelSpec, inspect
from schedcmp.errors import CheckpointError
from schedcmp.files import where_it_is

if TYPE_CHECKING:
    from schedcmp.sweep.parts import Model
    from schedcmp.sweep.source import Source


def find_checkpoint(
    model: Model, source: Source | None = None, *, safety_checker: bool = True, progress: bool = False
) -> Checkpoint:
    """Raises CheckpointError; its message says where in the sweep the model, or its part that is wrong, was named."""
    spec = ModelSpec(
        model.id,
        revision=model.revision,
        variant=model.variant,
        config=model.config,
        parts={name: place for name in KINDS if (place := getattr(model, name))},
        embeddings=model.embeddings,
        safety_checker=safety_checker,
    )
    try:
        return inspect(spec, progress=progress)
    except CheckpointError as error:
        key = ("model", *getattr(error, "key", ()))
        raise CheckpointError(f"{source.where(key)}: model: {error}" if source else str(error)) from error


def portable(model: Model) -> Model:
    """The same from any folder: what is on the disk has its whole path."""
    places = {name: where_it_is(getattr(model, name)) for name in ("id", "config", *KINDS)}
    embeddings = {word: where_it_is(place) for word, place in model.embeddings.items()}
    return model.model_copy(update={**places, "embeddings": embeddings})
