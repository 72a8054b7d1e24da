"""The driver's loop: gives workers cells, passes their results on, and lets others take what a dead one had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from schedcmp.cluster.chunks import KILLS, Ledger
from schedcmp.cluster.connect import connected
from schedcmp.cluster.members import PATIENCE_S, Lost, Member, Members
from schedcmp.cluster.standard import machine, most_common, objection
from schedcmp.cluster.worker import Report
from schedcmp.engine.queue import most_rows
from schedcmp.engine.solo import in_turn
from schedcmp.engine.throughput import Throughput
from schedcmp.errors import RunError
from schedcmp.prepare import Prepared
from schedcmp.prepare.origin import Origin
from schedcmp.records import Cell, CellResult


class Crew:
    """The workers of a run. Made by `hired`."""

    def __init__(self, prepared: Prepared, members: Members, origin: Origin, *, mixed: bool) -> None:
        """
        Args:
            origin: what the run's images are made with.
            mixed: also with other devices and versions.
        """
        self.origin = origin
        self._prepared, self._members, self._mixed = prepared, members, mixed
        self._work = Ledger[Member]([], [], prepared.cost)
        self._most = 0
        self._packing_s: list[float] = []  # when each cell that is not timed was given or came back: first and last
        self.machines: dict[str, Mapping[str, Any]] = {}  # what each `CellResult.machine` stands for

    @property
    def throughput(self) -> list[Throughput]:
        """What packing achieved, all workers together; empty if nothing was packed."""
        total = self._members.throughput
        if self._packing_s:
            total.wall_s = self._packing_s[-1] - self._packing_s[0]
        return [total] if total.images else []

    def __str__(self) -> str:
        return str(self._members)

    def run(
        self,
        solo: Sequence[Cell],
        others: Sequence[Cell],
        evaluated: Callable[[int], None],
        told: Callable[[str], None],
    ) -> Iterator[CellResult]:
        """Results as they come; a worker that dies loses nothing but time. The workers are dismissed at the end.

        Raises:
            RunError: no worker is left, and none can be had.
        """
        timed = in_turn(solo) if self._prepared.sweep.timing.mode == "solo" else []
        rest = [*others, *([] if timed else solo)]
        members, cost = [*self._members], self._prepared.cost
        self._members.tell(told)
        self._work = Ledger(timed, rest, cost, quiet=not self._members.share.gpus)
        self._most = most_rows([*timed, *rest], cost, len(members))
        try:
            for member in members:
                if member.introduction:
                    self._admit(member, member.introduction)
            while self._work.left:
                self._look_after_members()
                self._feed()
                yield from self._received(evaluated, wait_s=1.0)
        except KeyboardInterrupt:
            yield from self._received(evaluated, wait_s=0.0)  # what is finished is kept
            raise
        finally:
            self._members.dismiss()

    def _look_after_members(self) -> None:
        self._members.hire()
        members = [*self._members]
        if not members:
            reasons = self._members.why_none("the nodes are gone")
            raise RunError(f"executor: no worker is left: {reasons}. Repeat the command to go on")
        long_ago = time.monotonic() - PATIENCE_S
        if not any(m.machine == self.origin.machine or (not m.machine and m.since > long_ago) for m in members):
            self._work.give_up_timing()

    def _feed(self) -> None:
        """Cells to those that need them, the neediest first; when all are given out, from those that have many."""
        work = self._work
        for member in sorted((m for m in self._members if m.ready), key=work.holds):
            chunk = work.next_for(member, member.want)
            if chunk:
                member.actor.give.remote(list(chunk.cells), timed=chunk.kind == "timed", urgent=chunk.urgent)
                if chunk.kind != "timed" and not self._packing_s:
                    self._packing_s.append(time.perf_counter())
            elif 4 * work.holds(member) <= member.want and (found := work.richest(member)):
                rich, spare = found
                if rich.asked is None:
                    rich.asked = rich.actor.hand_back.remote(spare)

    def _received(self, evaluated: Callable[[int], None], wait_s: float) -> Iterator[CellResult]:
        for member, said in self._members.hear(wait_s):
            match said:
                case Origin():
                    self._admit(member, said)
                case Report():
                    yield from self._reported(member, said, evaluated)
                case Lost():
                    yield from self._lost(member, said)
                case _:
                    self._work.returned(member, said)

    def _admit(self, member: Member, said: Origin) -> None:
        """Let a worker load its pipeline, unless what it has would mix results."""
        reason = objection(said, self.origin, mixed=self._mixed)
        if reason:
            self._members.refuse(member, reason)
            return
        member.machine = machine(said, self.origin)
        self.machines[member.machine] = {n: v for n, v in said.environment.items() if n not in ("optimize", "pipeline")}
        self._work.join(member, member.place.host, times=member.machine == self.origin.machine)
        member.actor.load.remote(self._most)

    def _reported(self, member: Member, said: Report, evaluated: Callable[[int], None]) -> Iterator[CellResult]:
        if said.evaluations:
            evaluated(said.evaluations)
        if said.result is None:
            self._work.ready(member)
            return
        if self._packing_s and not said.result.timings:
            self._packing_s[1:] = [time.perf_counter()]
        self._work.finished(member, said.result.cell.id)
        yield replace(said.result, machine=member.machine)

    def _lost(self, member: Member, lost: Lost) -> Iterator[CellResult]:
        convicted = self._work.lost(member, died=lost.how == "died") if member.machine else []
        self._members.part_with(member, lost, explained=bool(convicted))
        for cell in convicted:
            reason = f"it killed {KILLS} workers that were making nothing else (see Ray's logs, or run it locally)"
            yield CellResult(cell, "failed", error=reason, machine=member.machine)


@contextmanager
def hired(prepared: Prepared) -> Iterator[Crew]:
    """The workers of the sweep's cluster; what most of them have is the run's origin.

    Raises:
        RequestError: Ray is not there, or the cluster, or no worker that could run the sweep.
    """
    settings = prepared.sweep.executor.ray
    assert settings is not None
    with connected(settings) as ray:
        members = Members(prepared, ray)
        try:
            yield Crew(prepared, members, most_common(members.meet()), mixed=settings.mixed)
        finally:
            members.dismiss()
