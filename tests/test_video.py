"""Videos: made, kept, shown and measured as images are, frame by frame."""

from __future__ import annotations

import copy
import csv
import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, WanPipeline
from PIL import Image

import schedcmp
from schedcmp.cli import app
from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.joining import join, take_rows
from schedcmp.engine.guarded import checked, seeded
from schedcmp.pictures.image import difference, fingerprint, pixels_sha256
from schedcmp.pictures.video import contact_sheet, encode_webp, frames_of, settings_in
from schedcmp.pipelines.videos import frames_per_second
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.build import mended
from schedcmp.registry.table import builtin_registry
from schedcmp.remake.sweep import made_by, sweep_around
from schedcmp.store.images import read_frames
from schedcmp.store.store import Store
from tools.coverage.families import FAMILIES
from tools.coverage.measure import save

FRAMES = 5


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "wan"
    save(FAMILIES["WanPipeline"], folder)
    return folder


def sweep(wan: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": str(wan), "prompt": "a cat", "schedulers": ["unipc", "flow-heun"], "steps": [2], "seeds": [0, 1],
        "num_frames": FRAMES, "size": "32x32", "call": {"max_sequence_length": 16}, "timing": "off", **more,
    }  # fmt: skip


@pytest.fixture(scope="session")
def made(wan: Path, tmp_path_factory: pytest.TempPathFactory) -> schedcmp.Run:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep(wan)))
    assert run("run", folder / "sweep.yaml", "-o", folder / "out") == 0
    return schedcmp.open(folder / "out")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([*map(str, arguments)])
    return int(ended.value.code or 0)


def noise(count: int, seed: int = 0) -> list[Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 12, 16, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


def written(frames: list[Image.Image], folder: Path) -> Path:
    path = folder / "a.webp"
    path.write_bytes(encode_webp(frames, {"cell": {"id": "ü"}}, "a ü\nSteps: 4", 16))
    return path


def test_frames_come_back_as_they_were_and_the_file_says_how_they_were_made(tmp_path: Path) -> None:
    a, b, c = noise(3)
    flat = Image.new("RGB", (16, 12), "red")
    for frames in ([a, b, c], [a], [a, a, b, c, c], [flat] * 4, [flat, flat, a]):  # equal ones are one in the file
        with Image.open(written(frames, tmp_path)) as picture:
            found = frames_of(picture)
            assert [frame.tobytes() for frame in found] == [frame.tobytes() for frame in frames]
            assert '"id": "ü"' in str(settings_in(picture))
    assert b"Exif" in (tmp_path / "a.webp").read_bytes()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (None, "says not how many"),
        ('{"video": 5}', "says not how many"),
        ('{"video": {"frames": Infinity, "frame_ms": 62}}', "says not how many"),
        ('{"video": {"frames": 100000000000, "frame_ms": 62}}', "more than are read"),
        ('{"video": {"frames": 4, "frame_ms": 62}}', "has not the 4 frames"),
        ('{"video": {"frames": 2, "frame_ms": 62}}', "has not the 2 frames"),
        ("[" * 10**5, "says not how many"),
    ],
)
def test_what_is_not_what_was_written_is_refused(told: str | None, why: str, tmp_path: Path) -> None:
    exif, frames = Image.Exif(), noise(3)
    if told:
        exif[0x010E] = told
    path = tmp_path / "images/ddim/steps-004/seed-0000.webp"
    path.parent.mkdir(parents=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=62, lossless=True, exif=exif)
    with pytest.raises(OSError, match=why):
        read_frames(tmp_path, "images/ddim/steps-004/seed-0000.webp")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(OSError, match=r"decoder|no image"):
        read_frames(tmp_path, "images/ddim/steps-004/seed-0000.webp")


def test_a_contact_sheet_has_frames_from_the_first_to_the_last() -> None:
    frames = noise(10)
    sheet = contact_sheet(frames)
    assert sheet.size == (33, 25)
    places = [(0, 0), (17, 0), (0, 13), (17, 13)]
    shown = [sheet.crop((x, y, x + 16, y + 12)).tobytes() for x, y in places]
    assert shown == [frames[i].tobytes() for i in (0, 3, 6, 9)]
    assert contact_sheet(frames[:1]) is frames[0]


