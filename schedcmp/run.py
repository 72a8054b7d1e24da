"""A run from its prepared sweep to its last stored cell: pending cells → engine → store. Prints nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from schedcmp.pending import divided, pending_cells, pending_references
from schedcmp.prepare import Prepared
from schedcmp.records import Cell, CellResult
from schedcmp.registry.table import builtin_registry
from schedcmp.store import Store, image_path
from schedcmp.sweep.document import Sweep, dump
from schedcmp.truth.clip import Clip
from schedcmp.truth.metrics import measure_references
from schedcmp.truth.reference import LABEL as REFERENCE
from schedcmp.truth.scoring import measure_adherence, measure_clip, measure_distribution

if TYPE_CHECKING:
    from schedcmp.engine.job import Workbench

_MOST_UNWRITTEN = 32  # images that wait to be written, so that a slow disk bounds memory


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that has begun: what is left to do, and its results as they come."""

    prepared: Prepared
    store: Store
    pending: list[Cell]
    references: list[Cell]  # pending ones; no part of the plan
    pipeline: Any  # None if nothing is pending
    clip: Clip | None = None  # where a metric needs it
    throughput: list[Any] = field(default_factory=list)  # one engine.packed.Throughput, if anything was packed

    @classmethod
    def begin(cls, prepared: Prepared, store: Store, pipeline: Any = None, *, fresh: bool = False) -> Execution:
        """Load the checkpoint if it is needed and not given, then write down what will be done.

        Args:
            fresh: discard what the folder holds already.

        Raises:
            CheckpointError: it cannot be loaded, or a model that a metric needs is not there; nothing is written.
        """
        text = dump(prepared.portable_sweep)
        clip = prepared.load_clip()
        if fresh:
            pending = list(prepared.supported)
            references = list(prepared.references.cells if prepared.references else ())
        else:
            pending = pending_cells(prepared, store)
            references = pending_references(prepared, store, pending)
        if (pending or references) and pipeline is None:
            pipeline = prepared.load()
        if fresh:
            store.clear()
        stale = {} if prepared.real_images else {"distribution": None}
        stale |= {"throughput": None} if pending or references else {}  # what was measured of other cells
        store.begin(prepared.plan.cells, _described(prepared) | {"sweep": text} | stale)
        store.refuse(_unsupported(prepared))
        store.write_text("sweep.yaml", text)
        return cls(prepared, store, pending, references, pipeline, clip)

    def run(self, evaluated: Callable[[int], None] = lambda evaluations: None) -> Iterator[CellResult]:
        """Make the pending cells; each is in the store before it is yielded, so that nothing is lost later. References
        are made beside them and not yielded.

        Images are encoded and written in the background while the next batch runs; but not beside a timed cell.

        Args:
            evaluated: told of the denoiser's evaluations of packed cells as they are answered.
        """
        if not self.pending and not self.references:
            return
        with ThreadPoolExecutor(1) as writer:
            writing: deque[tuple[Future[None], CellResult]] = deque()
            for result in self._results(evaluated):
                writing.append((writer.submit(self._keep, result), result))
                most = 0 if result.timings else _MOST_UNWRITTEN
                yield from self._written(writing, most)
            yield from self._written(writing, 0)
        if self.throughput:
            self.store.note("throughput", self.throughput[0].as_dict())

    def measure(self) -> None:
        """Take the metrics that the sweep asks for of what is in the store, where they are missing."""
        prepared = self.prepared
        if prepared.references:
            measure_references(prepared.supported, prepared.references, prepared.keys, self.store)
        if "adherence" in prepared.metrics:
            measure_adherence(self.store)
        if self.clip and "clip" in prepared.metrics:
            measure_clip(self.store, self.clip)
        if self.clip and prepared.real_images:
            measure_distribution(self.store, self.clip, prepared.real_images)

    def _results(self, evaluated: Callable[[int], None]) -> Iterator[CellResult]:
        from schedcmp.engine.packed import PackedEngine
        from schedcmp.engine.solo import Measuring, SoloEngine

        prepared, sweep = self.prepared, self.prepared.sweep
        bench = self._bench()
        solo, packed = divided(prepared, self.pending)
        timing = sweep.timing
        yield from SoloEngine(bench, Measuring(timing.mode == "solo", timing.repeats, timing.warmup)).run(solo)
        if sweep.engine == "solo":
            for result in SoloEngine(bench, Measuring(timed=False)).run(self.references):
                evaluated(prepared.cost(result.cell))
                yield result
        elif packed or self.references:
            engine = PackedEngine(bench, prepared.cost, sweep.max_batch, evaluated, fixed_shapes=prepared.is_compiled)
            self.throughput.append(engine.throughput)
            yield from engine.run([*packed, *self.references])

    def _bench(self) -> Workbench:
        prepared, sweep = self.prepared, self.prepared.sweep
        if sweep.jax.solve == "scan":
            from schedcmp.backend.scan import SolvingWorkbench

            return SolvingWorkbench(self.pipeline, prepared.all_recipes, sweep.generator)
        from schedcmp.engine.job import Workbench

        return Workbench(self.pipeline, prepared.all_recipes, sweep.generator)

    def _keep(self, result: CellResult) -> None:
        prepared, cell, references = self.prepared, result.cell, self.prepared.references
        folders = _folders(prepared.sweep)(cell)
        png = self._encode(result) if result.image else None
        path, latents = image_path(cell, folders), None
        if references and (cell.scheduler in references.trajectories or cell.scheduler in references.comparable):
            latents = _npy(result.latents)
        if cell.scheduler.startswith(REFERENCE):
            path = image_path(replace(cell, scheduler=cell.scheduler.removeprefix(REFERENCE)), folders, "references")
        self.store.add(result, prepared.keys[cell.scheduler], prepared.machine, path, png, latents)

    def _written(self, writing: deque[tuple[Future[None], CellResult]], most: int) -> Iterator[CellResult]:
        """Results of the plan that are in the store, oldest first, until at most so many are still being written."""
        while len(writing) > most:
            future, result = writing.popleft()
            future.result()
            if not result.cell.scheduler.startswith(REFERENCE):
                yield replace(result, image=None, latents=None)

    def _encode(self, result: CellResult) -> bytes:
        from schedcmp.image import a1111_parameters, encode_png

        assert result.image is not None
        prepared, cell = self.prepared, result.cell
        entry = prepared.all_recipes[cell.scheduler].entry
        known = builtin_registry().entries.get(entry.base, entry)
        sampler = next(iter(known.also.get("a1111", ())), entry.name)
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


