"""The driver's side of the workers: hired where there is room, heard, let go, and replaced if they die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from schedcmp.cluster.places import Slot, places, share_of
from schedcmp.cluster.worker import Report, Worker
from schedcmp.engine.throughput import Throughput, total
from schedcmp.errors import RequestError
from schedcmp.prepare import Prepared
from schedcmp.prepare.origin import Origin
from schedcmp.sweep.document import dump

PATIENCE_S = 120.0  # for a worker's introduction; importing the libraries from a shared disk is slow
_STRAGGLERS_S = 30.0  # for that of the others, once there is one
_LOOK_EVERY_S = 5.0  # for nodes that come and go
_MOST_FALSE_STARTS = 3  # of workers at one place, one after the other


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker's last word: it cannot do what the sweep wants, it died by itself, or its whole node is gone."""

    how: Literal["unfit", "died", "with its node"]
    reason: str


Said = Origin | Report | Lost | list[str]  # the last: ids of cells that a worker gives back


@dataclass(eq=False, slots=True)
class Member:
    """A worker, and what it has said of itself."""

    place: Slot
    actor: Any
    stream: Any  # of what its `work` yields
    since: float  # hired
    introduction: Origin | None = None
    machine: str = ""  # once it is admitted
    ready: bool = False
    want: int = 0
    throughput: Throughput = field(default_factory=Throughput)
    asked: Any = None  # the answer to come, of a worker that was asked for cells


class Members:
    """All workers of a run."""

    def __init__(self, prepared: Prepared, ray: Any) -> None:
        settings = prepared.sweep.executor.ray
        assert settings is not None
        self._ray, self._workers = ray, settings.workers
        self._text = dump(prepared.portable_sweep.model_copy(update={"real_images": None}))
        self._name = str(prepared.sweep.name)
        self._found: list[Member] = []
        self._refused: dict[str, str] = {}  # node → why
        self._false_starts = Counter[Slot]()
        self._looked = 0.0
        self._gone: list[Throughput] = []  # of those that were let go
        self.share = share_of(ray.nodes(), settings, prepared.sweep.device)
        self._untold: list[str] = []
        self._told: Callable[[str], None] = self._untold.append

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._found))

    def __str__(self) -> str:
        hosts = len({member.place.node for member in self})
        device = f"{self.share.gpus} GPU and " if self.share.gpus else ""
        return f"{len(self._found)} workers on {hosts} nodes, each with {device}{self.share.cpus} CPUs"

    @property
    def throughput(self) -> Throughput:
        """What all have packed, those that are gone included."""
        return total([*self._gone, *(member.throughput for member in self)])

    def tell(self, told: Callable[[str], None]) -> None:
        """What the user should know, from now on at once; and what there was until now."""
        for text in self._untold:
            told(text)
        self._told = told

    def why_none(self, otherwise: str) -> str:
        """Why workers were refused."""
        return "; ".join(dict.fromkeys(self._refused.values())) or otherwise

    def meet(self) -> list[Origin]:
        """Hire workers and hear what they have.

        Raises:
            RequestError: there is no room for a worker, or none can run the sweep.
        """
        self.hire()
        if not self._found:
            raise RequestError(
                f"executor: no node of the Ray cluster has room for a worker ({self.share.gpus} GPUs, "
                f"{self.share.cpus} CPUs); change executor.ray, or the cluster"
            )
        start = time.monotonic()
        while not all(member.introduction for member in self):
            some = any(member.introduction for member in self)
            if time.monotonic() - start > (_STRAGGLERS_S if some else PATIENCE_S):
                break
            for member, said in self.hear(wait_s=1.0):
                if isinstance(said, Lost):
                    self.part_with(member, said)
        met = [member.introduction for member in self if member.introduction]
        if not met:
            reasons = self.why_none("others may be using it (see `ray status`)")
            raise RequestError(f"executor: no worker of the Ray cluster could start: {reasons}")
        return met

    def hire(self) -> None:
        """Fill the places that are free; now and then look for nodes that came or went."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        taken = {member.place for member in self}
        usable = [p for p in places(self._ray.nodes(), self.share) if p.node not in self._refused]
        wanted = usable if self._workers == "all" else usable[: self._workers]
        self._found += [self._hired(place, now) for place in wanted if place not in taken]

    def _hired(self, place: Slot, now: float) -> Member:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_gpus": self.share.gpus,
            "num_cpus": self.share.cpus,
            "max_restarts": 0,
            "max_concurrency": 4,  # `work` and what answers beside it
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        actor = self._ray.remote(Worker).options(**options).remote(self._text, self._name)
        return Member(place, actor, actor.work.options(num_returns="streaming").remote(), now)

    def hear(self, wait_s: float) -> Iterator[tuple[Member, Said]]:
        """What workers have said by now; waits for the first."""
        answers = {member.asked: member for member in self if member.asked is not None}
        speakers = {member.stream: member for member in self} | answers
        if not speakers:
            time.sleep(wait_s)
            return
        refs = [*speakers]
        heard, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in heard or self._ray.wait(refs, num_returns=1, timeout=wait_s)[0]:
            member = speakers[ref]
            if member in self._found:  # still
                yield member, self._given_back(member) if ref in answers else self._said(member)

    def _given_back(self, member: Member) -> list[str]:
        answer, member.asked = member.asked, None
        try:
            return list(self._ray.get(answer))
        except self._ray.exceptions.RayError:
            return []  # it died; its stream says so too

    def _said(self, member: Member) -> Origin | Report | Lost:
        errors = self._ray.exceptions
        try:
            said = self._ray.get(next(member.stream))
        except errors.RayTaskError as error:  # our own code raised
            return Lost("died" if member.ready else "unfit", str(error.cause))
        except (errors.RayError, StopIteration) as error:
            alive = any(n["Alive"] and n["NodeID"] == member.place.node for n in self._ray.nodes())
            return Lost("died" if alive else "with its node", str(error))
        if isinstance(said, Origin):
            member.introduction = said
            return said
        assert isinstance(said, Report)
        member.want, member.throughput = said.want, said.throughput or member.throughput
        member.ready = True
        if said.result:
            self._false_starts.pop(member.place, None)
        return said

    def refuse(self, member: Member, reason: str) -> None:
        """Neither this worker nor another of its node."""
        place = member.place
        if place.node not in self._refused:
            self._told(f"workers on {place.host} are not used: {reason}")
        self._refused[place.node] = reason
        self.let_go(member)

    def part_with(self, member: Member, lost: Lost, *, explained: bool = False) -> None:
        """Its place is filled again, unless worker after worker dies there and nothing explains it."""
        place = member.place
        if lost.how == "unfit":
            self.refuse(member, lost.reason)
            return
        self.let_go(member)
        self._false_starts[place] += 1
        gone = "died" if lost.how == "died" else "is gone with its node"
        self._told(f"a worker on {place.host} {gone}; others take what it had")
        if lost.how == "died" and self._false_starts[place] >= _MOST_FALSE_STARTS and not explained:
            self._refused[place.node] = f"workers on {place.host} die: {' '.join(lost.reason.split())[:200]}"

    def let_go(self, member: Member) -> None:
        self._gone.append(member.throughput)
        self._found.remove(member)
        self._ray.kill(member.actor)
        self._looked = 0.0  # its place may be filled at once

    def dismiss(self) -> None:
        for member in self:
            self.let_go(member)
