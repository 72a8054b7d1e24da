"""What a checkpoint's pipeline, or the backend, would refuse of a sweep, or make otherwise, in every cell."""

from __future__ import annotations

import json
from itertools import islice

from schedcmp.backend.support import refusal
from schedcmp.checkpoint.cache import refuse_cache
from schedcmp.checkpoint.emphasis import A1111, no_weights
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, PartError, SweepError
from schedcmp.inputs.given import Inputs
from schedcmp.pipelines.arguments import not_taken, refused_arguments
from schedcmp.pipelines.arithmetic import size_refusal
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.packages import install, missing_packages
from schedcmp.pipelines.sizes import chosen_instead
from schedcmp.pipelines.skipping import CLIP_SKIP, skip_refusal
from schedcmp.pipelines.videos import frames_refusal
from schedcmp.prepare.costs import Costs
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import Source

_MOST_CALLS = 20  # combinations of further arguments that are asked for the sizes that they choose


def refuse_unfit(inputs: Inputs, source: Source) -> None:
    """Raises RequestError."""
    sweep, checkpoint = inputs.sweep, inputs.checkpoint
    _refuse_pipeline(checkpoint, inputs, source)
    if checkpoint.cache:
        _refuse_cache(sweep, checkpoint, source)
    _refuse_arguments(sweep, checkpoint, source)
    if sweep.backend == "jax" and (found := refusal(sweep, checkpoint)):
        key, why = found
        raise SweepError(f"{source.where(key)}: {'.'.join(key)}: {why}")


def refuse_places(sweep: Sweep, source: Source) -> None:
    """Raises SweepError for a place that results cannot be sent to."""
    if sweep.track:
        from schedcmp.track.trackers import refusal

        for why in filter(None, map(refusal, sweep.track)):
            raise SweepError(f"{source.at('track')}: {why}")


def _refuse_pipeline(checkpoint: Checkpoint, inputs: Inputs, source: Source) -> None:
    pipeline, where = checkpoint.pipeline_class, f"{source.at('model')}: {checkpoint.name}"
    if missing := missing_packages(pipeline):
        raise CheckpointError(f"{where}: {pipeline} needs {', '.join(missing)}: {install(missing)}")
    if why := unfit(pipeline, checkpoint.config, inputs.arguments):
        raise CheckpointError(f"{where}: {why}")


def _refuse_cache(sweep: Sweep, checkpoint: Checkpoint, source: Source) -> None:
    if sweep.optimize.compile:
        where = source.where(("optimize", "compile"))
        raise SweepError(f"{where}: optimize.compile: goes with no step cache, which changes the model; leave one out")
    if sweep.executor.ray is not None:
        told = "ray packs cells on its workers, and a step cache is of one image; use executor: local"
        raise SweepError(f"{source.at('executor')}: {told}")
    try:
        refuse_cache(checkpoint, Costs(checkpoint).most(sweep))
    except PartError as error:
        raise CheckpointError(f"{source.at('model', *error.key)}: {error}") from error


def _refuse_arguments(sweep: Sweep, checkpoint: Checkpoint, source: Source) -> None:
    pipeline = checkpoint.pipeline_class
    for name, why in refused_arguments(pipeline, sweep.call):
        raise SweepError(f"{source.at('call', name)}: {why}")
    for key, why in not_taken(pipeline, sweep):
        raise SweepError(f"{source.at(key)}: {why}")
    if A1111 in (sweep.prompt_syntax or ()) and (why := no_weights(checkpoint, sweep)):
        raise SweepError(f"{source.at('prompt_syntax')}: {A1111}: {why}")
    if sweep.num_frames and (wrong := frames_refusal(pipeline, checkpoint.config, sweep.num_frames)):
        raise SweepError(f"{source.at('num_frames')}: {wrong}")
    if why := skip_refusal(pipeline, checkpoint.config, sweep.call.get(CLIP_SKIP, ())):
        raise SweepError(f"{source.at('call', CLIP_SKIP)}: {why}")
    sizes = [(width, height) for width, height in sweep.sizes if width and height]
    calls = [json.loads(call or "{}") for call in islice(sweep.calls, _MOST_CALLS)] if sizes else []
    wrong = size_refusal(pipeline, checkpoint.config, sizes) or chosen_instead(
        pipeline, checkpoint.config, sizes, calls
    )
    if wrong:
        raise SweepError(f"{source.at('size' if sweep.size else 'width')}: {wrong}")