def test_hashes_fingerprints_and_differences_are_of_all_frames() -> None:
    frames, other = noise(4), noise(4, seed=1)
    last = [*frames[:3], other[3]]
    assert pixels_sha256(*frames) != pixels_sha256(*last)
    assert fingerprint(*frames) == fingerprint(*frames) != fingerprint(*last)
    alone = difference(frames[3:], other[3:])
    assert alone
    assert difference(frames, last) == (pytest.approx(alone[0] / 2), alone[1])
    assert difference(frames, frames[:3]) is None


def test_a_video_is_what_diffusers_makes_alone_or_packed(made: schedcmp.Run, wan: Path) -> None:
    pipe = WanPipeline.from_pretrained(wan)
    pipe.set_progress_bar_config(disable=True)
    for stored in made.cells:
        cell, result = stored.cell, stored.result
        if cell.scheduler == "unipc":
            generator = torch.Generator().manual_seed(cell.seed)
            frames = pipe(
                "a cat", num_inference_steps=2, num_frames=FRAMES, width=32, height=32, max_sequence_length=16,
                generator=generator, output_type="pil",
            ).frames[0]  # fmt: skip
            apart = difference(frames, made.frames(stored))
            assert apart is not None
            assert apart[1] <= result.packed
        assert result.nfe == {"unipc": 4, "flow-heun": 6}[cell.scheduler]  # without the prompt is a call of its own
        assert (result.frames, result.fps, stored.image_path[-5:]) == (FRAMES, 16.0, ".webp")
        assert pixels_sha256(*made.frames(stored)) == result.image_sha256
        assert made.image(stored).size == (65, 65)


def test_tables_grids_and_metrics_are_of_frames(made: schedcmp.Run) -> None:
    with (made.folder / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["frames"], row["fps"], row["num_frames"]) for row in rows} == {("5", "16.0", "5")}
    assert all(row["sharpness"] and row["flicker"] for row in rows)
    frames = [np.asarray(frame, float) for frame in made.frames(made.cells[0])]
    expected = np.mean([np.abs(a - b).mean() for a, b in pairwise(frames)])
    assert float(rows[0]["flicker"]) == pytest.approx(expected)
    assert (made.folder / "thumbs").is_dir()
    assert run("report", made.folder) == 0
    assert run("compare", made.folder, made.folder) == 0


def test_a_damaged_video_is_found_and_made_again(made: schedcmp.Run, tmp_path: Path) -> None:
    path = made.folder / str(made.cells[0].image_path)
    before = path.read_bytes()
    assert run("check", made.folder) == 0
    path.write_bytes(encode_webp(noise(FRAMES), {}, "", 16))
    assert run("check", made.folder) == 1
    assert run("run", made.folder / "sweep.yaml", "-o", made.folder) == 0
    frames = read_frames(made.folder, made.cells[0].image_path)
    path.write_bytes(before)
    assert difference(frames, read_frames(made.folder, made.cells[0].image_path))[1] <= 1
    with Store.open(made.folder) as store:
        assert store.count() == 4


def test_a_sweep_is_made_around_a_video(made: schedcmp.Run) -> None:
    text = sweep_around(made_by(made.folder / str(made.cells[0].image_path)), "a.webp")
    found = yaml.safe_load(text)
    assert (found["num_frames"], found["schedulers"][0], found["seeds"]) == (FRAMES, "unipc", [0])


