from __future__ import annotations

import functools
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import Latents
from quick import few_of_each

from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.engine.batch import BatchSize, Waiting
from schedcmp.engine.calls.call import Call, why_alone
from schedcmp.engine.calls.joining import join, per_cell
from schedcmp.engine.calls.splitting import interleave, rows_of_first, split
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.sharing import exact, lanes_of
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import Recipe, mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry

REGISTRY = builtin_registry()


@pytest.fixture(scope="module")
def recipes(sd1: Path) -> dict[str, Recipe]:
    config = mended(inspect(ModelSpec(str(sd1))).scheduler_config, "StableDiffusionPipeline")
    entries = [*REGISTRY.entries.values(), *map(REGISTRY.entry, ("euler-karras", "heun-exponential", "deis-beta"))]
    return {e.name: resolve(e, config) for e in few_of_each(entries) if judge(e, config)[0] == "ok"}


def cells_of(
    schedulers: Iterable[str], steps: Iterable[int], seeds: Iterable[int] = (0,), **changes: Any
) -> list[Cell]:
    plain = Cell("", 0, "", "", "default", 0, 0, "p", "a b", "", 3.0, None, None)
    return [
        replace(plain, id=f"{name}/{n}/{seed}", index=i, scheduler=name, steps=n, seed=seed, **changes)
        for i, (name, n, seed) in enumerate(product(schedulers, steps, seeds))
    ]


def packed(pipeline: Any, recipes: dict[str, Recipe], max_batch: int | None = None) -> PackedEngine:
    return PackedEngine(Workbench(pipeline, recipes), lambda c: preflight(recipes[c.scheduler], c.steps).nfe, max_batch)


def ran(engine: Any, cells: list[Cell]) -> dict[str, CellResult]:
    results = list(engine.run(cells))
    assert sorted(r.cell.id for r in results) == sorted(c.id for c in cells)
    return {r.cell.id: r for r in results}


def alone(pipeline: Any, recipes: dict[str, Recipe], cells: list[Cell]) -> dict[str, CellResult]:
    return ran(SoloEngine(Workbench(pipeline, recipes), Measuring(timed=False)), cells)


def worst_distance(latents: Latents, pipeline: Any, recipes: Any, cells: list[Cell], **options: Any) -> float:
    """The largest difference between packed and alone, relative to the latents' scale."""
    alone(pipeline, recipes, cells)
    expected = dict(latents.of)
    latents.of.clear()
    results = ran(packed(pipeline, recipes, **options), cells)
    assert not [r.error for r in results.values() if r.status == "failed"]
    return max(float((latents.of[i] - e).abs().max() / e.std()) for i, e in expected.items())


def test_packed_equals_alone_over_the_whole_registry(latents: Latents, pipeline: Any, recipes: Any) -> None:
    """Measured: 4e-6 of the latents' scale on one thread."""
    cells = cells_of(recipes, (3, 7)) + cells_of(recipes, (4,), seeds=(0, 7), prompt="b")
    cells = [replace(c, id=str(i), guidance_scale=(1.0, 3.0, 7.5)[i % 3]) for i, c in enumerate(cells)]
    assert worst_distance(latents, pipeline, recipes, cells) < 1e-4


def test_packed_is_bit_equal_when_every_cell_has_its_own_batch(pipeline: Any, recipes: Any) -> None:
    cells = cells_of(recipes, (4,), seeds=(5,))
    expected = alone(pipeline, recipes, cells)
    got = ran(packed(pipeline, recipes, max_batch=1), cells)
    assert {i: r.image_sha256 for i, r in got.items()} == {i: r.image_sha256 for i, r in expected.items()}
    assert {i: (r.nfe, r.timesteps, r.scheduler_config) for i, r in got.items()} == {
        i: (r.nfe, r.timesteps, r.scheduler_config) for i, r in expected.items()
    }


