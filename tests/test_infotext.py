"""What is written into an image as A1111 writes it, read back by A1111's rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_run import rows, run

from schedcmp.records import Cell
from schedcmp.registry.table import builtin_registry
from schedcmp.report.paste.infotext import a1111_parameters

PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SCHEDULES = {
    "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Align Your Steps", "Simple",
    "Normal", "DDIM", "Beta",
}  # fmt: skip


def parsed(text: str) -> dict[str, str]:
    """As A1111 1.10 reads a text: the last line has the fields, and what is not there has its default."""
    *lines, last = text.strip().split("\n")
    if len(PARAMETER.findall(last)) < 3:
        lines.append(last)
        last = ""
    parts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    part = "Prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            part, line = "Negative prompt", line.removeprefix("Negative prompt:").strip()
        parts[part].append(line)
    found = {"Schedule type": "Automatic", "RNG": "GPU", "Emphasis": "Original", "Clip skip": "1"}
    found |= {name: "\n".join(lines) for name, lines in parts.items()}
    for name, value in PARAMETER.findall(last):
        found[name] = json.loads(value) if value[:1] == '"' == value[-1:] else value
    return found


def cell(**changes: object) -> Cell:
    fields = {
        "id": "i", "index": 0, "scheduler": "euler", "base": "euler", "sigma_schedule": "default", "steps": 7,
        "seed": 5, "prompt_name": "p", "prompt": "a cat", "negative_prompt": "", "guidance_scale": 7.5,
        "width": 64, "height": 48,
    }  # fmt: skip
    return Cell(**fields | changes)  # type: ignore[arg-type]


def read_back(of: Cell, model: str = "m", generator: str = "cpu", **config: object) -> dict[str, str]:
    entry = builtin_registry().entry(of.scheduler)
    return parsed(a1111_parameters(of, entry, config, (64, 48), model=model, generator=generator))


LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1).map(str.strip)


@given(
    st.lists(LINES.filter(lambda s: bool(s) and not s.startswith("Negative prompt:")), min_size=1, max_size=3), LINES
)
def test_prompts_models_and_numbers_come_back_as_they_were(prompt: list[str], other: str) -> None:
    of = cell(prompt="\n".join(prompt), negative_prompt=other, guidance_scale=0.1 + 0.2)
    found = read_back(of, model=f"model {other}, 1:2")
    assert (found["Prompt"], found["Negative prompt"]) == (of.prompt, of.negative_prompt)
    assert found["Model"] == f"model {other}, 1:2"
    assert (int(found["Steps"]), int(found["Seed"]), found["Size"]) == (7, 5, "64x48")
    assert float(found["CFG scale"]) == of.guidance_scale


def test_words_in_brackets_are_no_emphasis() -> None:
    assert read_back(cell(prompt="a (red) cat"))["Emphasis"] == "None"
    assert read_back(cell(negative_prompt="[blue]"))["Emphasis"] == "None"
    assert read_back(cell(prompt="a red cat"))["Emphasis"] == "Original"


@pytest.mark.parametrize(("generator", "source"), [("cpu", "CPU"), ("cuda", "GPU"), ("mps", "GPU")])
def test_the_source_of_noise_is_said(generator: str, source: str) -> None:
    assert read_back(cell(), generator=generator)["RNG"] == source


@pytest.mark.parametrize(
    ("config", "schedule"),
    [
        ({}, "Uniform"),
        ({"timestep_spacing": "trailing"}, "SGM Uniform"),
        ({"timestep_spacing": "leading"}, "Uniform"),
        ({"use_karras_sigmas": True, "timestep_spacing": "linspace"}, "Karras"),
        ({"use_exponential_sigmas": True, "timestep_spacing": "trailing"}, "Exponential"),
    ],
)
def test_a_schedule_that_only_options_tell_is_said(config: dict[str, object], schedule: str) -> None:
    assert read_back(cell(), **config)["Schedule type"] == schedule


# "automatic" becomes another
@pytest.mark.parametrize("name", sorted(builtin_registry().sigma_schedules.keys() - {"automatic"}))
def test_every_schedule_is_there_and_a_name_of_a1111s_is_spelled_as_it_does(name: str) -> None:
    schedule = builtin_registry().sigma_schedules[name]
    told = read_back(cell(sigma_schedule=name))["Schedule type"]
    assert told not in ("Automatic", "")
    assert told in SCHEDULES or "a1111" not in schedule.also


def test_images_are_read_as_what_was_run(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    told = {
        "dpmpp-2m": ("DPM++ 2M", "Uniform"),
        "dpmpp-2m-karras": ("DPM++ 2M", "Karras"),
        "dpmpp-2m-sgm-uniform": ("DPM++ 2M", "SGM Uniform"),
        "dpmpp-2m-kl-optimal": ("DPM++ 2M", "KL Optimal"),
        "dpmpp-2m-ays": ("DPM++ 2M", "Align Your Steps"),
        "dpmpp-2m-ddim-uniform": ("DPM++ 2M", "DDIM"),
        "euler-beta": ("Euler", "Beta"),
        "plain": ("DPM++ 2M", "Uniform"),
        "spaced": ("DPM++ 2M", "Karras"),
        "mine": ("mine", "Uniform"),
    }
    own: list[dict[str, object]] = [
        {"name": "plain", "base": "dpmpp-2m"},
        {"name": "spaced", "base": "dpmpp-2m", "options": {"use_karras_sigmas": True}},
        {"name": "mine", "base": "dpmpp-2m", "options": {"solver_order": 3}},
    ]
    sweep = write_sweep(schedulers=[*list(told)[:-3], *own], steps=4, seeds=3, timing="off", guidance_scale=2)
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    for row in rows(tmp_path / "out/results.csv"):
        with Image.open(tmp_path / "out" / row["image"]) as image:
            found = parsed(image.text["parameters"])  # type: ignore[attr-defined]
        assert (found["Sampler"], found["Schedule type"]) == told[row["scheduler"]]
        assert (found["Prompt"], found["Steps"], found["Seed"], found["RNG"]) == ("a b", "4", "3", "CPU")
