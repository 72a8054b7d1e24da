from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from asked import load
from test_run import Write, run

from schedcmp import __version__
from schedcmp.cli.process import starting
from schedcmp.errors import CheckpointError
from schedcmp.registry.table import builtin_registry
from schedcmp.sweep.document import checked
from schedcmp.sweep.models import members
from schedcmp.sweep.source import read

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "run", "check", "report", "list-compatible", "show", "verify", "recommend", "compare", "init", "schema",
)  # fmt: skip


def output(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert run(*arguments) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['schedcmp', '--help']\n"
        "from schedcmp.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'numpy', 'PIL', 'pydantic', 'yaml', 'sqlite3', 'fsspec'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(("argument", "status"), [("--version", 0), ("--nonsense", 2)])
def test_the_process_ends_with_all_that_was_promised(argument: str, status: int) -> None:
    code = (
        "import atexit, sys; sys.argv = ['schedcmp', sys.argv[1]]\n"
        "from schedcmp.cli import command\n"
        "atexit.register(print, 'over')\n"
        "print('begun')\n"
        "command()"
    )
    done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout.split("\n")[0] == "begun"
    assert done.stdout.split("\n")[-2] == "over"


@pytest.mark.parametrize(
    "module",
    [
        "sweep.document",
        "sweep.plan",
        "store.store",
        "store.integrity",
        "report.write",
        "registry.table",
        "runs.estimate",
    ],
)
def test_planning_and_reporting_import_no_torch(module: str) -> None:
    code = f"import sys, schedcmp.{module}; assert not {{'torch', 'diffusers', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--version") == f"schedcmp {__version__}\n"
    shown = output(capsys, "--help")
    for command in COMMANDS:
        assert command in shown


def test_the_starter_sweep_is_sound_and_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    output(capsys, "init", path)
    output(capsys, "check", path)
    before = path.read_text()
    assert "is there already" in output(capsys, "init", path, code=2)
    assert path.read_text() == before


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_is_sound(config: Path) -> None:
    source = read(config, ())
    sweeps = [checked(document) for document in members(source, config.stem).values() or [source]]
    registry = builtin_registry()
    for item in (item for sweep in sweeps for item in sweep.schedulers):
        if item != "*":
            assert registry.entry(item if isinstance(item, str) else item.name)


def test_the_tour_is_the_documents_tour() -> None:
    sweep, _ = load(ROOT / "configs/tour.yaml")
    steps = {i.name: i.steps for i in sweep.schedulers if not isinstance(i, str)}
    assert steps == {
        "pndm": (50,), "ddim": (50,), "lms": (50,), "euler": (30,), "euler-a": (30,), "dpmpp-2m": (20,),
    }  # fmt: skip
    assert (sweep.seeds, sweep.device, sweep.dtype, sweep.generator) == ((8,), "cuda", "fp16", "device")


@pytest.mark.slow
def test_list_compatible_tells_what_diffusers_does_not(sd1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["name"]: row for row in json.loads(output(capsys, "list-compatible", sd1, "--json"))}
    assert {"name", "class", "status", "reason", "listed"} <= set(found["ddim"])
    assert found["edm-euler"] | {"status": "wrong", "listed": True} == found["edm-euler"]
    assert found["sa-solver"] | {"status": "ok", "listed": False} == found["sa-solver"]
    assert set(found) == set(builtin_registry().entries)
    text = output(capsys, "list-compatible", sd1)
    assert "✗ edm-euler" in text
    assert "most also run with another sigma schedule" in text


@pytest.mark.slow
def test_list_compatible_has_every_sigma_schedule_if_asked(
    sd1: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.truth.quick.quick", lambda *_: {})  # the oracle takes half a minute for all
    every = json.loads(output(capsys, "list-compatible", sd1, "--all", "--json"))
    found = {row["name"]: row["status"] for row in every}
    assert {"heun-karras", "euler-a-karras", "dpmpp-2m-lu"} <= set(found)
    assert len(found) == len(every)
    assert found["ddim-lu"] == "unsupported"


def test_show_prints_what_would_run(sd1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "show", "DPM++ 2M Karras", sd1, "--steps", 5)
    assert "dpmpp-2m-karras: DPMSolverMultistepScheduler, deterministic, order 2" in text
    assert re.search(r"use_karras_sigmas +True +karras sigmas", text)
    assert re.search(r"beta_start +0.00085 +checkpoint", text)
    assert "skip_prk_steps" not in text
    assert "5 steps, 5 NFE" in text
    assert re.search(r"sigmas +14.61 .* 0\n", text)
    assert "did you mean heun" in output(capsys, "show", "hen", sd1, code=2)


def test_the_schema_is_json_that_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(output(capsys, "schema"))
    assert {"model", "schedulers", "steps", "seeds", "sigmas", "grid", "timing"} <= set(schema["properties"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "gone.yaml"], "gone.yaml: no such file"),
        (["check", "gone.yaml"], "gone.yaml: no such file"),
        (["report", "gone"], "has no run.sqlite"),
        (["list-compatible", "nowhere"], "no such folder or file"),
        (
            ["list-compatible", "https://huggingface.co/a/b-1.5/tree/main"],
            "is a page of the hub; give the hub id, a/b-1.5",
        ),
        (["run", "."], ".: is a folder; give a sweep, which is a file"),
        (["list-compatible", "builtin:huge"], "builtin:huge is not part of this installation"),
        (["show", "nothing-like-it"], "unknown scheduler"),
        (["show", "ddim", "builtin:huge"], "builtin:huge"),
        (["init", "/proc/sweep.yaml"], "cannot be written"),
        (["show", "euler", "--plot", "/proc/euler.svg"], "/proc/euler.svg: cannot be written"),
        (["run"], "Missing argument"),
        (["rnu"], "No such command"),
    ],
)
def test_a_wrong_command_is_one_clear_refusal(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = output(capsys, *arguments, code=2)
    assert message in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def test_shell_completion_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "schedcmp"], capture_output=True, text=True, check=False,
        env=os.environ | {"_SCHEDCMP_COMPLETE": "source_bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )  # fmt: skip
    assert "--install-completion" in done.stdout + done.stderr or "complete" in done.stdout


def test_a_prompt_in_any_script_makes_a_run(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = {"中文": "一只猫", "عربي": "قطة", "emoji": "🐈 <b>&amp;", "row": "a\nb"}
    sweep = write_sweep(prompt=prompts, schedulers=["ddim"], steps=[2], seeds=[0])
    output(capsys, "run", sweep, "-o", tmp_path / "out")
    assert len(list((tmp_path / "out/images").rglob("seed-*.png"))) == 4


def test_garbage_is_collected_again_once_a_command_has_started(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "show", "euler")
    assert gc.isenabled()
    with pytest.raises(CheckpointError), starting():
        raise CheckpointError("not there")
    assert gc.isenabled()