def test_pitfall_14_a_result_does_not_depend_on_the_neighbours_or_their_order(
    latents: Latents, pipeline: Any, recipes: Any
) -> None:
    mine = cells_of(["dpmpp-sde", "euler-a", "pndm"], (6,), seeds=(3,))
    others = cells_of(["heun", "ddim", "unipc", "sa-solver", "kdpm2-a"], (2, 9), seeds=(3, 4))
    ran(packed(pipeline, recipes, max_batch=8), mine)
    first = {c.id: latents.of[c.id] for c in mine}
    crowd = [replace(c, index=-c.index) for c in mine + others]
    random.Random(0).shuffle(crowd)
    ran(packed(pipeline, recipes, max_batch=8), crowd)
    for c in mine:
        torch.testing.assert_close(latents.of[c.id], first[c.id], rtol=1e-4, atol=1e-4)


def test_sizes_prompts_and_guidance_may_be_mixed(latents: Latents, pipeline: Any, recipes: Any) -> None:
    cells = cells_of(["ddim", "heun"], (3, 5), prompt="a")
    cells += cells_of(["euler-a", "dpmpp-2m"], (4,), width=32, height=24, negative_prompt="b")
    cells += cells_of(["lms"], (4,), guidance_scale=1.0, width=32, height=24)
    assert worst_distance(latents, pipeline, recipes, cells) < 1e-4


def test_batches_are_full_to_the_end_of_a_sweep(pipeline: Any, recipes: Any) -> None:
    schedulers = list(recipes)[:14]
    engine = packed(pipeline, recipes, max_batch=32)
    ran(engine, cells_of(schedulers, (5, 10, 15, 20), seeds=range(4)))
    assert engine.throughput.images == 14 * 4 * 4
    assert engine.throughput.occupancy >= 0.9
    assert engine.throughput.max_batch == 32


def test_short_cells_land_while_long_ones_are_in_flight(
    pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a run that is stopped again and again before the longest cells end would never get on."""
    monkeypatch.setattr("schedcmp.engine.packed._LONGEST_WAIT_S", 0.0)
    cells = [*cells_of(["heun"], [30], range(4)), *cells_of(["ddim", "euler"], [2, 3], range(5))]
    engine = packed(pipeline, recipes, max_batch=8)
    landed = [r.cell.steps for r in engine.run(cells)]
    assert landed.index(30) > 10, landed
    assert landed.count(30) == 4


def test_a_prompt_is_encoded_once(pipeline: Any, recipes: Any) -> None:
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        forward = pipeline.text_encoder.forward
        patch.setattr(pipeline.text_encoder, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
        ran(packed(pipeline, recipes), cells_of(["ddim", "heun"], (2,), seeds=range(3)))
    assert len(calls) == 2  # the prompt and the empty negative prompt


@pytest.mark.parametrize("generator", ["cpu", "device"])
def test_seeds_that_share_a_lane_are_bit_equal_to_seeds_that_do_not(
    generator: Any, latents: Latents, pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole registry, on a denoiser that answers each row by itself to the last bit."""

    def rowwise(sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        return ((sample * encoder_hidden_states.mean((1, 2)).reshape(-1, 1, 1, 1)).sin(),)

    monkeypatch.setitem(vars(pipeline.unet), "forward", rowwise)
    cells = cells_of(recipes, (4,), seeds=range(3))
    bench = Workbench(pipeline, recipes, generator)
    found = []
    for seeds in (1, 2):
        monkeypatch.setattr("schedcmp.engine.packed._SEEDS", seeds)
        engine = PackedEngine(bench, lambda c: c.steps, 48)
        results = ran(engine, cells)
        found.append((dict(latents.of), {i: r.nfe for i, r in results.items()}, engine.throughput.evaluations))
    (apart, nfe, evaluations), (shared, shared_nfe, shared_evaluations) = found
    assert all(torch.equal(shared[i], latent) for i, latent in apart.items())
    assert (shared_nfe, shared_evaluations) == (nfe, evaluations)
    assert sum(nfe.values()) == evaluations


def test_what_depends_on_other_seeds_does_not_share_a_lane(recipes: Any) -> None:
    assert {name for name, recipe in recipes.items() if not exact(recipe)} == {
        "dpmpp-sde", "dpmpp-sde-karras",  # one tree of noise for all
        "dpm-adaptive",  # one step size for all
    }  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 30)), unique=True))