def _described(prepared: Prepared) -> dict[str, Any]:
    """What the store keeps of a run beside its cells."""
    trajectories = [
        {"scheduler": label, "steps": steps, **asdict(trajectory), "nfe": trajectory.nfe}
        for (label, steps), trajectory in prepared.trajectories.items()
    ]
    return {"environment": prepared.environment, "warnings": prepared.warnings, "trajectories": trajectories}


def _unsupported(prepared: Prepared) -> Iterator[CellResult]:
    for cell in prepared.plan.cells if prepared.unsupported else ():
        reason = prepared.unsupported.get((cell.scheduler, cell.steps))
        if reason is not None:
            yield CellResult(cell, "unsupported", error=reason)


def _npy(latents: Any) -> bytes:
    """A .npy file's bytes; an empty array where the pipeline has decoded none, so that nobody looks for it again."""
    import numpy as np

    file = BytesIO()
    np.save(file, np.empty(0, np.float32) if latents is None else latents, allow_pickle=False)
    return file.getvalue()


def _folders(sweep: Sweep) -> Any:
    """Cell → the folders that tell its prompts, size and guidance apart, where the sweep has several."""

    def folders(cell: Cell) -> list[str]:
        short, exact = f"{cell.guidance_scale:g}", repr(cell.guidance_scale)
        guidance = short if float(short) == cell.guidance_scale else exact
        named = (
            (sweep.prompt, cell.prompt_name),
            (sweep.negative_prompt, f"negative-{cell.negative_prompt or 'none'}"),
            (sweep.sizes, f"size-{cell.width}x{cell.height}"),
            (sweep.guidance_scale, f"guidance-{guidance}"),
        )
        return [name for axis, name in named if len(axis) > 1]

    return folders
