from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from forks import started
from PIL import Image, ImageChops

from schedcmp.cli import app
from schedcmp.pictures.image import pixels_sha256
from schedcmp.records import Timing
from schedcmp.store.store import Store

Write = Callable[..., Path]


def schedcmp(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "schedcmp", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd, env=os.environ | environment,
    )  # fmt: skip


def run(*arguments: object) -> int:
    """The command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        app([*map(str, arguments)])
    return int(ended.value.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fingerprints(folder: Path) -> dict[str, str | None]:
    with Store.open(folder) as store:
        return {c.cell.id: c.result.image_sha256 for c in store.cells()}


def test_a_run_makes_all_it_promises(write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("run", write_sweep(prompt={"a": "a b", "猫": "b"}), "-o", f"{out}/") == 0
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "grids" not in p.parts}
    assert {"sweep.yaml", "run.sqlite", "results.csv", "timings.csv", "timings.md", "timings.json"} <= names
    assert "images/a/euler-a/steps-003/seed-0001.png" in names
    assert len(list((out / "grids").glob("*.png"))) == 4
    results, timings = rows(out / "results.csv"), rows(out / "timings.csv")
    assert len(results) == 24
    assert [r["scheduler"] for r in results[:12:4]] == ["ddim", "euler-a", "heun"]
    assert all((out / r["image"]).is_file() and r["status"] in ("ok", "flagged") for r in results)
    assert [(t["scheduler"], t["steps"], t["nfe"], t["n"]) for t in timings][-1] == ("heun", "3", "5", "2")
    assert min(float(t["relative"]) for t in timings) == 1.0
    shown = capsys.readouterr().out
    assert "heun" in shown
    assert str(out / "run.sqlite") in shown


def test_the_written_sweep_repeats_the_run(write_sweep: Write, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert run("run", write_sweep(), "-o", first) == 0
    assert run("run", first / "sweep.yaml", "-o", again) == 0
    assert fingerprints(first) == fingerprints(again)


def test_images_say_how_they_were_made(write_sweep: Write, tmp_path: Path) -> None:
    sweep = write_sweep(schedulers=["DPM++ 2M Karras"], negative_prompt="b, ugly", prompt="猫 a")
    run("run", sweep, "-o", tmp_path / "out", "--set", "steps=3", "--set", "seeds=7")
    with Image.open(tmp_path / "out/images/dpmpp-2m-karras/steps-003/seed-0007.png") as image:
        settings, parameters = json.loads(image.text["schedcmp"]), image.text["parameters"]
    assert settings["cell"]["prompt"] == "猫 a"
    assert settings["scheduler_config"]["use_karras_sigmas"] is True
    assert len(settings["timesteps"]) == settings["nfe"] == 3
    assert parameters.startswith("猫 a\nNegative prompt: b, ugly\nSteps: 3, Sampler: ")
    assert ", Schedule type: Karras, CFG scale: 3, Seed: 7, Size: 16x16, " in parameters


def test_a_second_run_makes_nothing_twice_and_a_changed_one_only_what_is_new(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("run", write_sweep(), "-o", out)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("seed-*.png")}
    run("run", write_sweep(), "-o", out)
    run("run", write_sweep(steps=[2, 3, 4]), "-o", out)
    assert "12 cells are there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert len(rows(out / "results.csv")) == 18
    run("run", write_sweep(), "-o", out, "--fresh")
    assert not {p.stat().st_mtime_ns for p in out.rglob("seed-*.png")} & set(times.values())


def test_another_dtype_or_checkpoint_is_not_mistaken_for_the_same(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("run", write_sweep(), "-o", out)
    before = fingerprints(out)
    run("run", write_sweep(), "-o", out, "--dtype", "bf16")
    assert fingerprints(out).keys() == before.keys()
    assert fingerprints(out) != before


def killed_run(sweep: Path, out: Path | str, stop: signal.Signals, images: int, seen: Path | None = None) -> int:
    """Start a run, wait until it has made some images, stop it with a signal; returns how it ended."""
    seen = seen or Path(out)
    process = started("run", sweep, "-o", out)
    deadline = time.monotonic() + 120
    while len(list(seen.glob("images/**/seed-*.png"))) < images and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(process.pid or 0), stop)
    process.join(60)
    return int(process.exitcode or 0)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    stop: signal.Signals, code: int, write_sweep: Write, tmp_path: Path
) -> None:
    sweep, out, whole = write_sweep(seeds="0..7", engine="solo"), tmp_path / "out", tmp_path / "whole"
    assert killed_run(sweep, out, stop, images=7) == code
    with Store.open(out) as store:
        done = {c.cell.id: c.result.image_sha256 for c in store.cells()}
    assert 5 <= len(done) < 48
    assert run("run", sweep, "-o", out) == 0
    assert run("run", sweep, "-o", whole) == 0
    assert fingerprints(out) == fingerprints(whole)
    assert done.items() <= fingerprints(out).items()
    assert not list(out.rglob("*.part"))


def test_a_failed_cell_is_reported_and_the_others_go_on(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import HeunDiscreteScheduler

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(HeunDiscreteScheduler, "step", broken)
        assert run("run", write_sweep(), "-o", out) == 1
    assert "failed: heun, 2 steps, seed 0: ZeroDivisionError: planted" in capsys.readouterr().err
    status = [r["status"] for r in rows(out / "results.csv") if r["scheduler"] == "heun"]
    assert status == ["failed"] * 4
    assert run("run", write_sweep(), "-o", out) == 0  # what failed is tried again


def test_reports_are_made_from_the_store_alone(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("run", write_sweep(), "-o", out)
    made = {*out.glob("grids/*"), *out.glob("*.csv"), *out.glob("timings.*")}
    before = {p: p.read_bytes() for p in made}
    for p in made:
        p.unlink()
    code = "import sys; sys.modules['torch'] = sys.modules['diffusers'] = None; from schedcmp.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "report", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in made} == before


def test_check_and_dry_run_write_nothing(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = write_sweep()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run("check", sweep) == run("run", sweep, "--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr().out
    assert "3 schedulers, 12 cells, 36 denoiser evaluations" in shown
    assert "not known before a first run" in shown


def test_check_tells_of_a_device_that_is_not_here(write_sweep: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """And plans for where it is."""
    assert run("check", write_sweep(), "--set", "device=cuda:97") == 0
    shown = capsys.readouterr()
    assert "warning: --set device=cuda:97: device 'cuda:97' is not there" in shown.err
    assert "3 schedulers, 12 cells" in shown.out


def test_check_estimates_from_what_was_measured(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("run", write_sweep(name="one"))
    capsys.readouterr()
    run("check", write_sweep(name="two"))
    assert "from 6 images timed in outputs/one" in capsys.readouterr().out
    run("check", write_sweep(name="two"), "--set", "backend=jax")
    assert "not known before a first run" in capsys.readouterr().out


def test_check_knows_that_decoding_takes_its_time_however_few_the_steps(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("run", write_sweep(name="one"))
    with closing(sqlite3.connect("outputs/one/run.sqlite")) as database, database:
        for id_, nfe in database.execute("SELECT id, nfe FROM cells WHERE timings != '[]'").fetchall():
            timing = Timing(2 * nfe + 10, 1, nfe, nfe, 9, (2.0,) * nfe)
            database.execute("UPDATE cells SET timings = ? WHERE id = ?", (json.dumps([asdict(timing)]), id_))
        database.execute("DELETE FROM meta WHERE name = 'throughput'")
    capsys.readouterr()
    run("check", write_sweep(name="two", steps=[50]))
    assert f"about {2 * (50 + 50 + 99) * 2 + 6 * 10} s on cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedulers": ["eulr"]}, "schedulers.0: unknown scheduler 'eulr'; did you mean euler"),
        ({"schedulers": ["pndm-karras"]}, "cannot use karras sigmas"),
        ({"steps": 1001}, "1001 steps are more than the noise schedule's 1000"),
        ({"model": "nowhere/at all"}, "model: "),
        ({"model": "gone.safetensors"}, "model: gone.safetensors: no such folder or file"),
        ({"stepz": 3}, "unknown key 'stepz'; did you mean 'steps'?"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
    ],
)
def test_a_wrong_request_is_one_message_and_nothing_is_written(
    change: dict[str, Any], message: str, write_sweep: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("run", write_sweep(**change), "-o", out) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_the_second_of_two_runs_is_refused(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.create(tmp_path / "out"):
        assert run("run", write_sweep(), "-o", tmp_path / "out") == 2
    assert "another run is writing here" in capsys.readouterr().err


def test_a_killed_packed_run_goes_on_with_the_rest(write_sweep: Write, tmp_path: Path) -> None:
    sweep, out = write_sweep(seeds="0..19", max_batch=4), tmp_path / "out"
    assert killed_run(sweep, out, signal.SIGKILL, images=30) == -9
    with Store.open(out) as store:
        done = {c.cell.id: c.result.image_sha256 for c in store.cells()}
    assert 28 <= len(done) < 120
    assert run("run", sweep, "-o", out) == 0
    assert len(fingerprints(out)) == 120
    assert done.items() <= fingerprints(out).items()


def test_packed_and_solo_runs_make_the_same_images(write_sweep: Write, tmp_path: Path) -> None:
    for engine in ("packed", "solo"):
        run("run", write_sweep(seeds="0..3"), "-o", tmp_path / engine, "--set", f"engine={engine}")
    for path in (tmp_path / "packed").rglob("seed-*.png"):
        with Image.open(path) as one, Image.open(tmp_path / "solo" / path.relative_to(tmp_path / "packed")) as other:
            assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 1
    with Store.open(tmp_path / "packed") as store:
        assert store.meta("throughput")["images"] == 3 * 2 * 3


def verified(out: Path) -> list[dict[str, str]]:
    """The rows of results.csv, after making sure that each image is the one its row says."""
    found = rows(out / "results.csv")
    for row in found:
        with Image.open(out / row["image"]) as image:
            assert pixels_sha256(image) == row["image_sha256"]
            assert json.loads(image.text["schedcmp"])["cell"]["prompt"] == row["prompt"]
    return found


def test_going_back_to_an_earlier_sweep_never_shows_another_sweeps_image(write_sweep: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for change in ["prompt=a", "prompt=b", "prompt=a", "guidance_scale=9", "guidance_scale=3"]:
        assert run("run", write_sweep(), "-o", out, "--set", change) == 0
        assert len(verified(out)) == 12


def test_guidance_scales_that_look_alike_are_kept_apart(write_sweep: Write, tmp_path: Path) -> None:
    run("run", write_sweep(guidance_scale=[2.0000001, 7.5, 2.0000002]), "-o", tmp_path / "out")
    found = verified(tmp_path / "out")
    assert len({row["image"] for row in found}) == len(found) == 36


def timed(out: Path) -> dict[tuple[str, str], str]:
    return {(row["scheduler"], row["seed"]): row["engine"] for row in rows(out / "results.csv") if row["latency_s"]}


def test_timings_that_are_asked_for_later_are_made(write_sweep: Write, tmp_path: Path) -> None:
    sweep, out = write_sweep(steps=[2]), tmp_path / "out"
    run("run", sweep, "-o", out, "--set", "timing.mode=off")
    assert timed(out) == {}
    run("run", sweep, "-o", out)
    assert timed(out) == {(name, "0"): "solo" for name in ("ddim", "euler-a", "heun")}
    run("run", sweep, "-o", out, "--set", "timing.repeats=3")
    assert {row["n"] for row in rows(out / "timings.csv")} == {"3"}
    run("run", sweep, "-o", out, "--set", "engine=solo")
    assert len(timed(out)) == 6
    assert set(timed(out).values()) == {"solo"}


def test_a_fresh_run_that_cannot_load_destroys_nothing(
    write_sweep: Write, tmp_path: Path, sd1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, broken = tmp_path / "out", tmp_path / "broken"
    run("run", write_sweep(), "-o", out)
    before = fingerprints(out)
    shutil.copytree(sd1, broken)
    edited = json.loads((broken / "unet/config.json").read_text()) | {"cross_attention_dim": 24}
    (broken / "unet/config.json").write_text(json.dumps(edited))
    assert run("run", write_sweep(model=str(broken)), "-o", out, "--fresh") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert fingerprints(out) == before


def test_adding_a_prompt_makes_only_what_is_new(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("run", write_sweep(prompt="a"), "-o", out)
    run("run", write_sweep(prompt=["b", "a"]), "-o", out)
    assert "12 cells are there already" in capsys.readouterr().out
    assert [row["prompt_name"] for row in verified(out)] == ["p0"] * 12 + ["p1"] * 12
