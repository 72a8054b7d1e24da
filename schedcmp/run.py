"""A run from end to end: sweep → plan → pending cells → engine → store. Prints nothing."""

from __future__ import annotations

import json
import platform
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2s
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schedcmp import __version__
from schedcmp.checkpoint.source import Checkpoint, ModelSpec, inspect
from schedcmp.errors import RegistryError, SweepError
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import Recipe, mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.store import Store, image_path
from schedcmp.sweep.document import Model, Sweep, dump, load
from schedcmp.sweep.plan import Plan, make_plan
from schedcmp.sweep.source import Source

_MOST_UNWRITTEN = 32  # images that wait to be written, so that a slow disk bounds memory


class Prepared:
    """A sweep that was found sound: its checkpoint is there, its schedulers can do their steps."""

    def __init__(self, sweep: Sweep, source: Source, *, progress: bool = False) -> None:
        """Raises RequestError for whatever is wrong with the request; loads no weights and writes nothing."""
        self.sweep = sweep
        self.checkpoint = find_checkpoint(sweep.model, source, progress=progress)
        self.scheduler_config = mended(self.checkpoint.scheduler_config, self.checkpoint.pipeline_class)
        self.plan: Plan = make_plan(
            sweep, source, builtin_registry(), lambda entry: judge(entry, self.scheduler_config)
        )
        self.recipes: Mapping[str, Recipe] = {
            label: resolve(entry, self.scheduler_config) for label, entry in self.plan.entries.items()
        }
        self.nfe = self._preflight(source)

    def _preflight(self, source: Source) -> Mapping[tuple[str, int], int]:
        nfe = {}
        for label, steps in self.plan.steps.items():
            for n in steps:
                try:
                    nfe[label, n] = preflight(self.recipes[label], n).nfe
                except RegistryError as error:
                    raise SweepError(f"{source.where(('steps',))}: steps: {error}") from error
        return nfe

    def cost(self, cell: Cell) -> int:
        """Denoiser evaluations of a cell."""
        return self.nfe[cell.scheduler, cell.steps]

    @property
    def total_nfe(self) -> int:
        """Denoiser evaluations of the whole sweep."""
        return sum(map(self.cost, self.plan.cells))

    @cached_property
    def device(self) -> str:
        from schedcmp.checkpoint.load import resolve_device

        return resolve_device(self.sweep.device)

    @cached_property
    def dtype(self) -> str:
        from schedcmp.checkpoint.load import resolve_dtype

        return str(resolve_dtype(self.sweep.dtype, self.device)).removeprefix("torch.")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What a reader needs to know to trust or repeat the numbers."""
        packages = ("torch", "diffusers", "transformers", "numpy", "pillow")
        return {
            "schedcmp": __version__,
            "checkpoint": self.checkpoint.name,
            "fingerprint": self.checkpoint.fingerprint,
            "pipeline": self.checkpoint.pipeline_class,
            "device": self.device,
            "device_name": _device_name(self.device),
            "dtype": self.dtype,
            "threads": _threads(),
            "python": platform.python_version(),
            "system": platform.platform(),
            **{name: version(name) for name in packages},
        }

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """By label: the hash of all that determines an image beside the cell itself."""
        shared = {
            "fingerprint": self.checkpoint.fingerprint,
            "pipeline": self.checkpoint.pipeline_class,
            "dtype": self.dtype,
            "device": self.device.partition(":")[0],
            "torch": version("torch"),
            "diffusers": version("diffusers"),
        }
        return {
            label: _digest(shared | {"class": recipe.cls.__qualname__, "config": recipe.config})
            for label, recipe in self.recipes.items()
        }

    def load(self) -> Any:
        """The checkpoint's pipeline. Raises CheckpointError."""
        from schedcmp.checkpoint.load import load as load_pipeline

        return load_pipeline(self.checkpoint, self.device, self.sweep.dtype)

    @property
    def folder(self) -> Path:
        """Where the run goes unless the user says otherwise."""
        return Path("outputs") / str(self.sweep.name)


def prepare(path: Path, overrides: tuple[str, ...] = (), *, progress: bool = False) -> Prepared:
    """Read a sweep file and check everything that can be checked without loading weights. Raises RequestError."""
    return Prepared(*load(path, overrides), progress=progress)


