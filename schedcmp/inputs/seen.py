"""The IP-Adapter of a sweep, and the images that it sees."""

from __future__ import annotations

from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.ip_adapter import with_ip_adapter
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.pipelines.adapters import no_ip_adapter
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.keys import SEEN
from schedcmp.sweep.source import Source


def seeing(checkpoint: Checkpoint, sweep: Sweep, source: Source) -> Checkpoint:
    """The checkpoint with the sweep's IP-Adapter, if it has one.

    Raises:
        SweepError: with file:line: it cannot have one, or adapter and image do not go together.
        CheckpointError: likewise: the adapter is not there, or does not fit.
    """
    if not sweep.ip_adapter:
        _refuse_alone(checkpoint, sweep, source)
        return checkpoint
    refuse_unseeing(checkpoint.pipeline_class, sweep, source)
    where = source.where(("ip_adapter",))
    if isinstance(checkpoint, Given):
        raise SweepError(f"{where}: ip_adapter: load it into the pipeline that a program has made; leave it out here")
    if not sweep.ip_adapter_image:
        raise SweepError(f"{where}: ip_adapter: sees an image, and there is none; add `{SEEN}`")
    try:
        return with_ip_adapter(checkpoint, sweep.ip_adapter.path, sweep.ip_adapter.image_encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: ip_adapter: {error}") from error


def refuse_unseeing(pipeline: str, sweep: Sweep, source: Source) -> None:
    """Raises SweepError for a pipeline that loads no such adapter."""
    if sweep.ip_adapter and (why := no_ip_adapter(pipeline)):
        raise SweepError(f"{source.at('ip_adapter')}: {why}; leave it out")


def _refuse_alone(checkpoint: Checkpoint, sweep: Sweep, source: Source) -> None:
    """What an adapter is missing for; a pipeline that a program has made may have one."""
    has_one = isinstance(checkpoint, Given) and checkpoint.config("unet").get("encoder_hid_dim_type") == "ip_image_proj"
    for key in (SEEN, "ip_adapter_scale"):
        if getattr(sweep, key) and not (has_one and key == SEEN):
            told = f"{key}: there is no IP-Adapter that it could be for; add `ip_adapter`, or leave it out"
            raise SweepError(f"{source.where((key,))}: {told}")
