from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_run import run

from schedcmp.errors import RequestError
from schedcmp.metrics.clip import ClipScore
from schedcmp.metrics.perceptual import Lpips
from schedcmp.metrics.pixels import Clipped, Sharpness
from schedcmp.readings import noted, readings
from schedcmp.records import Cell, CellResult, Reference, StoredCell, Timing
from schedcmp.report.across import across, recommended_cell
from schedcmp.report.answer import Answer, Budget, answer
from schedcmp.report.answer_json import as_json
from schedcmp.report.latex import timings_latex
from schedcmp.report.plots.convergence import convergence_data
from schedcmp.report.quality import choose_metric, cost, front, goodness, points, undominated
from schedcmp.report.tables import timing_rows, timings_markdown
from schedcmp.report.words.across import markdown as section
from schedcmp.report.words.across import overall
from schedcmp.report.words.markdown import markdown
from schedcmp.report.words.sentences import sentences
from schedcmp.store.images import image_path
from schedcmp.store.store import Store

PNG = b"\x89PNG and so on IEND\xaeB`\x82"
KNOWN = readings(noted([Sharpness().reading, ClipScore().reading]))
SLOW = {"heun": 2}  # evaluations per step
ERROR = {"heun": 0.4, "dpmpp-2m": 1.0, "deis": 1.01, "ddim": 4.0}


def stored(
    scheduler: str,
    steps: int,
    seed: int,
    *,
    metrics: Mapping[str, float],
    status: str = "ok",
    guidance: float = 2.0,
    latencies: int = 1,
) -> StoredCell:
    name = f"{scheduler}-{steps}-{seed}-{guidance}"
    cell = Cell(name, 0, scheduler, scheduler, "default", steps, seed, "p", "a cat", "", guidance, None, None)
    nfe = steps * SLOW.get(scheduler, 1)
    timings = tuple(
        Timing(nfe * (0.01 + i * 1e-4), 0, nfe * 0.009, nfe * 0.001, 0, (), seed + i / 100) for i in range(latencies)
    )
    result = CellResult(cell, status, nfe=nfe, width=64, height=64, timings=timings, image_sha256="s")  # type: ignore[arg-type]
    return StoredCell(result, f"images/{name}.png", metrics)


def run_of(seeds: int, *, schedulers: Iterable[str] = ERROR, name: str = "reference_rmse") -> list[StoredCell]:
    """Errors that fall with the square of the steps, as 1 : 1.01 between dpmpp-2m and deis."""
    rng = np.random.default_rng(0)
    task = {seed: rng.lognormal(0, 0.3) for seed in range(seeds)}
    return [
        stored(s, n, seed, metrics={name: 4 * ERROR[s] * task[seed] * rng.lognormal(0, 0.03) / n**2})
        for s in schedulers
        for n in (4, 8, 16)
        for seed in range(seeds)
    ]


def the_answer(cells: list[StoredCell], **question: object) -> Answer:
    (found,) = answer(cells, known=KNOWN, **question)  # type: ignore[arg-type]
    return found


def test_the_fastest_within_the_limit_is_named() -> None:
    found = the_answer(run_of(8))
    assert found.fastest is not None
    assert (found.fastest.scheduler, found.fastest.steps) == ("deis", 8)
    first = sentences(found)[0]
    assert (
        "fastest that has converged (RMSE to the converged image at most 0.1): deis at 8 steps, 8 NFE, 80 ms" in first
    )
    assert first.endswith("; as fast for all that is known: dpmpp-2m at 8 steps.")
    assert the_answer(run_of(8), limit=1e-9).fastest is None
    assert "Nothing has surely converged" in sentences(the_answer(run_of(8), limit=1e-9))[0]


