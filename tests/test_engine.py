from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from asked import load as load_sweep
from diffusers import StableDiffusionPipeline
from PIL import Image

from schedcmp.engine.clock import RunDelay
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.pictures.image import pixels_sha256
from schedcmp.prepare import prepare_sweep
from schedcmp.records import Cell
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry

REGISTRY = builtin_registry()
NEVER_RUN = {"flow-euler", "flow-heun"}  # on a checkpoint whose noise is set by betas the pipeline cannot call them


@pytest.fixture(scope="module")
def recipes(config: dict[str, Any]) -> dict[str, Recipe]:
    entries = [e for e in REGISTRY.entries.values() if e.name not in NEVER_RUN]
    entries += [REGISTRY.entry(n) for n in ("euler-karras", "heun-exponential", "deis-beta", "unipc-trailing")]
    return {e.name: resolve(e, config) for e in entries}


@pytest.fixture(scope="module")
def theirs(sd1: Path) -> Any:
    found = StableDiffusionPipeline.from_pretrained(sd1)
    found.set_progress_bar_config(disable=True)
    return found


def cell(scheduler: str, **changes: Any) -> Cell:
    plain = Cell("id", 0, scheduler, scheduler, "default", 4, 8, "p", "a b", "", 3.0, None, None)
    return replace(plain, **changes)


def engine(pipeline: Any, recipes: dict[str, Recipe], **measuring: Any) -> SoloEngine:
    return SoloEngine(Workbench(pipeline, recipes), Measuring(**measuring))


def diffusers_image(pipeline: Any, name: str, c: Cell) -> bytes:
    """What a careful user of diffusers writes: from the pristine config, with the documented options."""
    entry = REGISTRY.entry(name)
    options = {**entry.unless, **entry.options, **entry.sigmas.where_taken, **entry.sigmas.options}
    if entry.seed:
        options[entry.seed] = c.seed
    pristine = pipeline.scheduler
    pipeline.scheduler = getattr(diffusers, entry.class_name).from_config(pristine.config, **options)
    try:
        image = pipeline(
            c.prompt, negative_prompt=c.negative_prompt or None, num_inference_steps=c.steps,
            guidance_scale=c.guidance_scale, generator=torch.Generator().manual_seed(c.seed),
        ).images[0]  # fmt: skip
    finally:
        pipeline.scheduler = pristine
    return bytes(image.tobytes())


def names() -> list[str]:
    theirs = [n for n, entry in REGISTRY.entries.items() if "." not in entry.cls]  # diffusers has no sampler functions
    by_function = "ipndm"  # on betas, where diffusers' class has a noise schedule of its own
    return [n for n in theirs if n not in (*NEVER_RUN, by_function)] + [
        "euler-karras", "heun-exponential", "deis-beta", "unipc-trailing",
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [3, 10])
@pytest.mark.parametrize("name", names())
def test_an_image_equals_diffusers_own_bit_for_bit(
    name: str, steps: int, pipeline: Any, theirs: Any, recipes: dict[str, Recipe]
) -> None:
    c = cell(name, steps=steps)
    (result,) = engine(pipeline, recipes, warmup=0).run([c])
    assert result.error is None or "flat" in result.error  # random weights may well make a flat image
    assert result.image.tobytes() == diffusers_image(theirs, name, c)


def test_pitfall_15_the_image_of_a_cell_does_not_depend_on_the_cells_before_it(
    pipeline: Any, recipes: dict[str, Recipe]
) -> None:
    order = ["dpmpp-2s", "pndm", "dpmpp-sde", "heun", "euler-a", "dpmpp-2s", "lms"]
    cells = [cell(n, id=f"{i}", seed=i % 2) for i, n in enumerate(order)]
    together = {r.cell.id: r.image_sha256 for r in engine(pipeline, recipes).run(cells)}
    for c in cells:
        (alone,) = engine(pipeline, recipes, warmup=0).run([c])
        assert together[c.id] == alone.image_sha256


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["ddim", "pndm", "heun", "kdpm2-a", "dpmpp-sde"])
def test_evaluations_are_counted_as_foretold(name: str, guidance: float, pipeline: Any, recipes: Any) -> None:
    calls = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    (result,) = engine(pipeline, recipes, timed=False).run([cell(name, steps=7, guidance_scale=guidance)])
    hook.remove()
    assert result.nfe == len(calls) == len(result.timesteps) == {"N": 7, "N+1": 8, "2N-1": 13}[REGISTRY.entry(name).nfe]


