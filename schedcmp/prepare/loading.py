"""The models of a sweep: where they go, and how they are loaded. Only what is asked here looks for a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, PartError, RequestError, SweepError, raised_as
from schedcmp.metrics.clip_model import Clip, opened_clip
from schedcmp.prepare.loras import Loras
from schedcmp.records import Worn
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.source import Source

if TYPE_CHECKING:
    from schedcmp.checkpoint.wardrobe import Wardrobe


class Loader:
    """Loads what a sweep needs, on the device and in the dtype that it names."""

    def __init__(self, sweep: Sweep, source: Source, checkpoint: Checkpoint, loras: Loras, *, progress: bool) -> None:
        self._sweep, self._source, self._checkpoint, self._loras = sweep, source, checkpoint, loras
        self._progress = progress
        self._dressed: tuple[Any, Wardrobe] | None = None  # a pipeline, and what it can wear

    @cached_property
    def device(self) -> str:
        """Raises SweepError if it is not there."""
        from schedcmp.checkpoint.loading.device import resolve_device

        with raised_as(SweepError, self._source.where(("device",)), RequestError):
            return resolve_device(self._sweep.device)

    @cached_property
    def dtype(self) -> str:
        return self._name_of(self._sweep.dtype)

    @cached_property
    def vae_dtype(self) -> str:
        """The VAE's dtype, where it has one of its own; else empty."""
        own = self._sweep.vae_dtype
        name = self.dtype if own == "auto" else self._name_of(own)
        return "" if name == self.dtype else name

    @cached_property
    def backend(self) -> dict[str, Any]:
        """What images and timings depend on where the denoiser is not torch's; with torch, nothing.

        Raises SweepError: it is not there.
        """
        if self._sweep.backend == "torch":
            return {}
        from schedcmp.backend.runtime import described

        with raised_as(SweepError, self._source.at("backend"), RequestError):
            return {**described(), "solve": self._sweep.jax.solve}

    def load(self) -> Any:
        """The checkpoint's pipeline. Raises RequestError."""
        from schedcmp.checkpoint.loading.load import load

        sweep = self._sweep
        vae_dtype = sweep.vae_dtype if self.vae_dtype else None
        try:
            pipeline = load(self._checkpoint, self.device, sweep.dtype, sweep.optimize.enabled, vae_dtype, self.wearing)
        except PartError as error:
            raise CheckpointError(f"{self._source.at('model', *error.key)}: {error}") from error
        except (CheckpointError, SweepError):
            raise
        except RequestError as error:
            raise SweepError(f"{self._source.where(('optimize',))}: {error}") from error
        if self.backend:
            from schedcmp.backend.handover import hand_over

            hand_over(pipeline, sweep.jax.solve, tf32=sweep.optimize.tf32)
        return pipeline

    def wearing(self, pipeline: Any) -> Callable[[Worn], None]:
        """What puts a cell's `dress` on the pipeline, loaded once. Raises SweepError for a LoRA that does not fit."""
        if not self._loras.adapters and not self._checkpoint.ip_adapter:
            return lambda worn: None
        if self._dressed is None or self._dressed[0] is not pipeline:
            from schedcmp.checkpoint.wardrobe import Wardrobe

            self._dressed = pipeline, Wardrobe(pipeline, self._loras.adapters, self._loras.error_of)
        return self._dressed[1].wear

    def load_clip(self) -> Clip:
        """The CLIP model that compares with real images. Raises CheckpointError."""
        return opened_clip(self._sweep.clip_model, progress=self._progress)

    def _name_of(self, dtype: str) -> str:
        from schedcmp.checkpoint.loading.device import resolve_dtype

        return str(resolve_dtype(dtype, self.device)).removeprefix("torch.")