def test_what_is_near_only_by_its_estimate_is_hopeful() -> None:
    cells = [stored("sure", 8, s, metrics={"reference_rmse": e}) for s, e in enumerate((0.04, 0.05, 0.06))]
    cells += [stored("perhaps", 4, s, metrics={"reference_rmse": e}) for s, e in enumerate((0.02, 0.09, 0.2))]
    found = the_answer(cells)
    assert found.fastest is not None
    assert found.hopeful is not None
    assert (found.fastest.scheduler, found.hopeful.scheduler) == ("sure", "perhaps")
    assert "Perhaps perhaps at 4 steps" in sentences(found)[1]
    assert the_answer(cells, limit=10.0).hopeful is None


def test_a_budget_that_brings_nothing_better_says_so_briefly() -> None:
    errors = {("good", 4): 0.01, ("poor", 4): 0.5, ("poor", 8): 0.3}
    cells = [stored(*at, s, metrics={"reference_rmse": e + s / 1000}) for at, e in errors.items() for s in range(2)]
    assert "Up to 8 NFE: still good at 4 steps." in sentences(the_answer(cells))


def test_each_budget_has_its_best_and_what_is_not_told_apart_from_it() -> None:
    found = the_answer(run_of(8))
    assert [c.budget.limit for c in found.choices] == [4, 8, 16, 32]
    eight = found.choices[1]
    assert {eight.best.scheduler, *(p.scheduler for p, _ in eight.alike)} == {"dpmpp-2m", "deis"}
    assert [p.scheduler for p, _ in eight.others][-1] == "ddim"
    assert {p.steps for p, _ in eight.others if p.scheduler == "heun"} == {4}
    text = sentences(found)[2]
    assert "not told apart from" in text
    assert "; better than heun at 4 steps, ddim at 8 steps." in text
    assert "seeds would tell the first two, if they differ as much as they seem" in text


def test_more_seeds_tell_more_apart() -> None:
    few, many = (the_answer(run_of(n)).choices[0] for n in (2, 12))
    assert len(many.alike) <= len(few.alike)
    assert all(d.p is not None and d.p <= 0.05 for p, d in many.others if p.scheduler == "ddim")


def test_one_seed_has_no_intervals_and_says_so() -> None:
    found = the_answer(run_of(1))
    assert all(p.quality and p.quality.low is None for p in found.measured)
    assert all(choice.alike == choice.others for choice in found.choices)
    assert any("there are no intervals, and the order may be luck" in s for s in sentences(found))
    assert not any("Best" in s for s in sentences(found))
    assert any(s.startswith("On one image each, up to 4 NFE: dpmpp-2m at 4 steps") for s in sentences(found))


def test_without_metrics_only_cost_is_spoken_of() -> None:
    found = the_answer([stored(s, 4, seed, metrics={}) for s in ("heun", "ddim") for seed in range(6)])
    assert (found.choices, found.front, found.as_fast) == ((), (), ())
    assert sentences(found) == [
        "The fastest is ddim at 4 steps, 4 NFE, 40 ms.",
        "No quality was measured, so this is about cost only: give the sweep metrics.",
    ]


@pytest.mark.parametrize("turns", [1, 5])
def test_fewer_than_six_turns_make_no_scheduler_the_fastest(turns: int) -> None:
    found = the_answer([stored(s, 4, seed, metrics={}) for s in ("deis", "ddim") for seed in range(turns)])
    assert sentences(found)[0] == "The fewest evaluations: deis at 4 steps, ddim at 4 steps, 4 NFE."
    assert "fewer than six tell no latencies apart" in sentences(found)[-1]
    assert not found.by_latency


def test_why_there_is_no_converged_image_is_said() -> None:
    cells = [stored("ddim", 4, seed, metrics={}) for seed in range(2)]
    references = [Reference(c.cell.task, None, 0.5, "two solvers disagree") for c in cells]
    (found,) = answer(cells, references)
    assert "2 tasks have no converged image: two solvers disagree." in sentences(found)


def test_schedulers_that_draw_noise_are_not_ranked_by_a_distance() -> None:
    found = the_answer([*run_of(3), *(stored("euler-a", 8, s, metrics={}) for s in range(3))])
    assert found.unmeasured == ("euler-a",)
    assert "euler-a" not in {p.scheduler for p in found.measured}
    assert any("Without RMSE to the converged image: euler-a; they draw noise, or" in s for s in sentences(found))