def test_every_cell_is_in_one_crew_of_its_like(chosen: list[tuple[str, int, int]]) -> None:
    cells = [cells_of([name], (steps,), (seed,))[0] for name, steps, seed in chosen]
    found = list(lanes_of(cells, lambda cell: 4 if cell.scheduler == "a" else 1))
    assert sorted(cell.id for crew in found for cell in crew) == sorted(cell.id for cell in cells)
    for crew in found:
        assert len({(cell.scheduler, cell.steps) for cell in crew}) == 1
        assert len(crew) in ((1, 2, 4) if crew[0].scheduler == "a" else (1,))


def test_a_lane_that_is_wider_than_those_before_is_still_answered_at_once(pipeline: Any, recipes: Any) -> None:
    engine = packed(pipeline, recipes)
    lanes = [tuple(cells_of(["ddim"], (2,), seeds)) for seeds in (range(4), range(4, 5))]
    assert len(list(engine.serve(lambda: lanes.pop() if lanes else (), most=8))) == 5
    assert (engine.throughput.forwards, engine.throughput.rows) == (2 + 2, 2 * 2 + 2 * 8)


@given(st.integers(1, 4), st.integers(1, 3))
def test_a_call_taken_apart_and_its_answers_together_are_what_they_were(cells: int, each: int) -> None:
    rows = cells * each
    call = Call(
        "unet", {"x": torch.randn(rows, 2), "timestep": torch.tensor(3), "more": {"y": torch.randn(rows)}}, cells
    )
    parts = per_cell(call)
    assert [part.rows for part in parts] == [each] * cells
    answers = [{"out": (part.arguments["x"], part.arguments["more"]["y"])} for part in parts]
    whole = interleave(answers, each)
    assert torch.equal(whole["out"][0], call.arguments["x"])
    assert torch.equal(whole["out"][1], call.arguments["more"]["y"])
    assert torch.equal(rows_of_first(whole, cells, rows)["out"][0], answers[0]["out"][0])


@given(st.integers(1, 4), st.integers(1, 3))
def test_a_list_with_an_item_for_each_row_is_taken_apart_like_rows(cells: int, each: int) -> None:
    rows = cells * each
    call = Call(
        "transformer", {"t": torch.arange(rows), "x": [torch.full((13, 2), float(i)) for i in range(rows)]}, cells
    )
    parts = per_cell(call)
    answers = [[item + 1 for item in part.arguments["x"]] for part in parts]
    whole = interleave(answers, each)
    assert [float(item[0, 0]) for item in whole] == [i + 1.0 for i in range(rows)]
    assert [float(item[0, 0]) for item in rows_of_first(whole, cells, rows)] == [float(a[0, 0]) for a in answers[0]]
    assert [float(item[0, 0]) for item in join([call, call])["x"]] == [*range(rows), *range(rows)]
    assert list(map(len, split(whole + whole, [rows, rows]))) == [rows, rows]


def test_what_keeps_a_call_from_a_batch_is_named() -> None:
    rows = {"x": torch.zeros(2, 3), "t": torch.zeros(2)}
    assert not why_alone(Call("transformer", rows))
    assert why_alone(Call("transformer", {**rows, "cache": np.zeros(3)})) == "cache"
    assert why_alone(Call("transformer", {**rows, "parts": [[torch.zeros(3)], [torch.zeros(3)]]})) == "parts"
    assert why_alone(Call("transformer", {"t": 3.0})) == "arguments"


def test_rows_may_be_in_the_second_dimension() -> None:
    """HiDream's transformer is given the answers of all layers of Llama."""
    calls = [
        Call("t", {"x": torch.randn(2, 3), "encoder_hidden_states_llama3": torch.randn(2, 2, 4)}) for _ in range(2)
    ]
    assert len({call.signature for call in calls}) == 1
    assert join(calls)["encoder_hidden_states_llama3"].shape == (2, 4, 4)
    assert [part.arguments["encoder_hidden_states_llama3"].shape for part in per_cell(replace(calls[0], cells=2))] == [
        (2, 1, 4)
    ] * 2


