"""A run from its prepared sweep to its last stored cell: pending cells → engine → store. Prints nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from schedcmp.files import to_json
from schedcmp.metrics.clip_model import Clip
from schedcmp.metrics.distribution import measure_distribution
from schedcmp.metrics.energy import measure_energy
from schedcmp.metrics.look import look_of
from schedcmp.metrics.measuring import measure
from schedcmp.metrics.plain import measure_plain
from schedcmp.pictures.video import SUFFIX
from schedcmp.prepare import Prepared
from schedcmp.prepare.preparing import with_steps
from schedcmp.records import Cell, CellResult, length_of
from schedcmp.report.paste.spelling import spelling
from schedcmp.report.paste.subject import SPELLING
from schedcmp.runs.background import in_background
from schedcmp.runs.paths import ImagePaths
from schedcmp.runs.pending import divided, pending_cells, pending_references
from schedcmp.runs.search import next_steps
from schedcmp.store.held import held
from schedcmp.store.store import Store
from schedcmp.sweep.document import dump
from schedcmp.sweep.parts.steps import Search
from schedcmp.truth.convergence import FEWEST_POINTS
from schedcmp.truth.metrics import measure_references

if TYPE_CHECKING:
    from schedcmp.cluster.crew import Crew


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that has begun: what is left to do, and its results as they come."""

    prepared: Prepared
    store: Store
    pending: list[Cell]
    references: list[Cell]  # pending ones; no part of the plan
    paths: ImagePaths
    pipeline: Any  # None if nothing is pending, or a crew has it
    clip: Clip | None = None  # where a metric needs it
    crew: Crew | None = None  # where the sweep asks for workers
    throughput: list[Any] = field(default_factory=list)  # one engine.throughput.Throughput, if anything was packed

    @classmethod
    def begin(
        cls, prepared: Prepared, store: Store, pipeline: Any = None, *, crew: Crew | None = None, fresh: bool = False
    ) -> Execution:
        """Load the checkpoint if it is needed and not given, then write down what will be done.

        Args:
            crew: the workers that make the images, instead of this process.
            fresh: discard what the folder holds already.

        Raises:
            CheckpointError: it cannot be loaded, or a model that a metric needs is not there; nothing is written.
        """
        text = dump(prepared.portable_sweep)
        clip = prepared.loader.load_clip() if prepared.real_images else None
        for metric in prepared.metrics:
            metric.prepare()
        if fresh:
            pending = list(prepared.supported)
            references = list(prepared.references.cells if prepared.references else ())
        else:
            pending = pending_cells(prepared, store)
            references = pending_references(prepared, store, pending)
        if (pending or references) and pipeline is None and crew is None:
            pipeline = prepared.loader.load()
        if fresh:
            store.clear()
        stale = {} if prepared.real_images else {"distribution": None}
        stale |= {"throughput": None} if pending or references else {}  # what was measured of other cells
        store.begin(prepared.plan.cells, _described(prepared) | {"sweep": text} | stale)
        store.refuse(_unsupported(prepared))
        store.write_text("sweep.yaml", text)
        store.write_inputs(prepared.inputs.shown())
        paths = ImagePaths(prepared.sweep, [*pending, *references], held(store.database), prepared.mark)
        return cls(prepared, store, pending, references, paths, pipeline, clip, crew)

    def run(
        self,
        evaluated: Callable[[int], None] = lambda evaluations: None,
        told: Callable[[str], None] = lambda text: None,
        doing: Callable[[str, int], None] = lambda phase, rows: None,
        timed: Callable[[int], None] = lambda evaluations: None,
    ) -> Generator[CellResult]:
        """Make the pending cells; each is in the store before it is yielded, so that nothing is lost later. References
        are made beside them and not yielded.

        Images are encoded and written in the background while the next batch runs; but not beside a timed cell.

        Until it ends or is closed the pipeline is the engines', and torch takes no gradients.

        Args:
            evaluated: told of the denoiser's evaluations of cells that are not timed, as they are answered.
            told: told of what the user should know at once, such as a worker that died.
            doing: told of each call of a model in this process, as `engine.phases.phases`.
            timed: told of the evaluations of cells that run alone, repeats included; but not of workers'.
        """
        if not self.pending and not self.references:
            return
        with closing(in_background(self._results(evaluated, told, doing, timed), self._keep)) as kept:
            for result in kept:
                if not result.cell.reference_solver:
                    yield result
                elif not result.packed:
                    evaluated(self.prepared.cost(result.cell))
        if self.throughput:
            self.store.note("throughput", self.throughput[0].as_dict())

    def measure(self) -> list[str]:
        """Take the metrics that the sweep asks for of what is in the store, where they are missing.

        Returns sentences on what could not be measured.
        """
        prepared = self.prepared
        if prepared.references:
            measure_references(prepared.supported, prepared.references, prepared.origin.keys, self.store)
        failed = measure(self.store, prepared.metrics)
        if prepared.references:
            measure_energy(self.store, prepared.references, look_of(prepared.metrics))
        self._ask_the_oracle(_of_orders(prepared))
        if prepared.plain and prepared.metrics:
            measure_plain(prepared.plain, self.store)
        if self.clip and prepared.real_images:
            measure_distribution(self.store, self.clip, prepared.real_images)
        return failed

    def _ask_the_oracle(self, labels: Collection[str]) -> None:
        """Of which order these schedulers are, where the run has not asked before."""
        from schedcmp.truth.verify import verdict_on

        recipes, known = self.prepared.recipes, self.store.meta("orders") or {}
        new = {label: recipe for label, recipe in recipes.items() if label in labels and label not in known}
        verdicts = {label: verdict_on(recipe.entry, self.prepared.scheduler_config) for label, recipe in new.items()}
        told = {label: {"text": v.text, "order": v.fit and v.fit.order} for label, v in verdicts.items()}
        if told:
            self.store.note("orders", known | told)

    def _results(
        self,
        evaluated: Callable[[int], None],
        told: Callable[[str], None],
        doing: Callable[[str, int], None],
        timed: Callable[[int], None],
    ) -> Generator[CellResult]:
        solo, packed = divided(self.prepared, self.pending)
        others = [*packed, *self.references]
        if self.crew:
            yield from self.crew.run(solo, others, evaluated, told)
            self.throughput.extend(self.crew.throughput)
            self.store.note("machines", (self.store.meta("machines") or {}) | self.crew.machines)
            return
        from schedcmp.engine.phases import phases
        from schedcmp.runs.engines import Engines

        engines = Engines(self.prepared, self.pipeline, evaluated, timed)
        with phases(self.pipeline, doing):
            yield from engines.timed.run(solo)
            if others:
                self.throughput.extend(engines.throughput)
                yield from engines.other.run(others)

    def _keep(self, result: CellResult) -> CellResult:
        """Store a result; returns what of it is worth remembering."""
        from schedcmp.runs.encode import encoded, wants_latents

        prepared, cell = self.prepared, result.cell
        result = encoded(prepared, result)
        latents = _npy(result.latents) if wants_latents(prepared, result.cell) else None
        machine = result.machine or prepared.origin.machine
        path = self.paths(cell, ".png" if result.frames is None else SUFFIX)
        self.store.add(result, prepared.origin.keys[cell.scheduler], machine, path, result.file, latents)
        return replace(result, file=None, fingerprint=None, latents=None)