def test_what_lacks_a_seed_is_left_out_and_named() -> None:
    cells = [c for c in run_of(3) if c.cell.id != "ddim-8-1-2.0"]
    found = the_answer(cells)
    assert [(p.scheduler, p.steps) for p in found.incomplete] == [("ddim", 8)]
    assert any("Left out, as values are missing: ddim at 8 steps" in s for s in sentences(found))


def test_nothing_is_better_by_less_than_the_converged_image_is_known_to() -> None:
    errors = {("best", 8): 0.001, ("alike", 4): 0.0019, ("far", 2): 0.01}
    cells = [stored(*at, s, metrics={"reference_rmse": e}) for at, e in errors.items() for s in range(8)]
    references = [Reference(c.cell.task, "reference.png", 0.001) for c in cells]
    assert the_answer(cells).choices[-1].best.scheduler == "best"
    (found,) = answer(cells, references)
    last = found.choices[-1]
    assert {last.best.scheduler, *(p.scheduler for p, _ in last.alike)} == {"best", "alike"}
    assert [p.scheduler for p in found.front] == ["far", "alike"]
    assert any("RMSE below 0.002, as far as the converged image is known" in s for s in sentences(found))


def test_latencies_that_are_not_steady_are_no_cost() -> None:
    def timed(scheduler: str, steps: int, seed: int, times: tuple[float, ...]) -> StoredCell:
        of = stored(scheduler, steps, seed, metrics={"reference_rmse": 0.05 / steps})
        timings = tuple(Timing(t, 0, t, 0, 0, (), seed + i / 100) for i, t in enumerate(times))
        return replace(of, result=replace(of.result, timings=timings))

    steady, busy = (1.0, 1.01, 1.02, 1.0, 1.01, 1.02), (1.0, 2.0, 1.1, 1.5, 1.0, 1.9)
    assert the_answer([timed("a", 8, s, steady) for s in range(3)]).by_latency
    found = the_answer([timed("a", 8, s, busy) for s in range(3)] + [timed("b", 4, s, busy) for s in range(3)])
    assert not found.by_latency
    assert found.fastest is not None
    assert found.fastest.scheduler == "b"
    assert any("repeats lie apart (interquartile range" in s and "counted in NFE" in s for s in sentences(found))
    assert sentences(found)[0].startswith("The cheapest that has converged")
    assert "b at 4 steps, 4 NFE, RMSE" in sentences(found)[0]  # and no latency
    assert "| b | 4 | 4 | – |" in markdown([found])


def timed(scheduler: str, latencies: Iterable[float], *, seed: int = 0, **more: float) -> StoredCell:
    """A cell with a timing in each of several turns."""
    of = stored(scheduler, 4, seed, metrics={})
    timings = tuple(Timing(t, 0, 0.9 * t, 0, 0, (), seed + i / 100, **more) for i, t in enumerate(latencies))
    return replace(of, result=replace(of.result, timings=timings))


def test_latencies_are_compared_in_pairs_of_one_turn() -> None:
    machine = (1.0, 1.04, 0.98, 1.03, 1.01, 0.97, 1.02, 1.0)  # what it did is in the latencies of all
    found = the_answer([timed("slow", [1.1 * t for t in machine]), timed("fast", machine)])
    assert sentences(found)[0].startswith("The fastest is fast at 4 steps")
    found = the_answer([timed("slow", [1.02 * t for t in machine]), timed("fast", machine)])  # grounds, but for nothing
    assert sentences(found)[0].startswith("None is surely the fastest: fast at 4 steps")
    assert "as fast for all that is known: slow at 4 steps" in sentences(found)[0]
    apart = [timed("slow", [1.3 * t for t in machine], seed=1), timed("fast", machine)]
    assert not the_answer(apart).by_latency


