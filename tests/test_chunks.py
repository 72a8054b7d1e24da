"""Who gets which cells: `cluster.chunks`, without Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from schedcmp.cluster.chunks import Chunk, Ledger
from schedcmp.cluster.places import Share, places, share_of
from schedcmp.cluster.worker import Inbox
from schedcmp.records import Cell
from schedcmp.sweep.parts.making import Ray

PLAIN = Cell("", 0, "ddim", "ddim", "default", 0, 0, "p", "a", "", 1.0, None, None)


def cells(*steps: int, name: str = "c") -> list[Cell]:
    return [replace(PLAIN, id=f"{name}{i}", index=i, steps=n) for i, n in enumerate(steps)]


def work_of(timed: list[Cell], others: list[Cell], *workers: str, quiet: bool = False) -> Ledger[str]:
    """Workers "a1", "a2" are on host "a"; those in upper case cannot time."""
    work = Ledger[str](timed, others, lambda c: c.steps, quiet=quiet)
    for worker in workers:
        work.join(worker, worker[0].lower(), times=worker.islower())
        work.ready(worker)
    return work


def ids(chunk: Chunk | None) -> list[str]:
    return [c.id for c in chunk.cells] if chunk else []


def finish(work: Ledger[str], worker: str, chunk: Chunk | None) -> None:
    for cell_id in ids(chunk):
        work.finished(worker, cell_id)


def test_the_longest_go_out_first_and_a_worker_gets_what_it_needs() -> None:
    work = work_of([], cells(3, 9, 5, 9, 7, 1, 1, 1, 1, 1, 1, 1), "a1", "b1")
    assert ids(work.next_for("a1", 3)) == ["c11", "c1", "c3"]  # and one of the shortest
    assert work.next_for("a1", 3) is None
    assert ids(work.next_for("b1", 9)) == ["c10", "c4", "c2"]  # half of its part of nine


def test_short_cells_are_finished_while_long_ones_go_on() -> None:
    """So that a run that is stopped again and again gets on."""
    work = work_of([], [*cells(*[90] * 40), *cells(*[1, 2] * 5, name="s")], "a1")
    chunk = work.next_for("a1", 8)
    assert ids(chunk)[0] == "s8"
    for wanted in ("s6", "s4", "s2", "s0", "s9"):
        work.finished("a1", ids(chunk)[0])
        chunk = work.next_for("a1", 8)
        assert ids(chunk) == [wanted]
    assert work.next_for("a1", 8) is None
    inbox = Inbox()
    inbox.put(cells(90, 90))
    inbox.put(cells(1, name="s"), urgent=True)
    assert [c.id for c in inbox.pop()] == ["s0"]


def test_the_tail_goes_out_one_by_one() -> None:
    work = work_of([], cells(*[5] * 40), "a1", "b1")
    sizes = []
    while chunk := work.next_for("a1", 16):
        sizes.append(len(chunk.cells))
        finish(work, "a1", chunk)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert work.left == 0


def test_what_is_not_begun_goes_to_who_is_free() -> None:
    work = work_of([], cells(*[5] * 16), "a1", "b1")
    for _ in range(20):
        work.next_for("a1", 100)
    assert work.holds("a1") == 16
    assert work.richest("b1") == ("a1", 8)
    work.returned("a1", ["c14", "c15"])
    assert ids(work.next_for("b1", 4)) == ["c14"]


def test_a_group_that_dies_is_run_alone_and_only_the_killer_fails() -> None:
    work = work_of([], cells(5, 5, 5), "a1")
    held = [ids(work.next_for("a1", 9)) for _ in range(3)]
    assert sum(map(len, held)) == 3
    assert work.lost("a1", died=True) == []
    deaths, done = 1, []
    while work.left:
        worker = f"a{deaths + 1}"
        work.join(worker, "a", times=True)
        work.ready(worker)
        while chunk := work.next_for(worker, 9):
            assert chunk.kind == "suspect"
            assert work.next_for(worker, 9) is None  # nothing beside it
            if ids(chunk) == ["c1"]:
                deaths += 1
                assert [c.id for c in work.lost(worker, died=True)] == ([] if deaths == 2 else ["c1"])
                break
            finish(work, worker, chunk)
            done += ids(chunk)
    assert sorted(done) == ["c0", "c2"]
    assert deaths == 3


def test_a_node_that_dies_accuses_nobody() -> None:
    work = work_of(cells(3, name="t"), cells(5), "a1", "b1")
    for turn in range(5):
        worker = f"a{turn + 1}"
        assert ids(work.next_for(worker, 1)) == ["t0"]
        assert work.lost(worker, died=False) == []
        work.lost("b1", died=False)
        work.join(f"a{turn + 2}", "a", times=True)
        work.ready(f"a{turn + 2}")
        work.join("b1", "b", times=True)
        work.ready("b1")
        if turn == 0:
            work._timer = None
    assert work.left == 2


def test_latencies_are_measured_by_one_worker_while_its_host_is_quiet() -> None:
    work = work_of(cells(3, 3, name="t"), cells(*[5] * 9), "a1", "b1", quiet=True)
    work.join("a2", "a", times=True)
    assert work.next_for("a1", 4) is None  # a2 is loading
    work.ready("a2")
    first = work.next_for("a1", 4)
    assert (ids(first), work.next_for("a2", 4)) == (["t0"], None)
    assert work.next_for("b1", 4)  # another host does not disturb it
    finish(work, "a1", first)
    second = work.next_for("a1", 4)
    assert (ids(second), second and second.kind) == (["t1"], "timed")
    finish(work, "a1", second)
    assert ids(work.next_for("a2", 4))
    assert ids(work.next_for("a1", 4))


def test_on_a_gpu_the_others_go_on_beside_a_measurement() -> None:
    work = work_of(cells(3, name="t"), cells(*[5] * 9), "a1", "a2")
    assert ids(work.next_for("a1", 4)) == ["t0"]
    assert ids(work.next_for("a2", 4))


def test_another_model_of_gpu_measures_nothing() -> None:
    work = work_of(cells(3, name="t"), cells(5), "A1")
    assert ids(work.next_for("A1", 4)) == ["c0"]
    work.give_up_timing()
    assert work.left == 2


@given(st.data(), st.booleans())
@settings(max_examples=200)
def test_whatever_happens_each_cell_is_finished_once_or_convicted(data: st.DataObject, quiet: bool) -> None:
    """Workers die at random, with or without their node, give back cells and come anew; some cells are poison."""
    timed = cells(*data.draw(st.lists(st.integers(1, 9), max_size=4)), name="t")
    others = cells(*data.draw(st.lists(st.integers(1, 9), max_size=25)))
    poison = {c.id for c in [*timed, *others] if data.draw(st.integers(0, 9)) == 0}
    work = work_of(timed, others, "a1", "a2", "b1", quiet=quiet)
    done, convicted, held = Counter[str](), Counter[str](), {w: list[str]() for w in ("a1", "a2", "b1")}
    name: Callable[[str], str] = lambda w: f"{w[0]}{int(w[1:]) + 2}"  # noqa: E731

    def die(worker: str, *, died: bool) -> None:
        convicted.update(c.id for c in work.lost(worker, died=died))
        new = name(worker)
        del held[worker]
        held[new] = []
        work.join(new, new[0], times=True)
        work.ready(new)

    for calm in range(3000):
        if not work.left:
            break
        for worker in list(held):
            chunk = work.next_for(worker, data.draw(st.integers(1, 6)) if calm < 40 else 4)
            held[worker] += ids(chunk)
        worker = data.draw(st.sampled_from(sorted(held))) if calm < 40 else max(held, key=lambda w: len(held[w]))
        act = data.draw(st.sampled_from(["finish", "finish", "die", "node", "back"])) if calm < 40 else "finish"
        if act == "node":
            die(worker, died=False)
        elif act == "back" and len(held[worker]) > 1:
            work.returned(worker, [held[worker].pop()])
        elif act == "die" and len(held[worker]) > 1:  # by itself, while it has several
            die(worker, died=True)
        elif held[worker]:
            if held[worker][0] in poison:
                die(worker, died=True)
            else:
                work.finished(worker, held[worker][0])
                done[held[worker].pop(0)] += 1
    assert work.left == 0
    assert done == Counter(c.id for c in [*timed, *others] if c.id not in poison)
    assert convicted == Counter(poison)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), unique=True), st.data())
def test_an_inbox_gives_out_what_may_share_a_lane_and_each_cell_once(
    chosen: list[tuple[str, int]], data: st.DataObject
) -> None:
    came = [replace(PLAIN, id=f"{name}{seed}", scheduler=name, seed=seed) for name, seed in chosen]
    inbox, given, back = Inbox(), list[Cell](), list[str]()
    inbox.put(came)
    while lane := inbox.pop(lambda cell: 4 if cell.scheduler == "a" else 1):
        assert lane[0] == next(c for c in came if c not in given and c.id not in back)
        assert len({c.scheduler for c in lane}) == 1
        assert len(lane) in ((1, 2, 4) if lane[0].scheduler == "a" else (1,))
        given += lane
        back += inbox.take_back(data.draw(st.integers(0, 2)))
    assert sorted([*(c.id for c in given), *back]) == sorted(c.id for c in came)


def test_seeds_of_one_cell_come_out_side_by_side_whatever_was_given_back() -> None:
    named = [(name, seed) for name in "ab" for seed in range(8)]
    seeds = [replace(PLAIN, id=f"{n}{s}", index=i, scheduler=n, seed=s) for i, (n, s) in enumerate(named)]
    work = work_of([], seeds, "x1")
    chunk = work.next_for("x1", 8)
    work.returned("x1", ids(chunk)[2:])
    inbox = Inbox()
    while chunk := work.next_for("x1", 100):
        inbox.put(chunk.cells)
    lanes = iter(lambda: inbox.pop(lambda cell: 4), ())
    assert [[c.id for c in lane] for lane in lanes] == [
        ["a2", "a3", "a4", "a5"], ["a6", "a7"], ["b0", "b1", "b2", "b3"], ["b4", "b5", "b6", "b7"],
    ]  # fmt: skip


def node(name: str, alive: bool = True, **resources: float) -> dict[str, object]:
    return {"NodeID": name, "NodeManagerAddress": name, "Alive": alive, "Resources": resources}


def test_a_gpu_comes_with_its_part_of_the_cores() -> None:
    nodes = [node("head", CPU=4), node("x", CPU=64, GPU=8), node("y", CPU=30, GPU=4), node("z", alive=False, GPU=8)]
    share = share_of(nodes, Ray(), "auto")
    assert share == Share(1, 7)
    found = places(nodes, share)
    assert Counter(p.node for p in found) == {"x": 8, "y": 4}
    assert [p.node for p in found[:4]] == ["x", "y", "x", "y"]


def test_without_gpus_a_worker_has_a_node() -> None:
    nodes = [node("x", CPU=8), node("y", CPU=4)]
    assert share_of(nodes, Ray(), "auto") == Share(0, 4)
    assert len(places(nodes, Share(0, 4))) == 3
    assert share_of([node("x", CPU=8, GPU=2)], Ray(), "cpu") == Share(0, 8)
    assert share_of(nodes, Ray(cpus_per_worker=2), "auto") == Share(0, 2)
