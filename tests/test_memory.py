"""How much memory a run takes, and what happens when there is no more: of memory, and of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from checkpoints import save_sd1, unet
from diffusers import AutoencoderKL
from forks import ended

from schedcmp.cli import app
from schedcmp.engine.batch import Sizes
from schedcmp.engine.calls.call import Call
from schedcmp.guard import shortage
from schedcmp.report import plots
from schedcmp.store.store import Store

ROOT = Path(__file__).parents[1]
Write = Callable[..., Path]

# Any thread's stack is larger than what may be mapped
NO_THREADS = """
import threading
threading.stack_size(1 << 46)
from schedcmp.__main__ import command
command()
"""


def child(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose VAE makes eight pixels of a latent one, as Stable Diffusion's. Attention would take long."""
    vae = partial(
        AutoencoderKL, block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4, sample_size=64,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    plain = partial(
        unet, block_out_channels=(8,), down_block_types=("DownBlock2D",), mid_block_type=None,
        up_block_types=("UpBlock2D",)
    )  # fmt: skip
    return save_sd1(tmp_path_factory.mktemp("large") / "sd1", vae, plain)


def peak_bytes(*words: object) -> int:
    """Of the command in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "schedcmp", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


@pytest.mark.slow
def test_a_packed_run_of_large_images_takes_little_more_memory_than_a_solo_one(
    large: Path, write_sweep: Write, tmp_path: Path
) -> None:
    size = {"width": 1024, "height": 1024, "timing": {"mode": "off"}}
    sweep = write_sweep(model=str(large), schedulers=["ddim"], steps=[1], seeds="0..3", **size)
    peaks = {
        engine: peak_bytes("run", sweep, "-o", tmp_path / engine, "--set", f"engine={engine}")
        for engine in ("solo", "packed")
    }
    assert peaks["packed"] <= 1.25 * peaks["solo"]  # 1.01 here; with all four decoded at once 1.69


@pytest.mark.parametrize(("side", "denoised", "decoded"), [(64, 64, 8), (256, 32, 4), (512, 8, 1), (2048, 1, 1)])
def test_a_batch_on_a_cpu_is_bounded_by_its_pixels(side: int, denoised: int, decoded: int) -> None:
    import torch

    sizes, latents = Sizes(None, scale=8, least=64), torch.empty(2, 4, side // 8, side // 8)
    assert sizes.rows(Call("unet", {"sample": latents})) == denoised
    assert sizes.rows(Call("vae.decode", {"z": latents})) == decoded
    tokens = torch.empty(2, latents[0, 0].numel() // 4, 64)
    assert sizes.rows(Call("transformer", {"hidden_states": tokens})) == denoised
    assert Sizes(48, scale=8).rows(Call("unet", {"sample": latents})) == 48  # as the sweep says


@pytest.mark.slow
def test_what_does_not_fit_into_the_memory_fails_alone_and_the_next_run_goes_on(
    large: Path, write_sweep: Write, tmp_path: Path
) -> None:
    sweep, out = (
        write_sweep(model=str(large), schedulers=["ddim"], steps=[2], size=["64x64", "1024x1024"]),
        tmp_path / "out",
    )
    code, told = ended("run", sweep, "-o", out, told=tmp_path / "told", more_bytes=220_000_000)
    assert (code, "Traceback" in told) == (1, False), told
    assert "the memory is full" in told
    with Store.open(out) as store:
        found = {(c.cell.width, c.result.status == "failed") for c in store.cells()}
    assert found == {(64, False), (1024, True)}
    code, told = ended("run", sweep, "-o", out, told=tmp_path / "told")
    assert code == 0, told
    assert "2 cells are there already" in told


@pytest.mark.parametrize(("command", "more"), [("run", 0), ("run", 30_000_000), ("report", 30_000_000), ("check", 0)])
def test_with_hardly_any_memory_a_command_ends_in_a_message(
    command: str, more: int, write_sweep: Write, tmp_path: Path
) -> None:
    sweep, out = write_sweep(schedulers=["ddim"], steps=[2]), tmp_path / "out"
    app(["run", str(sweep), "-o", str(out)], standalone_mode=False)
    words = {"run": (sweep, "-o", out, "--fresh"), "report": (out,), "check": (out,)}[command]
    code, told = ended(command, *words, told=tmp_path / "told", more_bytes=more)
    assert code in (0, 1, 2)
    assert "Traceback" not in told
    assert code == 0 or "memory" in told.lower() or "threads" in told


def test_where_no_thread_starts_a_run_ends_in_a_message_and_keeps_what_is_there(
    write_sweep: Write, tmp_path: Path
) -> None:
    sweep, out = write_sweep(), tmp_path / "out"
    done = child(NO_THREADS, "run", sweep, "-o", out)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "no more threads may be started here" in done.stderr
    assert ended("run", sweep, "-o", out, told=tmp_path / "told")[0] == 0


def test_a_plot_that_cannot_be_drawn_is_named_and_the_rest_is_there(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(plots, "draw_sigmas", full)
        with pytest.raises(SystemExit) as ended:
            app(["run", str(write_sweep()), "-o", str(out)])
        assert ended.value.code == 1
        told = capsys.readouterr().err
        assert "not drawn: plots/sigmas: the memory is full (MemoryError)" in told
        assert f"`schedcmp report {out}` makes them again" in told
    there = {p.name for p in out.rglob("*") if p.is_file()}
    assert {"report.html", "grid_seed-0000.png", "timings.csv", "breakdown.svg"} <= there
    assert "sigmas.svg" not in there
    with pytest.raises(SystemExit) as ended:
        app(["report", str(out)])
    assert ended.value.code == 0
    assert (out / "plots/sigmas.svg").is_file()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), "memory"),
        (MemoryError(), "memory"), (OSError(12, "Cannot allocate memory"), "memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "memory"),
        (RuntimeError("can't start new thread"), "threads"), (RuntimeError("shapes do not fit"), None),
    ],
)  # fmt: skip
def test_what_ran_out_is_told_whoever_says_so(error: Exception, told: str | None) -> None:
    found = shortage.told(error)
    assert found is None if told is None else told in str(found)