@pytest.mark.parametrize(
    ("latencies", "waited_s", "doubt"),
    [
        ([1.0] * 6, 0.2, "they waited 20% of the time for a processor (other work, or more threads than processors)"),
        ([1.0, 2.0, 1.0, 2.0, 1.0, 1.0], 0.0, "repeats lie apart"),
        ([1.0, 1.04, 1.08, 1.1, 1.12, 1.2], 0.0, "the last turn took 1.20 times the first"),
    ],
)
def test_latencies_of_a_busy_machine_are_marked_everywhere(latencies: list[float], waited_s: float, doubt: str) -> None:
    cells = [timed(name, latencies, waited_s=waited_s) for name in ("a", "b")]
    found = the_answer(cells)
    assert not found.by_latency
    assert any(f"must not be compared, so cost is counted in NFE: {doubt}" in s for s in sentences(found))
    rows = timing_rows(cells)
    assert all(doubt in row.doubt for row in rows)
    assert doubt in timings_markdown(rows)
    assert doubt.replace("%", r"\%") in timings_latex(rows)
    assert not timing_rows([timed("a", [1.0] * 6), timed("b", [1.0] * 6)])[0].doubt


def test_one_scheduler_under_several_names_is_never_ranked() -> None:
    def named(name: str, latency: float, error: float, **config: object) -> list[StoredCell]:
        cells = [stored(name, 4, s, metrics={"reference_rmse": error}) for s in range(8)]
        made = {"scheduler_config": {"_class_name": "Euler", **config}, "timesteps": (3.0, 2.0)}
        timing = Timing(latency, 0, latency, 0, 0, ())
        return [
            replace(c, result=replace(c.result, timings=(replace(timing, turn=float(c.cell.seed)),), **made))
            for c in cells
        ]

    cells = [*named("one", 1.0, 0.05), *named("two", 2.0, 0.05), *named("other", 3.0, 0.06, spacing="trailing")]
    found = the_answer(cells)
    assert [p.names for p in found.measured] == [("one", "two"), ("other",)]
    assert "one = two: one scheduler, whatever it is called; nothing tells them apart." in sentences(found)
    assert not any(("two" in s) != ("one" in s.replace("one scheduler", "")) for s in sentences(found))
    assert [line.label for line in convergence_data(found)] == []


def test_failed_cells_are_no_points() -> None:
    cells = [*run_of(2), stored("unipc", 4, 0, metrics={}, status="failed")]
    assert "unipc" not in {p.scheduler for p in the_answer(cells).cheapest}


def test_more_is_better_where_the_metric_says_so() -> None:
    found = the_answer(run_of(8, name="clip"))
    assert found.choices[0].best.scheduler == "ddim"
    assert (found.limit, found.fastest) == (None, None)


def test_nothing_converges_by_a_number_that_says_nothing_of_it() -> None:
    known = readings(noted([Clipped().reading, Lpips().reading]))
    for name in ("clipped", "lpips"):
        (found,) = answer(run_of(8, name=name), metric=name, known=known)
        assert found.choices[0].best.scheduler == "deis"
        assert (found.limit, found.fastest) == (None, None)
        assert "converged" not in sentences(found)[0]


def test_the_metric_is_the_distance_unless_another_is_asked_for() -> None:
    cells = [stored("ddim", 4, 0, metrics={"clip": 20.0, "sharpness": 9.0, "reference_rmse": 0.1})]
    assert choose_metric(cells, KNOWN) is KNOWN["reference_rmse"]
    assert choose_metric(cells, KNOWN, "clip") is KNOWN["clip"]
    for name, why in (
        ("adherence", "the run has no such metric"),
        ("sharpness", "neither more nor less of it is better"),
    ):
        with pytest.raises(RequestError, match=f"{why}; those that rank: reference_rmse, clip"):
            choose_metric(cells, KNOWN, name)
    assert choose_metric([stored("ddim", 4, 0, metrics={"sharpness": 1.0})], KNOWN) is None