def test_times_are_measured_and_add_up(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    (result,) = engine(pipeline, recipes, repeats=3).run([cell("heun", steps=5)])
    assert len(result.timings) == 3
    for t in result.timings:
        parts = t.text_s + t.denoiser_s + t.scheduler_s + t.vae_s
        assert min(t.text_s, t.denoiser_s, t.scheduler_s, t.vae_s) > 0
        assert parts < t.latency_s
        assert len(t.step_s) == result.nfe == 9
        assert sum(t.step_s) < t.latency_s
    assert result.peak_memory_bytes is None or result.peak_memory_bytes > 10**6


def test_a_slow_part_is_seen_where_it_is(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    import time

    hook = pipeline.unet.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    slow = pipeline.unet.register_forward_hook(lambda *_: time.sleep(0.05))
    (result,) = engine(pipeline, recipes).run([cell("ddim", steps=4)])
    hook.remove()
    slow.remove()
    timing = result.timings[0]
    assert sum(timing.step_s) >= 0.35  # four evaluations; the last step ends before the second sleep
    assert timing.text_s + timing.vae_s + timing.scheduler_s < sum(timing.step_s) / 2


def test_warm_up_runs_before_the_first_measurement_only(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    calls = []
    hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    cells = [cell("ddim", id=str(i), seed=i, steps=4) for i in range(2)]
    list(engine(pipeline, recipes, warmup=2).run(cells))
    hook.remove()
    assert len(calls) == 2 * 2 + 4 + 4


def test_nothing_of_the_watching_stays_behind(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    list(engine(pipeline, recipes).run([cell("ddim")]))
    assert "decode" not in vars(pipeline.vae)
    assert not pipeline.unet._forward_hooks
    assert not pipeline.text_encoder._forward_pre_hooks
    assert isinstance(pipeline.scheduler, diffusers.PNDMScheduler)


def test_a_cell_that_raises_fails_alone(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    cells = [cell("ddim", id="0"), cell("ddim", id="1", width=12, height=12), cell("ddim", id="2")]
    results = {r.cell.id: r for r in engine(pipeline, recipes).run(cells)}
    assert [results[i].status == "failed" for i in "012"] == [False, True, False]
    assert "divisible by 8" in str(results["1"].error)
    assert results["1"].image is None
    assert results["0"].image_sha256 == results["2"].image_sha256


def test_pitfall_21_latents_that_are_not_finite_flag_the_cell(pipeline: Any, recipes: dict[str, Recipe]) -> None:
    hook = pipeline.unet.register_forward_hook(lambda _m, _a, out: (out[0] * float("nan"),))
    (result,) = engine(pipeline, recipes).run([cell("ddim")])
    hook.remove()
    assert (result.status, result.image is not None) == ("flagged", True)
    assert "not finite" in str(result.error)


def test_pitfall_21_a_flat_image_flags_the_cell(
    pipeline: Any, recipes: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = pipeline.vae.decode
    monkeypatch.setitem(vars(pipeline.vae), "decode", lambda z, **kw: (decode(z, **kw)[0] * 0,))
    (result,) = engine(pipeline, recipes).run([cell("ddim")])
    assert result.status == "flagged"
    assert "flat" in str(result.error)


def test_cells_run_seed_by_seed_so_that_drift_hits_all_schedulers_alike(
    pipeline: Any, write_sweep: Callable[..., Path]
) -> None:
    prepared = prepare_sweep(*load_sweep(write_sweep()))
    bench = Workbench(pipeline, prepared.recipes)
    order = [r.cell.seed for r in SoloEngine(bench, Measuring(timed=False)).run(prepared.plan.cells)]
    assert order == [0] * 6 + [1] * 6


def test_repeats_are_made_in_turns_that_begin_with_another_scheduler_each(
    pipeline: Any, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, order = prepare_sweep(*load_sweep(write_sweep(seeds=0, steps=[2]))), []
    call = SoloEngine._call

    def noted(self: SoloEngine, cell: Cell) -> Any:
        order.append(cell.scheduler)
        return call(self, cell)

    monkeypatch.setattr(SoloEngine, "_call", noted)
    measuring = Measuring(repeats=3, warmup=0)
    results = list(SoloEngine(Workbench(pipeline, prepared.recipes), measuring).run(prepared.plan.cells))
    assert order == ["ddim", "euler-a", "heun", "euler-a", "heun", "ddim", "heun", "ddim", "euler-a"]
    assert [r.cell.scheduler for r in results] == ["heun", "ddim", "euler-a"]
    turns = {tuple(t.turn for t in r.timings) for r in results}
    assert len(turns) == 1
    assert len({*turns.pop()}) == 3


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell")
def test_waiting_for_a_processor_is_seen() -> None:
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    before = os.sched_getaffinity(0)
    processor = min(before)
    try:
        for process in (0, other.pid):
            os.sched_setaffinity(process, {processor})
        delay, end = RunDelay(), time.perf_counter() + 1
        while time.perf_counter() < end:
            pass
        waited = delay.seconds()
    finally:
        os.sched_setaffinity(0, before)
        other.kill()
        other.wait()
    assert waited is not None
    assert 0.05 < waited < 1.1


def test_what_diffusers_changes_is_said_before_the_run_and_written_down_as_it_ran(
    pipeline: Any, config: dict[str, Any]
) -> None:
    asked = {
        "name": "asked",
        "base": "dpmpp-2s",
        "options": {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    }
    entry = REGISTRY.with_rows([asked], "sweep").entry("asked")
    recipe = resolve(entry, config)
    said = "DPMSolverSinglestepScheduler turns lower_order_final from False into True by itself"
    assert said in preflight(recipe, 5).remarks
    assert said not in preflight(recipe, 4).remarks
    rho = {"name": "rho", "base": "dpmpp-2m", "options": {"solver_type": "logrho"}}  # which its constructor changes
    remarks = preflight(resolve(REGISTRY.with_rows([rho], "sweep").entry("rho"), config), 5).remarks
    assert "DPMSolverMultistepScheduler turns solver_type from 'logrho' into 'midpoint' by itself" in remarks
    assert preflight(resolve(REGISTRY.entry("dpmpp-2s"), config), 5).remarks == ()
    bench = Workbench(pipeline, {"asked": recipe})
    cells = [replace(cell("asked"), id=str(n), steps=n) for n in (4, 5)]
    for results in (SoloEngine(bench).run(cells), PackedEngine(bench, lambda c: c.steps).run(cells)):
        ran = {r.cell.steps: r.scheduler_config for r in results}
        assert {n: made["lower_order_final"] for n, made in ran.items()} == {4: False, 5: True}
        assert ran[4]["_class_name"] == "DPMSolverSinglestepScheduler"


def test_hashes_are_of_the_pixels() -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert pixels_sha256(red) == pixels_sha256(red.copy()) != pixels_sha256(blue)
    assert pixels_sha256(red) != pixels_sha256(Image.new("RGB", (2, 8), "red"))


def test_judged_wrong_is_about_the_mathematics_not_about_running(config: dict[str, Any]) -> None:
    assert judge(REGISTRY.entry("edm-euler"), config)[0] == "wrong"
