"""What a checkpoint's pipeline, or the backend, would refuse of a sweep, or make otherwise, in every cell."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from schedcmp.axes import arguments
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
    for place, why in _refusals(sweep, checkpoint):
        if why:
            raise SweepError(f"{source.at(*place)}: {why}")
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


def _refusals(sweep: Sweep, checkpoint: Checkpoint) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each place in the sweep with why it is refused; empty if it is not."""
    of = checkpoint.pipeline_class, checkpoint.config
    yield from ((("call", name), why) for name, why in refused_arguments(of[0], sweep.call))
    yield from (((key,), why) for key, why in not_taken(of[0], sweep))
    if A1111 in (sweep.prompt_syntax or ()) and (why := no_weights(checkpoint, sweep)):
        yield ("prompt_syntax",), f"{A1111}: {why}"
    yield ("num_frames",), frames_refusal(*of, sweep.num_frames or ())
    yield ("call", CLIP_SKIP), skip_refusal(*of, sweep.call.get(CLIP_SKIP, ()))
    sizes = [(width, height) for width, height in sweep.sizes if width and height]
    calls = map(arguments, islice(sweep.calls, _MOST_CALLS))
    yield ("size" if sweep.size else "width",), size_refusal(*of, sizes) or chosen_instead(*of, sizes, calls)
