"""The driver's loop: hires workers, gives them cells, passes their results on, and replaces those that die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from schedcmp.cluster.chunks import KILLS, Work
from schedcmp.cluster.connect import connected
from schedcmp.cluster.places import Place, places, share_of
from schedcmp.cluster.worker import Introduction, Report, Worker
from schedcmp.engine.packed import Throughput, most_rows
from schedcmp.engine.solo import in_turn
from schedcmp.errors import RequestError, RunError
from schedcmp.prepare import Prepared
from schedcmp.provenance import machine_of
from schedcmp.records import Cell, CellResult
from schedcmp.sweep.document import dump

Told = Callable[[str], None]

_COMPARED = (
    "device",
    "device_name",
    "dtype",
    "cuda",
    "driver",
    "schedcmp",
    "torch",
    "diffusers",
    "transformers",
    "numpy",
)
_PATIENCE_S = 120.0  # for the first worker; importing the libraries from a shared disk is slow
_STRAGGLERS_S = 30.0  # for the others, once there is one
_LOOK_EVERY_S = 5.0  # for nodes that come and go
_MOST_FALSE_STARTS = 3  # of workers at one place, one after the other


@dataclass(eq=False, slots=True)
class _Member:
    """A worker as the driver sees it."""

    place: Place
    actor: Any
    stream: Any  # of what its `work` yields
    introduction: Introduction | None = None
    machine: str = ""
    ready: bool = False
    want: int = 0
    throughput: Throughput = field(default_factory=Throughput)
    asked: Any = None  # the answer to come, of a worker that was asked for cells


class Crew:
    """The workers of a run. Made by `hired`."""

    def __init__(self, prepared: Prepared, ray: Any) -> None:
        settings = prepared.sweep.executor.ray
        assert settings is not None
        self._prepared, self._ray, self._settings = prepared, ray, settings
        self._text = dump(prepared.portable_sweep.model_copy(update={"real_images": None}))
        self._share = share_of(ray.nodes(), settings, prepared.sweep.device)
        self._members: list[_Member] = []
        self._refused: dict[str, str] = {}  # node → why
        self._false_starts = Counter[Place]()
        self._lead: Introduction | None = None
        self._work: Work[_Member] | None = None
        self._told: Told = lambda text: None
        self._looked = 0.0
        self._most = 0
        self._gone = Throughput()  # what those achieved that are gone
        self._packing_s: list[float] = []  # when each cell that is not timed was given or came back: first and last
        self.machines: dict[str, Mapping[str, Any]] = {}  # what each `CellResult.machine` stands for

    @property
    def throughput(self) -> list[Throughput]:
        """What packing achieved, all workers together; empty if nothing was packed."""
        total = _sum([self._gone, *(member.throughput for member in self._members)])
        if self._packing_s:
            total.wall_s = self._packing_s[-1] - self._packing_s[0]
        return [total] if total.images else []

    def __str__(self) -> str:
        hosts = len({member.place.node for member in self._members})
        device = f"{self._share.gpus} GPU and " if self._share.gpus else ""
        return f"{len(self._members)} workers on {hosts} nodes, each with {device}{self._share.cpus} CPUs"

    def run(
        self, solo: Sequence[Cell], others: Sequence[Cell], evaluated: Callable[[int], None], told: Told
    ) -> Iterator[CellResult]:
        """Results as they come; a worker that dies loses nothing but time. The workers are dismissed at the end.

        Raises:
            RunError: no worker is left, and none can be had.
        """
        timed = in_turn(solo) if self._prepared.sweep.timing.mode == "solo" else []
        rest = [*others, *([] if timed else solo)]
        self._told = told
        self._work = Work(timed, rest, self._prepared.cost, quiet=not self._share.gpus)
        self._most = most_rows([*timed, *rest], self._prepared.cost, max(1, len(self._members)))
        try:
            for member in list(self._members):
                self._admit(member)
            while self._work.left:
                self._hire()
                self._feed()
                yield from self._received(evaluated, wait_s=1.0)
        except KeyboardInterrupt:
            yield from self._received(evaluated, wait_s=0.0)  # what is finished is kept
            raise
        finally:
            self._dismiss()

    def introduce(self) -> None:
        """Hire workers, hear what they have, and make the most common of that the run's.

        Raises:
            RequestError: there is no room for a worker, or none can run the sweep.
        """
        self._hire()
        if not self._members:
            raise RequestError(
                f"executor: no node of the Ray cluster has room for a worker ({self._share.gpus} GPUs, "
                f"{self._share.cpus} CPUs); change executor.ray, or the cluster"
            )
        start = time.monotonic()
        while any(member.introduction is None for member in self._members):
            waited, some = time.monotonic() - start, any(member.introduction for member in self._members)
            if waited > (_STRAGGLERS_S if some else _PATIENCE_S):
                break
            list(self._received(lambda _: None, wait_s=1.0))
        met = [member.introduction for member in self._members if member.introduction]
        if not met:
            reasons = "; ".join(dict.fromkeys(self._refused.values())) or "others may be using it (see `ray status`)"
            raise RequestError(f"executor: no worker of the Ray cluster could start: {reasons}")
        common = Counter(map(_what_counts, met)).most_common(1)[0][0]
        self._lead = next(each for each in met if _what_counts(each) == common)
        self._prepared.adopt(self._lead.environment, self._lead.keys)

    def _hire(self) -> None:
        """Fill the places that are free; now and then look for nodes that came or went."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        taken = {member.place for member in self._members}
        usable = [p for p in places(self._ray.nodes(), self._share) if p.node not in self._refused]
        wanted = usable if self._settings.workers == "all" else usable[: self._settings.workers]
        for place in wanted:
            if place not in taken:
                self._members.append(self._hired(place))
        if not self._members:
            reasons = "; ".join(dict.fromkeys(self._refused.values())) or "the nodes are gone"
            if self._work:
                raise RunError(f"executor: no worker is left: {reasons}. Repeat the command to go on")
        elif self._work and not any(m.machine == self._prepared.machine for m in self._members):
            self._work.give_up_timing()

    def _hired(self, place: Place) -> _Member:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_gpus": self._share.gpus,
            "num_cpus": self._share.cpus,
            "max_restarts": 0,
            "max_concurrency": 4,  # `work` and what answers beside it
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        actor = self._ray.remote(Worker).options(**options).remote(self._text, str(self._prepared.sweep.name))
        return _Member(place, actor, actor.work.options(num_returns="streaming").remote())

    def _feed(self) -> None:
        """Cells to those that need them, the neediest first; when all are given out, from those that have many."""
        work = self._work
        assert work
        for member in sorted((m for m in self._members if m.ready), key=work.holds):
            chunk = work.next_for(member, member.want)
            if chunk:
                member.actor.give.remote(list(chunk.cells), timed=chunk.kind == "timed")
                if chunk.kind != "timed" and not self._packing_s:
                    self._packing_s.append(time.perf_counter())
            elif 4 * work.holds(member) <= member.want and (found := work.richest(member)):
                rich, spare = found
                if rich.asked is None:
                    rich.asked = rich.actor.hand_back.remote(spare)

    def _received(self, evaluated: Callable[[int], None], wait_s: float) -> Iterator[CellResult]:
        """What workers have said by now; waits for the first."""
        streams = {member.stream: member for member in self._members}
        answers = {member.asked: member for member in self._members if member.asked is not None}
        refs = [*streams, *answers]
        if not refs:
            time.sleep(wait_s)
            return
        heard, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        heard = heard or self._ray.wait(refs, num_returns=1, timeout=wait_s)[0]
        for ref in heard:
            if ref in answers:
                self._take_back(answers[ref])
            elif streams[ref] in self._members:
                yield from self._hear(streams[ref], evaluated)

    def _hear(self, member: _Member, evaluated: Callable[[int], None]) -> Iterator[CellResult]:
        errors = self._ray.exceptions
        try:
            said = self._ray.get(next(member.stream))
        except errors.RayTaskError as error:  # our own code raised
            yield from self._lost(member, error.cause, refused=not member.ready)
            return
        except (errors.RayError, StopIteration) as error:
            yield from self._lost(member, error)
            return
        if isinstance(said, Introduction):
            member.introduction = said
            if self._work:
                self._admit(member)
            return
        yield from self._reported(member, said, evaluated)

    def _reported(self, member: _Member, said: Report, evaluated: Callable[[int], None]) -> Iterator[CellResult]:
        assert self._work
        member.want, member.throughput = said.want, said.throughput or member.throughput
        if said.evaluations:
            evaluated(said.evaluations)
        if said.result is None:
            member.ready = True
            self._work.ready(member)
            return
        self._false_starts.pop(member.place, None)
        if self._packing_s and not said.result.timings:
            self._packing_s[1:] = [time.perf_counter()]
        self._work.finished(member, said.result.cell.id)
        yield replace(said.result, machine=member.machine)

    def _admit(self, member: _Member) -> None:
        """Let a worker load its pipeline, unless what it has would mix results."""
        said, lead = member.introduction, self._lead
        if said is None:  # its introduction is still to come
            return
        assert lead
        assert self._work
        differ = _differences(said.environment, lead.environment)
        foreign = ("fingerprint" in differ) or (not self._settings.mixed and (differ or said.keys != lead.keys))
        if foreign:
            text = ", ".join(f"{n} {a} instead of {b}" for n, (a, b) in differ.items()) or "another scheduler's code"
            allow = "" if "fingerprint" in differ else "; executor: {ray: {mixed: true}} allows it"
            self._refuse(member, f"{text}{allow}")
            return
        member.machine = said.machine if not differ else machine_of(said.environment, _COMPARED)
        self.machines[member.machine] = {n: v for n, v in said.environment.items() if n not in ("optimize", "pipeline")}
        self._work.join(member, member.place.host, times=member.machine == self._prepared.machine)
        member.actor.load.remote(self._most)

    def _refuse(self, member: _Member, reason: str) -> None:
        if member.place.node not in self._refused:
            self._told(f"workers on {member.place.host} are not used: {reason}")
        self._refused[member.place.node] = reason
        self._let_go(member)

    def _lost(self, member: _Member, error: BaseException, *, refused: bool = False) -> Iterator[CellResult]:
        """A worker said its last word."""
        place, joined = member.place, self._work is not None and bool(member.machine)
        died = not refused and self._is_alive(place.node)
        convicted = self._work.lost(member, died=died) if self._work and joined else []
        if refused:
            self._refuse(member, str(error))
            return
        self._let_go(member)
        self._false_starts[place] += 1
        self._told(f"a worker on {place.host} {'died' if died else 'is gone with its node'}; others take what it had")
        if died and self._false_starts[place] >= _MOST_FALSE_STARTS and not convicted:
            self._refused[place.node] = f"workers on {place.host} die: {' '.join(str(error).split())[:200]}"
        self._looked = 0.0
        for cell in convicted:
            reason = f"it killed {KILLS} workers that were making nothing else (see Ray's logs, or run it locally)"
            yield CellResult(cell, "failed", error=reason, machine=member.machine)

    def _is_alive(self, node: str) -> bool:
        return any(n["Alive"] and n["NodeID"] == node for n in self._ray.nodes())

    def _take_back(self, member: _Member) -> None:
        answer, member.asked = member.asked, None
        if member not in self._members or self._work is None:
            return
        try:
            self._work.returned(member, self._ray.get(answer))
        except self._ray.exceptions.RayError:
            return  # it died; its stream says so too

    def _let_go(self, member: _Member) -> None:
        self._gone = _sum([self._gone, member.throughput])
        self._members.remove(member)
        self._ray.kill(member.actor)

    def _dismiss(self) -> None:
        for member in list(self._members):
            self._let_go(member)


@contextmanager
def hired(prepared: Prepared) -> Iterator[Crew]:
    """The workers of the sweep's cluster; `prepared` takes their device and versions for the run's.

    Raises:
        RequestError: Ray is not there, or the cluster, or no worker that could run the sweep.
    """
    settings = prepared.sweep.executor.ray
    assert settings is not None
    with connected(settings) as ray:
        crew = Crew(prepared, ray)
        try:
            crew.introduce()
            yield crew
        finally:
            crew._dismiss()


def _what_counts(said: Introduction) -> tuple[Any, ...]:
    return tuple(said.environment.get(name) for name in ("fingerprint", *_COMPARED))


def _differences(environment: Mapping[str, Any], lead: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = ("fingerprint", *_COMPARED)
    return {n: (environment.get(n), lead.get(n)) for n in names if environment.get(n) != lead.get(n)}


def _sum(parts: Sequence[Throughput]) -> Throughput:
    names = ("images", "forwards", "evaluations", "rows", "wanted_rows")
    total = Throughput(**{name: sum(getattr(part, name) for part in parts) for name in names})
    total.max_batch = max((part.max_batch for part in parts), default=0)
    total.notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    return total
