"""The LoRAs of a sweep: found, and refused where they cannot be worn."""

from __future__ import annotations

from collections.abc import Iterator

from schedcmp.checkpoint.adapters import Adapter, find_adapter
from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.files import where_it_is
from schedcmp.pipelines.adapters import takes_adapters
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.parts.adapters import FoundAdapter, Lora, as_loras
from schedcmp.sweep.source import Source

_WORN_ON = ("int8", "fp8")  # of methods that quantize; on others nobody has seen it right


class Loras:
    """A sweep's LoRAs.

    Attributes:
        values: of the axis, with what was found: absolute paths, files, digests.
        adapters: by digest.
    """

    def __init__(self, sweep: Sweep, source: Source, checkpoint: Checkpoint, *, progress: bool = False) -> None:
        """Raises SweepError for what is not there, is no LoRA, or cannot be worn; with file:line."""
        self._source = source
        self.adapters: dict[str, Adapter] = {}
        self._places: dict[str, int] = {}  # by digest: the value of the axis that names it first
        values = sweep.lora or ()
        if any(lora.adapters for lora in values) and (why := next(_refusals(sweep, checkpoint), None)):
            raise SweepError(f"{source.at('lora')}: {why}")
        self.values = tuple(self._found(i, lora, progress) for i, lora in enumerate(values))
        worn = [value.found for value in self.values]
        twice = next((i for i, found in enumerate(worn) if found in worn[:i]), None)
        if twice is not None:
            raise self.error(twice, "is the same as a value before it; remove one of the two")

    def error(self, value: int, why: str) -> SweepError:
        """Of one of the axis' values, with its place in the sweep."""
        return SweepError(f"{self._source.at('lora', self._item(value))}: {why}")

    def error_of(self, digest: str, why: str) -> SweepError:
        """Of one of the adapters."""
        return self.error(self._places[digest], why)

    def _found(self, i: int, lora: Lora, progress: bool) -> Lora:
        specs = []
        for spec in lora.adapters:
            try:
                adapter = find_adapter(spec.path, spec.file, spec.revision, progress=progress)
            except CheckpointError as error:
                raise self.error(i, str(error)) from error
            self.adapters.setdefault(adapter.digest, adapter)
            self._places.setdefault(adapter.digest, i)
            place = {"path": where_it_is(spec.path), "file": adapter.name or None, "digest": adapter.digest}
            specs.append(FoundAdapter(**spec.model_dump() | place))
        return lora.model_copy(update={"name": lora.label, "adapters": tuple(specs)} if specs else {})

    def _item(self, value: int) -> int:
        """Where a value of the axis was written: an item with several weights makes several values."""
        written = self._source.data.get("lora")
        items = written if isinstance(written, list) else [written]
        ends = [len(as_loras(items[: n + 1])) for n in range(len(items))]
        return next((n for n, end in enumerate(ends) if value < end), 0)


def _refusals(sweep: Sweep, checkpoint: Checkpoint) -> Iterator[str]:
    """Why no LoRA can be worn."""
    if not takes_adapters(checkpoint.pipeline_class):
        yield f"{checkpoint.pipeline_class} loads none in diffusers; leave it out"
    if isinstance(checkpoint, Given):
        yield "the pipeline was handed over by a program, which loads them itself; leave it out"
    if sweep.backend == "jax":
        yield "backend: jax takes none; use torch"
    if sweep.executor.ray is not None:
        yield "executor: ray takes none; use executor: local"
    for part, method in checkpoint.quantized.items():
        if method not in _WORN_ON:
            told = f"none is worn on {method} weights, which {part} has"
            yield f"{told}; leave one of the two out, or quantize by {' or '.join(_WORN_ON)}"