def test_guidances_are_answered_apart() -> None:
    cells = [stored("ddim", 4, s, metrics={"clip": 20.0}, guidance=g) for s in range(2) for g in (1.0, 7.5)]
    assert [found.setting.guidance_scale for found in answer(cells, known=KNOWN)] == [1.0, 7.5]
    text = markdown(answer(cells, known=KNOWN))
    assert "## guidance 1\n" in text
    assert "## guidance 7.5\n" in text


def guided(values: Mapping[tuple[str, float], float], metric: str, seeds: int = 12) -> list[StoredCell]:
    """Each scheduler's mean of a metric at each guidance, at 4 steps and a tenth less of it at 2."""
    rng = np.random.default_rng(0)
    return [
        stored(name, steps, seed, metrics={metric: value * (steps + 16) / 20 + rng.normal(0, 0.3)}, guidance=guidance)
        for seed in range(seeds)
        for (name, guidance), value in values.items()
        for steps in (2, 4)
    ]


def test_of_all_settings_the_best_is_named_by_a_metric_that_means_the_same_in_all() -> None:
    cells = guided({("ddim", 1.0): 20, ("euler", 1.0): 22, ("ddim", 7.5): 27, ("euler", 7.5): 25}, "clip")
    found = across(cells, KNOWN)
    assert [[(c.setting.guidance_scale, c.point.scheduler) for c in one.contenders] for one in found] == [
        [(7.5, "ddim"), (1.0, "euler")]
    ] * 2
    text = markdown(answer(cells, known=KNOWN), first=section(found, answer(cells, known=KNOWN)))
    assert "## By CLIP score" in text
    assert "up to 4 NFE: ddim at 4 steps (guidance 7.5), 4 NFE, CLIP score 27" in text
    assert "; better than the best of every other." in text
    assert "- euler at 4 steps (guidance 1), 4 NFE, CLIP score 22" in text
    assert "guide by evaluating two rows at once" in text
    assert "| guidance 1 | euler at 2 steps: 19" in text
    read = [json.loads(json.dumps(as_json(one, found)))["among_settings"] for one in answer(cells, known=KNOWN)]
    assert [
        [(place["place"], place["best"]["scheduler"], place["budget"]["limit"]) for place in one] for one in read
    ] == [[(2, "euler", 2), (2, "euler", 4)], [(1, "ddim", 2), (1, "ddim", 4)]]
    assert [place["told_apart"] for one in read for place in one] == [True, True, False, False]
    taken = recommended_cell(cells, answer(cells, known=KNOWN), KNOWN)
    assert taken
    assert (taken[0].cell.guidance_scale, taken[1].scheduler) == (7.5, "ddim")
    equal = guided({("ddim", 1.0): 20, ("ddim", 7.5): 20.01}, "clip", seeds=6)
    (line,) = overall(across(equal, KNOWN), answer(equal, known=KNOWN))
    assert "not told apart from the best of guidance" in line


def test_equal_settings_are_seldom_told_apart() -> None:
    names = [(name, guidance) for name in ("a", "b", "c") for guidance in (1.0, 4.0)]
    apart = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cells = [stored(n, 4, s, metrics={"clip": rng.normal(20, 2)}, guidance=g) for n, g in names for s in range(8)]
        apart += any(c.told_apart for c in across(cells, KNOWN)[0].contenders)
    assert apart <= 6


def test_settings_are_never_ranked_by_distances_to_their_own_images() -> None:
    cells = guided({("ddim", 1.0): 2, ("euler", 7.5): 5}, "reference_rmse")
    answers = answer(cells, known=KNOWN)
    assert not across(cells, KNOWN)
    text = section([], answers)
    assert "Which setting is best of all cannot be told" in text
    assert "- ddim at 4 steps (guidance 1), RMSE 2.03" in text
    taken = recommended_cell(cells, answers, KNOWN)
    assert taken
    assert taken[0].cell.guidance_scale == 1
    assert section(across(run_of(8, name="clip"), KNOWN), answer(run_of(8, name="clip"), known=KNOWN)) == ""