def find_checkpoint(model: Model, source: Source | None = None, *, progress: bool = False) -> Checkpoint:
    """Raises CheckpointError; its message says where in the sweep the model was named."""
    from schedcmp.errors import CheckpointError

    spec = ModelSpec(model.id, revision=model.revision, variant=model.variant, config=model.config)
    try:
        return inspect(spec, progress=progress)
    except CheckpointError as error:
        where = f"{source.where(('model',))}: model: " if source else ""
        raise CheckpointError(f"{where}{error}") from error


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that has begun: what is left to do, and its results as they come."""

    prepared: Prepared
    store: Store
    pending: list[Cell]
    pipeline: Any  # None if nothing is pending

    @classmethod
    def begin(cls, prepared: Prepared, store: Store, pipeline: Any = None) -> Execution:
        """Load the checkpoint if it is needed and not given, then write down what will be done.

        Raises:
            CheckpointError: it cannot be loaded; nothing is written.
        """
        plan = prepared.plan
        pending = store.pending(plan.cells, prepared.keys)
        if pending and pipeline is None:
            pipeline = prepared.load()
        store.begin(
            plan.cells,
            {
                "sweep": dump(prepared.sweep),
                "environment": prepared.environment,
                "warnings": plan.warnings,
            },
        )
        store.write_text("sweep.yaml", dump(prepared.sweep))
        return cls(prepared, store, pending, pipeline)

    def run(self) -> Iterator[CellResult]:
        """Make the pending cells; each is in the store before it is yielded, so that nothing is lost later.

        Images are encoded and written in the background while the next batch runs; but not beside a timed cell.
        """
        if not self.pending:
            return
        with ThreadPoolExecutor(1) as writer:
            writing: deque[tuple[Future[None], CellResult]] = deque()
            for result in self._results():
                writing.append((writer.submit(self._keep, result), result))
                most = 0 if result.timings else _MOST_UNWRITTEN
                yield from _written(writing, most)
            yield from _written(writing, 0)

    def _results(self) -> Iterator[CellResult]:
        from schedcmp.engine.job import Workbench
        from schedcmp.engine.packed import PackedEngine
        from schedcmp.engine.solo import Measuring, SoloEngine

        prepared, sweep = self.prepared, self.prepared.sweep
        bench = Workbench(self.pipeline, prepared.recipes, sweep.generator)
        solo, packed = divided(sweep, self.pending)
        timing = sweep.timing
        yield from SoloEngine(bench, Measuring(timing.mode == "solo", timing.repeats, timing.warmup)).run(solo)
        if packed:
            engine = PackedEngine(bench, prepared.cost, sweep.max_batch)
            try:
                yield from engine.run(packed)
            finally:
                self.store.note("throughput", engine.throughput.as_dict())

    def _keep(self, result: CellResult) -> None:
        folders = _folders(self.prepared.sweep)
        png = self._encode(result) if result.image else None
        key = self.prepared.keys[result.cell.scheduler]
        self.store.add(result, key, image_path(result.cell, folders(result.cell)), png)

    def _encode(self, result: CellResult) -> bytes:
        from schedcmp.image import a1111_parameters, encode_png

        assert result.image is not None
        prepared, cell = self.prepared, result.cell
        entry = prepared.plan.entries[cell.scheduler]
        sampler = next(iter(entry.also.get("a1111", ())), entry.name)
        environment = prepared.environment
        parameters = a1111_parameters(
            cell, sampler, result.image.size, environment["checkpoint"], environment["fingerprint"]
        )
        settings = {
            "cell": asdict(cell),
            "class": entry.cls,
            "scheduler_config": result.scheduler_config,
            "timesteps": result.timesteps,
            "nfe": result.nfe,
            "generator": prepared.sweep.generator,
            "environment": environment,
        }
        return encode_png(result.image, settings, parameters)


def divided(sweep: Sweep, cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells that run solo (when packing, those that are timed) and the cells that run packed."""
    if sweep.engine == "solo":
        return list(cells), []
    timed = set(sweep.seeds[: sweep.timing.seeds]) if sweep.timing.mode == "solo" else set()
    return [c for c in cells if c.seed in timed], [c for c in cells if c.seed not in timed]


def _written(writing: deque[tuple[Future[None], CellResult]], most: int) -> Iterator[CellResult]:
    """Results that are in the store, oldest first, until at most so many are still being written."""
    while len(writing) > most:
        future, result = writing.popleft()
        future.result()
        yield replace(result, image=None)


def _folders(sweep: Sweep) -> Any:
    """Cell → the folders that tell its prompt and guidance apart, where the sweep has several."""

    def folders(cell: Cell) -> list[str]:
        prompt = [cell.prompt_name] if len(sweep.prompt) > 1 else []
        return prompt + ([f"guidance-{cell.guidance_scale:g}"] if len(sweep.guidance_scale) > 1 else [])

    return folders


def _digest(parts: Mapping[str, Any]) -> str:
    return blake2s(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _threads() -> int:
    import torch

    return torch.get_num_threads()