def test_one_seed_that_raises_does_not_take_the_others_with_it(
    pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schedcmp.engine import lane

    finished = lane.finished

    def picky(cell: Cell, *args: Any) -> CellResult:
        if cell.seed == 2:
            raise ZeroDivisionError("planted")
        return finished(cell, *args)

    monkeypatch.setattr(lane, "finished", picky)
    got = ran(packed(pipeline, recipes), cells_of(["ddim"], (3,), seeds=range(4)))
    assert {i for i, r in got.items() if r.status == "failed"} == {"ddim/3/2"}


def assert_same_images(got: dict[str, CellResult], expected: dict[str, CellResult]) -> None:
    """Equal to the last of 255 levels: a batch adds up in another order."""
    for i, result in got.items():
        assert np.abs(np.asarray(result.image, int) - np.asarray(expected[i].image, int)).max() <= 1


def limited(forward: Any, most_rows: int) -> Any:
    @functools.wraps(forward)  # calls are bound to the real signature
    def limit(*args: Any, **kwargs: Any) -> Any:
        rows = [*args, *kwargs.values()][0].shape[0]
        if rows > most_rows:
            raise torch.OutOfMemoryError(f"planted: {rows} rows")
        return forward(*args, **kwargs)

    return limit


@pytest.mark.parametrize("method", [("unet", "forward"), ("vae", "decode")])
def test_running_out_of_memory_halves_the_batch_and_loses_nothing(
    method: tuple[str, str], pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of(["ddim", "heun", "euler-a"], (3, 5), seeds=range(3))
    expected = alone(pipeline, recipes, cells)
    owner = getattr(pipeline, method[0])
    monkeypatch.setitem(vars(owner), method[1], limited(getattr(owner, method[1]), 4))
    engine = packed(pipeline, recipes, max_batch=16)
    got = ran(engine, cells)
    assert {r.status for r in got.values()} <= {"ok", "flagged"}
    assert_same_images(got, expected)
    assert engine.throughput.max_batch <= (4 if method[0] == "unet" else 16)


def test_a_cell_that_does_not_fit_alone_fails_alone(
    pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(pipeline.unet), "forward", limited(pipeline.unet.forward, 1))
    cells = cells_of(["ddim"], (3,), seeds=(0, 1)) + cells_of(["euler"], (3,), guidance_scale=1.0)
    got = ran(packed(pipeline, recipes), cells)
    assert [got[c.id].status == "failed" for c in cells] == [True, True, False]
    assert "OutOfMemoryError: planted" in str(got[cells[0].id].error)


def test_a_lane_that_raises_fails_alone(pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import HeunDiscreteScheduler

    step = HeunDiscreteScheduler.step

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.step_index == 2:
            raise ZeroDivisionError("planted")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(HeunDiscreteScheduler, "step", broken)
    cells = cells_of(["ddim", "heun", "euler"], (4,), seeds=(0, 1))
    got = ran(packed(pipeline, recipes), cells)
    assert {c.scheduler for c in cells if got[c.id].status == "failed"} == {"heun"}
    assert got["heun/4/0"].error == "ZeroDivisionError: planted"


def test_a_batch_that_the_model_refuses_is_run_one_by_one(
    pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = pipeline.unet.forward

    @functools.wraps(forward)
    def picky(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if sample.shape[0] > 2:
            raise ValueError("I take one image at a time")
        return forward(sample, *args, **kwargs)

    cells = cells_of(["ddim", "unipc"], (3,), seeds=(0, 1))
    expected = alone(pipeline, recipes, cells)
    monkeypatch.setitem(vars(pipeline.unet), "forward", picky)
    assert_same_images(ran(packed(pipeline, recipes), cells), expected)


def test_a_model_that_mixes_its_rows_is_found_out_and_not_packed(
    pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = pipeline.unet.forward

    @functools.wraps(forward)
    def mixing(*args: Any, **kwargs: Any) -> Any:
        (sample,) = forward(*args, **kwargs)
        return (sample - sample.mean(0, keepdim=True) / 2,)

    cells = cells_of(["ddim", "unipc"], (3,), seeds=(0, 1))
    with monkeypatch.context() as patch:
        patch.setitem(vars(pipeline.unet), "forward", mixing)
        expected = alone(pipeline, recipes, cells)
        engine = packed(pipeline, recipes)
        assert_same_images(ran(engine, cells), expected)
    assert engine.throughput.notes == ["not packed: unet answers a row differently when others are beside it"]


def test_nothing_of_the_parking_stays_behind(pipeline: Any, recipes: Any) -> None:
    engine = packed(pipeline, recipes)
    next(iter(engine.run(cells_of(["ddim"], (2,), seeds=(0, 1)))))
    del engine
    assert torch.is_grad_enabled()
    assert "decode" not in vars(pipeline.vae)
    assert "forward" not in vars(pipeline.unet)
    assert "forward" not in vars(pipeline.text_encoder)


def test_an_interrupt_inside_a_lane_stops_the_run(pipeline: Any, recipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DDIMScheduler

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(DDIMScheduler, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(packed(pipeline, recipes).run(cells_of(["euler", "ddim"], (3,))))
    assert "forward" not in vars(pipeline.unet)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.floats(0, 999), st.booleans()), min_size=2, max_size=6),
)
@settings(max_examples=30)
def test_joining_then_splitting_is_the_identity(calls: list[tuple[int, float, bool]]) -> None:
    made = []
    for rows, timestep, whole in calls:
        t = torch.tensor(int(timestep)) if whole else torch.tensor(timestep)
        sample, states = torch.randn(rows, 4, 2, 2), torch.randn(rows, 3, 5)
        kwargs = {"text_embeds": torch.randn(rows, 6)}
        made.append(Call("unet", {"sample": sample, "timestep": t, "states": states, "added": kwargs, "flag": None}))
    assert len({c.signature for c in made}) == 1
    joined = join(made)
    rows = [c.rows for c in made]
    assert joined["timestep"].shape == (sum(rows),)
    for part, call in zip(split({"out": (joined["sample"], joined["states"])}, rows), made, strict=True):
        assert torch.equal(part["out"][0], call.arguments["sample"])
        assert torch.equal(part["out"][1], call.arguments["states"])
    assert torch.equal(joined["added"]["text_embeds"], torch.cat([c.arguments["added"]["text_embeds"] for c in made]))


def test_calls_that_differ_beyond_their_rows_do_not_share_a_batch() -> None:
    sample = torch.zeros(2, 4, 2, 2)
    plain = Call("unet", {"sample": sample, "timestep": torch.tensor(3), "scale": 1.0})
    others = [
        Call("unet", {"sample": torch.zeros(2, 4, 3, 2), "timestep": torch.tensor(3), "scale": 1.0}),
        Call("unet", {"sample": sample, "timestep": torch.tensor(3), "scale": 2.0}),
        Call("unet", {"sample": sample.half(), "timestep": torch.tensor(3), "scale": 1.0}),
        Call("vae", {"sample": sample, "timestep": torch.tensor(3), "scale": 1.0}),
        Call("unet", {"sample": sample, "timestep": torch.tensor(3), "scale": 1.0, "more": torch.ones(3)}),
    ]
    assert plain.signature not in {c.signature for c in others}


def test_positions_are_shared_even_if_their_length_is_the_batch_size() -> None:
    ids = torch.arange(6.0).reshape(2, 3)
    calls = [Call("transformer", {"hidden_states": torch.randn(2, 4, 8), "txt_ids": ids.clone()}) for _ in range(2)]
    assert calls[0].signature == calls[1].signature
    assert torch.equal(join(calls)["txt_ids"], ids)
    other = Call("transformer", {"hidden_states": torch.randn(2, 4, 8), "txt_ids": ids + 1})
    assert other.signature != calls[0].signature


def grown(rate: Any, most: int = 512) -> int:
    size = BatchSize(most=most)
    for _ in range(100):
        size.observe(size.rows, size.rows / rate(size.rows))
    assert size.settled
    return size.rows


def test_the_batch_grows_while_that_pays() -> None:
    assert grown(lambda rows: min(rows, 32)) == 32
    assert grown(lambda rows: 1.0) == 2
    assert grown(lambda rows: rows, most=100) == 64
    assert grown(lambda rows: rows**0.5 if rows < 64 else 8 / (rows / 64)) == 64


@pytest.mark.parametrize("cold", range(0, 21, 3))
def test_what_was_tried_while_the_process_was_slow_is_tried_again(cold: int) -> None:
    calls = iter(range(1000))
    assert grown(lambda rows: min(rows, 32) * (0.7 if next(calls) < cold else 1)) == 32


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=40), st.integers(1, 12))
def test_all_that_waits_is_taken_once_in_order_and_within_the_limit(calls: list[tuple[int, int]], most: int) -> None:
    waiting: Waiting[int] = Waiting()
    for owner, (group, rows) in enumerate(calls):
        waiting.add(owner, Call("unet", {"group": group, "sample": torch.zeros(rows, 1)}))
    taken: list[int] = []
    while waiting:
        signature = max(waiting.rows(), key=waiting.rows().__getitem__)
        batch = waiting.take(signature, most)
        assert batch == sorted(batch)
        assert len(batch) == 1 or sum(calls[o][1] for o in batch) <= most
        taken += batch
    assert sorted(taken) == list(range(len(calls)))


def test_batches_in_flight_change_nothing(latents: Latents, pipeline: Any, recipes: Any) -> None:
    """As on a GPU: the next batch is started before the lanes of the last one are told."""
    cells = cells_of(["ddim", "heun", "lms", "dpmpp-2m-sde", "unipc"], (3, 6), seeds=range(5))
    cells = [replace(c, id=str(i)) for i, c in enumerate(cells)]
    ran(packed(pipeline, recipes), cells)
    expected = dict(latents.of)
    latents.of.clear()
    engine = packed(pipeline, recipes)
    engine._streams.overlap = True
    assert not [r.error for r in ran(engine, cells).values() if r.status == "failed"]
    assert max(float((latents.of[i] - x).abs().max() / x.std()) for i, x in expected.items()) < 1e-4


def test_a_tensor_without_rows_is_read_once_while_it_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: (reads.append(1), cpu(tensor))[1])
    ids = torch.arange(3.0)
    calls = [Call("transformer", {"x": torch.zeros(1, 2), "img_ids": ids}) for _ in range(3)]
    assert len({call.signature for call in calls}) == 1
    assert len(reads) == 1
    ids += 1
    assert Call("transformer", {"x": torch.zeros(1, 2), "img_ids": ids}).signature != calls[0].signature
    assert len(reads) == 2


def test_lanes_that_begin_alike_ask_once(latents: Latents, pipeline: Any, recipes: Any) -> None:
    """Guidance comes after the answer; DDIM and DPM++ 2M start from the same latents, and here at one level."""
    names = ["ddim", "dpmpp-2m", "deis", "euler"]
    cells = cells_of(names, (4,), (0,)) + cells_of(names, (4,), (0,), guidance_scale=5.0)
    cells = [replace(c, id=str(i)) for i, c in enumerate(cells)]
    alone(pipeline, recipes, cells)
    expected = dict(latents.of)
    engine = packed(pipeline, recipes, max_batch=1)
    got = ran(engine, cells)
    assert all(torch.equal(latents.of[i], x) for i, x in expected.items())
    starts = {
        (recipes[c.scheduler].entry.name == "euler", preflight(recipes[c.scheduler], 4).timesteps[0]) for c in cells
    }
    assert engine.throughput.forwards == sum(r.nfe for r in got.values()) - len(cells) + len(starts)
    assert engine.throughput.evaluations == sum(r.nfe for r in got.values())