def rounds(first: Execution) -> Iterator[Execution]:
    """A run's rounds: one, or as many as it takes to find how many steps are needed. Whoever takes one makes and
    measures it before the next, which goes by what was measured."""
    execution = first
    yield execution
    while steps := next_steps(execution.prepared, execution.store):
        prepared = with_steps(execution.prepared, steps)
        execution = Execution.begin(prepared, execution.store, execution.pipeline, crew=execution.crew)
        yield execution


def _described(prepared: Prepared) -> dict[str, Any]:
    """What the store keeps of a run beside its cells."""
    trajectories = [
        {
            "scheduler": label,
            "steps": steps,
            **({} if strength is None else {"strength": strength}),
            **json.loads(to_json(asdict(trajectory))),
            "nfe": trajectory.nfe,
        }
        for (label, steps, strength), trajectory in prepared.trajectories.items()
    ]
    classes = {r.cls for r in prepared.recipes.values() if r.cls.__module__.startswith("diffusers.")}
    environment = prepared.origin.environment
    named = sorted(classes, key=lambda cls: cls.__name__)
    spelled = spelling(environment["pipeline"], named, prepared.checkpoint.config)
    told = {"environment": environment, "warnings": prepared.warnings, SPELLING: spelled}
    return told | {"trajectories": trajectories}


def _of_orders(prepared: Prepared) -> Collection[str]:
    """The schedulers whose errors tell an order of convergence, to be seen beside the oracle's."""
    if isinstance(prepared.sweep.steps, Search):
        return prepared.recipes.keys()
    lengths = {(cell.scheduler, cell.steps) for cell in prepared.supported}
    enough = {name for name, n in Counter(name for name, _ in lengths).items() if n >= FEWEST_POINTS}
    wanted = prepared.references is not None and "reference" in prepared.sweep.metrics
    return enough & prepared.references.comparable if wanted and prepared.references else ()


def _unsupported(prepared: Prepared) -> Iterator[CellResult]:
    for cell in prepared.plan.cells if prepared.unsupported else ():
        reason = prepared.unsupported.get(length_of(cell))
        if reason is not None:
            yield CellResult(cell, "unsupported", error=reason)


def _npy(latents: Any) -> bytes:
    """A .npy file's bytes; an empty array where the pipeline has decoded none, so that nobody looks for it again."""
    import numpy as np

    file = BytesIO()
    np.save(file, np.empty(0, np.float32) if latents is None else latents, allow_pickle=False)
    return file.getvalue()
