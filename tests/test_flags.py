"""Images that cannot be trusted are flagged with their cause and what mends it, and count in no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from test_run import run
from transformers import CLIPConfig, CLIPImageProcessor

from schedcmp.records import StoredCell
from schedcmp.report.answer import answer
from schedcmp.report.page.data import page_data
from schedcmp.report.words.sentences import sentences
from schedcmp.store.store import Store

pytestmark = pytest.mark.usefixtures("coarse_references")
Write = Callable[..., Path]


class NaNScheduler(EulerDiscreteScheduler):
    def step(self, *args: object, **kwargs: object) -> object:
        out = super().step(*args, **kwargs)  # type: ignore[arg-type]
        return (out[0] * float("nan"), *out[1:])


class HalfScheduler(EulerDiscreteScheduler):
    def step(self, *args: object, **kwargs: object) -> object:
        out = super().step(*args, **kwargs)  # type: ignore[arg-type]
        return (out[0][..., : out[0].shape[-1] // 2], *out[1:])


def cells(out: Path) -> list[StoredCell]:
    with Store.open(out) as store:
        return list(store.cells())


def reasons(out: Path) -> set[str | None]:
    return {c.result.error for c in cells(out)}


def scaled(sd1: Path, folder: Path, weights: str, names: tuple[str, ...], factor: float) -> Path:
    """The checkpoint with some weights times a factor, which a norm behind them takes back."""
    copytree(sd1, folder)
    path = folder / weights / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({name: w * factor if name in names else w for name, w in state.items()}, path)
    return folder


@pytest.fixture
def overflowing_vae(sd1: Path, tmp_path: Path) -> Path:
    return scaled(sd1, tmp_path / "vae", "vae", ("decoder.conv_in.weight", "decoder.conv_in.bias"), 1e6)


@pytest.fixture
def strict(sd1: Path, tmp_path: Path) -> Path:
    """A checkpoint whose safety checker finds all images unsafe."""
    folder = copytree(sd1, tmp_path / "strict")
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)  # noqa: C408
    config = CLIPConfig(vision_config=vision | {"image_size": 32, "patch_size": 16}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0)
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor(size=32, crop_size=32).save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("engine", ["packed", "solo"])
def test_a_vae_that_overflows_in_fp16_is_told_and_the_key_that_it_names_mends_it(
    engine: str, overflowing_vae: Path, write_sweep: Write, tmp_path: Path
) -> None:
    sweep = write_sweep(model=str(overflowing_vae), schedulers=["euler"], steps=2, dtype="fp16", engine=engine)
    out = tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    assert {c.result.status for c in cells(out)} == {"flagged"}
    (reason,) = reasons(out)
    assert reason is not None
    assert "the VAE made pixels that are not finite in float16" in reason
    assert "`vae_dtype: fp32`" in reason
    flagged = {c.cell.id: c.result.image_sha256 for c in cells(out)}
    assert run("run", sweep, "-o", out, "--set", "vae_dtype=fp32") == 0
    assert {c.result.status for c in cells(out)} == {"ok"}
    assert not {c.result.image_sha256 for c in cells(out)} & {*flagged.values()}


def test_a_vae_dtype_that_is_the_others_too_makes_no_other_images(write_sweep: Write, tmp_path: Path) -> None:
    sweep, out = write_sweep(schedulers=["euler"], steps=2, timing="off"), tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    made = [(out / str(c.image_path)).stat().st_mtime_ns for c in cells(out)]
    assert run("run", sweep, "-o", out, "--set", "vae_dtype=fp32") == 0
    assert [(out / str(c.image_path)).stat().st_mtime_ns for c in cells(out)] == made


def test_a_denoiser_that_overflows_in_fp16_is_told_and_the_dtype_that_is_named_mends_it(
    sd1: Path, write_sweep: Write, tmp_path: Path
) -> None:
    model = scaled(sd1, tmp_path / "unet", "unet", ("conv_in.weight", "conv_in.bias"), 1e6)
    sweep = write_sweep(model=str(model), schedulers=["euler"], steps=2, seeds=0, dtype="fp16", timing="off")
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    (reason,) = reasons(tmp_path / "out")
    assert reason is not None
    assert "the latents are not finite (NaN or infinite) in float16" in reason
    assert "`dtype: bf16`" in reason
    assert run("run", sweep, "-o", tmp_path / "mended", "--dtype", "bf16") == 0
    assert reasons(tmp_path / "mended") == {None}


def test_the_safety_checker_is_left_out_where_the_sweep_says_so(
    strict: Path, write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, out = write_sweep(model=str(strict), schedulers=["euler", "ddim"], steps=2, seeds=0), tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    assert reasons(out) == {"the checkpoint's safety checker blanked the image; `safety_checker: false` leaves it out"}
    assert "There is no answer: no image counts." in capsys.readouterr().out
    assert run("recommend", out) == 1
    capsys.readouterr()
    assert run("run", sweep, "-o", out, "--set", "safety_checker=false") == 0
    assert reasons(out) == {None}
    assert "safety checker" not in capsys.readouterr().err
    assert run("run", sweep, "-o", out, "--set", "safety_checker=true") == 0
    assert {c.result.status for c in cells(out)} == {"flagged"}


def test_pickled_weights_of_a_safety_checker_alone_can_be_left_out(
    strict: Path, write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strict / "safety_checker" / "model.safetensors").rename(strict / "safety_checker" / "pytorch_model.bin")
    sweep = write_sweep(model=str(strict), schedulers=["euler"], steps=2, seeds=0, timing="off")
    assert run("run", sweep, "-o", tmp_path / "out") == 2
    assert "leave it out: `safety_checker: false`" in capsys.readouterr().err
    assert run("run", sweep, "-o", tmp_path / "out", "--set", "safety_checker=false") == 0
    assert reasons(tmp_path / "out") == {None}


def test_a_step_that_changes_the_latents_shape_fails_with_its_reason(write_sweep: Write, tmp_path: Path) -> None:
    half = {"name": "half", "class": "test_flags.HalfScheduler"}
    sweep = write_sweep(schedulers=["euler", half], steps=2, seeds=0)
    assert run("run", sweep, "-o", tmp_path / "out") == 1
    (reason,) = reasons(tmp_path / "out") - {None}
    assert reason is not None
    assert "HalfScheduler.step returned (1, 4, 8, 4) for latents of shape (1, 4, 8, 8)" in reason


@pytest.mark.parametrize("metrics", ["off", "reference"])
def test_what_is_flagged_is_nowhere_in_an_answer_a_rank_or_a_plot(
    metrics: str, write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"name": "broken", "class": "test_flags.NaNScheduler"}
    sweep = write_sweep(schedulers=["heun", broken], steps=[2, 3], metrics=metrics, timing={"seeds": 2})
    out = tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    assert "broken" not in capsys.readouterr().out.partition("images ")[0].rpartition("\n\n")[2].splitlines()[-1]
    with Store.open(out) as store:
        found, references = list(store.cells()), list(store.references().values())
        (told,) = answer(found, references)
        page = page_data(store, found, {}, {}, [told], running=False)
    assert {p.scheduler for p in (*told.cheapest, *told.measured, *told.front)} == {"heun"}
    assert [s for s in sentences(told) if "broken" in s] == [
        s for s in sentences(told) if s.startswith("Left out, flag")
    ]
    assert "broken" not in (out / "timings.csv").read_text()
    schedulers = {stored.cell.id: stored.cell.scheduler for stored in found}
    assert "broken" not in {schedulers[page["cells"][point["cell"]]["id"]] for point in page["points"]}
    assert not any(c["metrics"] or c["inert"] for c in page["cells"] if c["status"] == "flagged")


def test_an_image_that_turns_flagged_is_a_change_and_one_that_stays_so_is_none(
    strict: Path, write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(model=str(strict), schedulers=["euler"], steps=2, seeds=0, timing="off")
    assert run("run", sweep, "-o", tmp_path / "black") == 0
    assert run("run", sweep, "-o", tmp_path / "good", "--set", "safety_checker=false") == 0
    capsys.readouterr()
    assert run("compare", tmp_path / "good", tmp_path / "black") == 1
    assert "1 failed" in capsys.readouterr().out
    assert run("compare", tmp_path / "black", tmp_path / "good") == 0
    assert "1 mended" in capsys.readouterr().out
    assert run("compare", tmp_path / "black", tmp_path / "black") == 0
    assert "1 missing" in capsys.readouterr().out


class ChangingScheduler(EulerDiscreteScheduler):
    def step(self, *args: object, **kwargs: object) -> object:
        self.register_to_config(timestep_spacing="linspace")
        return super().step(*args, **kwargs)  # type: ignore[arg-type]


def test_an_option_that_a_scheduler_changes_while_it_runs_is_said_afterwards(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changing = {"name": "moody", "class": "test_flags.ChangingScheduler", "options": {"timestep_spacing": "trailing"}}
    sweep = write_sweep(schedulers=["euler", "dpmpp-sde", changing], steps=[2, 3], seeds="0..1", timing="off")
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    said = "moody turned timestep_spacing from 'trailing' into 'linspace' while it ran (at 2, 3 steps)"
    assert said in capsys.readouterr().err
    text = (tmp_path / "out/answer.md").read_text()
    assert f"- {said}." in text
    assert text.count("while it ran") == 1
    assert {c.result.scheduler_config["timestep_spacing"] for c in cells(tmp_path / "out")} == {"leading", "linspace"}


class FickleScheduler(EulerDiscreteScheduler):
    """Right for some seeds."""

    def step(self, output: torch.Tensor, timestep: object, sample: torch.Tensor, **kwargs: object) -> object:
        out = super().step(output, timestep, sample, **kwargs)
        return (out[0] * float("nan"), *out[1:]) if sample.flatten()[0] > 0 else out


def test_what_is_recommended_is_what_is_pasted(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some of the first scheduler's images are sound, and it is no answer for them."""
    fickle = {"name": "fickle", "class": "test_flags.FickleScheduler"}
    sweep, out = write_sweep(schedulers=[fickle, "heun"], steps=[2], seeds="0..5"), tmp_path / "out"
    run("run", sweep, "-o", out)
    assert {c.result.status for c in cells(out) if c.cell.scheduler == "fickle"} == {"ok", "flagged"}
    capsys.readouterr()
    assert run("recommend", out, "--as", "diffusers") == 0
    assert "HeunDiscreteScheduler" in capsys.readouterr().out