def test_a_budget_in_seconds_goes_by_solo_latency() -> None:
    (choice,) = the_answer(run_of(3), budget=Budget(0.081, "s")).choices
    assert {choice.best.nfe, *(p.nfe for p, _ in choice.others)} == {8}
    assert not the_answer(run_of(3), budget=Budget(0.001, "s")).choices


def test_a_distance_of_nothing_is_a_distance() -> None:
    cells = [
        stored(s, 4, seed, metrics={"reference_rmse": e}) for s, e in (("a", 0.0), ("b", 0.1)) for seed in range(8)
    ]
    assert the_answer(cells).choices[0].best.scheduler == "a"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.01, 1)), min_size=1, max_size=30))
def test_nothing_beats_a_point_of_the_front_and_something_beats_the_others(drawn: list[tuple[int, float]]) -> None:
    cells = [stored(f"s{i}", n, 0, metrics={"reference_rmse": e}) for i, (n, e) in enumerate(drawn)]
    metric = KNOWN["reference_rmse"]
    ((_, (found, _)),) = points(cells, metric).items()
    best = front(found, metric, by_latency=False)

    def beaten(p: object) -> bool:
        return any(
            cost(q, by_latency=False) <= cost(p, by_latency=False)  # type: ignore[arg-type]
            and goodness(q, metric) >= goodness(p, metric)  # type: ignore[arg-type]
            and (q.nfe, goodness(q, metric)) != (p.nfe, goodness(p, metric))  # type: ignore[attr-defined,arg-type]
            for q in found
        )

    assert not any(map(beaten, best))
    on_front = {(p.nfe, goodness(p, metric)) for p in best}
    assert all(beaten(p) or (p.nfe, goodness(p, metric)) in on_front for p in found)


def test_the_json_is_whole_and_has_no_nan() -> None:
    for cells in (run_of(1), run_of(8), [stored("ddim", 4, 0, metrics={})]):
        read = json.loads(json.dumps(as_json(the_answer(cells)), allow_nan=False))
        assert read["sentences"]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[list[StoredCell]], Path]:
    def make(cells: list[StoredCell]) -> Path:
        with Store.create(tmp_path / "run") as store:
            store.begin([c.cell for c in cells], {"sweep": "grid: {}\nname: x\n", "environment": {}})
            for c in cells:
                store.add(c.result, "key", "machine", image_path(c.cell), PNG)
            store.measure({c.cell.id: c.metrics for c in cells})
        return tmp_path / "run"

    return make


def test_recommend_prints_the_sentences(
    folder: Callable[[list[StoredCell]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cells = run_of(8)
    path = folder(cells)
    assert run("recommend", path) == 0
    assert capsys.readouterr().out.splitlines() == sentences(the_answer(cells))
    assert run("recommend", path, "--budget-nfe", 8, "--json") == 0
    (read,) = json.loads(capsys.readouterr().out)
    assert [b["budget"] for b in read["budgets"]] == [{"limit": 8, "unit": "NFE"}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--budget-nfe", 1], 1, ""),
        (["--budget-nfe", 4, "--budget-s", 1], 2, "give one of them"),
        (["--metric", "clip"], 2, "those that rank: reference_rmse"),
        (["--budget-nfe", 0], 2, "greater than or equal to 1"),
    ],
)
def test_recommend_says_what_it_cannot_do(
    arguments: list[object],
    code: int,
    message: str,
    folder: Callable[[list[StoredCell]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("recommend", folder(run_of(2)), *arguments) == code
    assert message in capsys.readouterr().err


_RATED = st.lists(st.tuples(st.sampled_from([1.0, 1.04, 1.1, 2.0]), st.sampled_from([0.0, 1.0, 2.0])), max_size=12)


@given(_RATED, st.sampled_from([1.0, 1.05]))
def test_the_front_is_what_its_words_say(rated: list[tuple[float, float]], slack: float) -> None:
    def beaten(price: float, good: float) -> bool:
        return any((g > good and c <= slack * price) or (g == good and c < price) for c, g in rated)

    assert undominated(rated, slack) == [not beaten(*one) for one in rated]
