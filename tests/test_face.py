"""schedcmp from Python: light, the same cells as the command line's, and the caller's pipeline used as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

import schedcmp
from schedcmp.checkpoint.given import given
from schedcmp.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::schedcmp.SchedcmpWarning")
Write = Callable[..., Path]
SWEEP: dict[str, Any] = {
    "prompt": "a b", "guidance_scale": 3, "schedulers": ["ddim", EulerDiscreteScheduler], "steps": (2, 3),
    "seeds": range(2), "metrics": "off", "timing": "off",
}  # fmt: skip


@pytest.fixture
def pipe(sd1: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(sd1)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pixels(run: schedcmp.Run) -> dict[tuple[str, int, int], str | None]:
    return {(c.cell.scheduler, c.cell.steps, c.cell.seed): c.result.image_sha256 for c in run.cells}


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "diffusers", "pydantic", "PIL", "yaml")
    code = f"import schedcmp, sys; print([m for m in {heavy!r} if m in sys.modules], 'run' in dir(schedcmp))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[] True\n"
    )


def test_a_file_a_mapping_and_keywords_are_one_sweep(write_sweep: Write, sd1: Path) -> None:
    by_file = schedcmp.run(write_sweep(timing="off"), output="file", schedulers=SWEEP["schedulers"], progress=False)
    by_mapping = schedcmp.run({**SWEEP, "model": sd1}, output="mapping", progress=False)
    assert len(by_file.cells) == 8
    assert pixels(by_file) == pixels(by_mapping)
    assert (Path("mapping") / "report.html").is_file()


def test_a_given_pipeline_makes_what_its_folder_makes_and_stays_as_it_was(
    pipe: StableDiffusionPipeline, sd1: Path
) -> None:
    pipe.unet.train()
    before = pipe.scheduler
    mine = schedcmp.run(pipeline=pipe, **SWEEP, engine="solo", progress=False)
    assert mine.folder == Path("outputs/run")
    assert pipe.scheduler is before
    assert pipe.unet.training
    assert not pipe.vae.training
    assert not hasattr(pipe, "_progress_bar_config")
    assert pixels(mine) == pixels(schedcmp.run(SWEEP, model=sd1, engine="solo", output="folder", progress=False))


def test_another_weight_is_another_pipeline(pipe: StableDiffusionPipeline) -> None:
    before = given(pipe).fingerprint
    assert given(pipe).fingerprint == before
    with torch.no_grad():
        next(pipe.unet.parameters()).view(-1)[0] += 1e-3
    assert given(pipe).fingerprint != before
    first = schedcmp.run(SWEEP, pipeline=pipe, seeds=0, progress=False)
    with torch.no_grad():
        next(pipe.unet.parameters()).mul_(1.5)
    second = schedcmp.run(SWEEP, pipeline=pipe, seeds=0, progress=False)
    assert not set(pixels(first).values()) & set(pixels(second).values())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"stepz": 3}, r"schedcmp.run\(\): unknown key 'stepz'; did you mean 'steps'"),
        ({"schedulers": ["eulr"]}, r"schedcmp.run\(\).*unknown scheduler 'eulr'; did you mean euler"),
        ({"device": "cpu"}, "device: the given pipeline has its own"),
        ({"steps": 0}, r"schedcmp.run\(\): steps.*greater than 0"),
    ],
)
def test_a_wrong_request_is_told_in_the_words_of_the_command_line(
    pipe: StableDiffusionPipeline, keys: dict[str, Any], told: str
) -> None:
    with pytest.raises(schedcmp.RequestError, match=told):
        schedcmp.run(pipeline=pipe, **{**SWEEP, **keys})
    assert not Path("outputs").exists()


def test_what_is_no_pipeline_and_what_was_one_are_refused(write_sweep: Write, pipe: StableDiffusionPipeline) -> None:
    with pytest.raises(schedcmp.RequestError, match="expected one of diffusers' pipelines, got str"):
        schedcmp.run(pipeline="x", **SWEEP)
    done = schedcmp.run(SWEEP, pipeline=pipe, seeds=0, progress=False)
    with pytest.raises(schedcmp.RequestError, match="was handed over by a Python program"):
        schedcmp.run(done.folder / "sweep.yaml")


def test_what_a_run_tells(sd1: Path) -> None:
    made = schedcmp.run(SWEEP, model=sd1, timing={"mode": "solo"}, progress=False)
    run = schedcmp.open(made.folder)
    rows = run.to_dicts()
    assert [row["scheduler"] for row in rows[:1]] == ["ddim"]
    assert len(rows) == len(run.cells) == 8
    assert {row.scheduler for row in run.timings} == {"ddim", "EulerDiscreteScheduler"} or len(run.timings) == 4
    assert run.answer
    assert run.recommend(budget_nfe=2)[0].cheapest[0].nfe == 2
    with pytest.raises(schedcmp.RequestError, match="give one of them"):
        run.recommend(budget_nfe=2, budget_s=1)
    assert run.image(run.cells[0]).size == run.image(run.cells[0].cell).size


def test_grids_are_those_of_the_folder_and_others(sd1: Path) -> None:
    run = schedcmp.run(SWEEP, model=sd1, progress=False)
    assert len(run.grids()) == 2  # one per seed
    assert np.array_equal(np.asarray(run.grid(seed=0)), np.asarray(run.grids()[0]))
    assert len(run.grids(rows="seed", cols=["scheduler", "steps"])) == 1
    with pytest.raises(schedcmp.RequestError, match="cells have no 'colour'"):
        run.grid(colour=1)
    with pytest.raises(schedcmp.RequestError, match="no finished image has seed 7"):
        run.grid(seed=7)


def test_a_notebook_shows_grid_and_answer(sd1: Path) -> None:
    run = schedcmp.run(SWEEP, model=sd1, output="a<b", progress=False)
    shown = run._repr_html_()
    assert "data:image/png;base64," in shown
    assert "<code>a&lt;b</code>" in shown


def test_warnings_say_what_to_know(sd1: Path) -> None:
    with pytest.warns(schedcmp.SchedcmpWarning, match="unsupported: "):
        run = schedcmp.run(SWEEP, model=sd1, sigmas="turbo", steps=[2, 12], progress=False)
    assert run.troubled == ()


def test_what_works_with_a_pipeline(pipe: StableDiffusionPipeline) -> None:
    known = schedcmp.schedulers(pipe)
    assert known == schedcmp.schedulers(pipe.scheduler.config) or known["euler"].status == "ok"
    assert known["flow-euler"].status == "wrong"
    assert known["flow-euler"].reason
    assert schedcmp.schedulers("builtin:tiny")["ddim"].status == "ok"


def test_what_diffusers_says_to_itself_is_not_printed(
    pipe: StableDiffusionPipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_warning()
    schedcmp.schedulers(pipe)
    schedcmp.build("dpmpp-2m", pipe, options={"lower_order_final": False, "final_sigmas_type": "zero"})
    assert capfd.readouterr() == ("", "")
    assert diffusers.utils.logging.get_verbosity() == diffusers.utils.logging.WARNING
    diffusers.utils.logging.set_verbosity(verbosity)


def test_a_built_scheduler_is_ready_to_assign(pipe: StableDiffusionPipeline) -> None:
    scheduler = schedcmp.build("DPM++ 2M Karras", pipe)
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    assert scheduler.config.use_karras_sigmas
    pipe.scheduler = scheduler
    image = pipe("a b", num_inference_steps=3, guidance_scale=3, generator=torch.Generator().manual_seed(0))
    made = schedcmp.run(
        SWEEP, pipeline=pipe, schedulers="dpmpp-2m-karras", steps=3, seeds=0, engine="solo", progress=False
    )
    assert np.array_equal(np.asarray(image.images[0]), np.asarray(made.image(made.cells[0])))
    with pytest.raises(schedcmp.RequestError, match="expected a diffusers pipeline"):
        schedcmp.build("euler", 3)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_notebooks_run(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert any(cell.get("outputs") for cell in cells)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_ends_early_leaves_the_pipeline_and_torch_as_they_were(
    pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """While a traceback is looked at, which notebooks keep, so are the frames that the error went through."""

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Store, "add", full)
    with pytest.raises((OSError, schedcmp.SchedcmpError, KeyboardInterrupt)) as ended:
        schedcmp.run(
            pipeline=pipe, schedulers=["ddim", "heun"], steps=[2, 3], prompt="a", metrics="off", timing="off",
            progress=False,
        )  # fmt: skip
    assert torch.is_grad_enabled(), ended
    assert not {"forward", "decode"} & (vars(pipe.unet).keys() | vars(pipe.vae).keys() | vars(pipe.text_encoder).keys())