def test_the_program_makes_the_same_video(made: schedcmp.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(
        made.code(made.cells[0]).replace(
            "pipe.scheduler", "pipe.set_progress_bar_config(disable=True); pipe.scheduler", 1
        ),
        names,
    )
    assert difference(names["video"], made.frames(made.cells[0])) == (0, 0) or made.cells[0].result.packed
    assert (tmp_path / "video.webp").is_file()


def test_images_are_no_videos(sd1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"model: {sd1}\nprompt: a\nschedulers: [ddim]\nsteps: [2]\nnum_frames: 9\n")
    assert run("check", path) == 2
    assert "sweep.yaml:5: num_frames: StableDiffusionPipeline takes no num_frames" in capsys.readouterr().err


def test_frames_that_the_pipeline_would_round_are_refused(
    wan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep(wan, num_frames=[5, 8])))
    assert run("check", path) == 2
    assert "num_frames: 8 is not made by WanPipeline with this checkpoint; take 5 or 9" in capsys.readouterr().err


def test_embeddings_for_each_frame_go_with_their_video() -> None:
    """As AnimateDiff repeats them: two rows of three frames, with and without the prompt."""
    calls = [Call("unet", {"sample": torch.full((2, 4, 3, 2, 2), i), "timestep": i, "encoder_hidden_states": torch.full(
        (6, 5, 8), i)}) for i in (1.0, 2.0)]  # fmt: skip
    assert calls[0].signature == calls[1].signature
    joined = join(calls)["encoder_hidden_states"]
    assert joined[:, 0, 0].tolist() == [1.0] * 6 + [2.0] * 6
    second = take_rows(Call("unet", join(calls)), 2, 4)
    assert second.arguments["encoder_hidden_states"][:, 0, 0].tolist() == [2.0] * 3


def test_a_copy_of_a_scheduler_has_steps_of_its_own() -> None:
    scheduler = checked(seeded(FlowMatchEulerDiscreteScheduler(), torch.Generator()))
    other = copy.deepcopy(scheduler)
    for one in (scheduler, other):  # as LTX-2 does, for frames and for sound
        one.set_timesteps(3)
    x = torch.ones(1, 4)
    for t in scheduler.timesteps:
        a, b = (one.step(-x, t, x, return_dict=False)[0] for one in (scheduler, other))
        assert torch.equal(a, b)
    assert (scheduler.step_index, other.step_index) == (3, 3)


@pytest.mark.parametrize(
    ("pipeline", "own", "scheduler", "why"),
    [
        ("WanPipeline", FlowMatchEulerDiscreteScheduler(), "dpm-adaptive", "computes with all timesteps beforehand"),
        ("LTX2Pipeline", FlowMatchEulerDiscreteScheduler(), "dpm-adaptive", "computes with all timesteps beforehand"),
        (
            "LTX2Pipeline",
            FlowMatchEulerDiscreteScheduler(),
            "euler-cfgpp",
            "with and without the prompt from one batch",
        ),
        ("TextToVideoSDPipeline", DDIMScheduler(), "res-2s", "whose shape TextToVideoSDPipeline changes"),
        ("AnimateDiffPipeline", DDIMScheduler(), "res-2s", ""),
    ],
)
def test_who_cannot_steer_a_video_is_told_so(pipeline: str, own: Any, scheduler: str, why: str) -> None:
    config = mended({**own.config, "_class_name": type(own).__name__}, pipeline)
    status, told = Appraisal(config).judge(builtin_registry().entry(scheduler))
    assert (status == "ok") is not bool(why)
    assert why in told


def test_how_fast_videos_are_played() -> None:
    assert frames_per_second("WanPipeline", {}) == 16
    assert (frames_per_second("LTXPipeline", {}), frames_per_second("LTXPipeline", {"frame_rate": 30})) == (25, 30)
    assert frames_per_second("AnimateDiffPipeline", {}) == 8


def test_a_method_that_is_another_object_s_keeps_its_signature() -> None:
    inner, outer = FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler()
    outer.step = inner.step
    inner.set_timesteps(2)
    before = inspect.signature(inner.step)
    checked(seeded(outer, torch.Generator()))
    assert inspect.signature(outer.step) == before
    assert outer.step(torch.ones(1, 4), inner.timesteps[0], torch.ones(1, 4)).prev_sample.shape == (1, 4)
    assert inner.step_index == 1
