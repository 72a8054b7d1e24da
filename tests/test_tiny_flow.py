"""builtin:tiny-flow, a trained flow-matching transformer: it runs as diffusers runs it, and draws what it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from latents import Latents
from torch.nn.functional import pad

from schedcmp.checkpoint.adapters import find_adapter
from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.checkpoint.wardrobe import Wardrobe
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.adherence import adherence
from tools.tiny.flow import PADDING, PaddedOnce

FOUND = inspect(ModelSpec("builtin:tiny-flow"))
SCHEDULERS = ("euler", "heun", "dpmpp-2m", "unipc")
GUIDANCE = 2.0
HELD_OUT = (  # no training picture has the same attributes
    "a small red heart at the top on a cyan background",
    "a large blue diamond on a brown background",
    "a large red cross at the bottom on a purple background",
    "a large orange star at the top on a pink background",
    "a small black circle at the bottom on a green background",
    "a large dotted green ring at the bottom on a yellow background",
    "a striped gray square on a pink background",
    "a green triangle at the bottom on a gray background",
)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    config = mended(FOUND.scheduler_config, FOUND.pipeline_class)
    registry = builtin_registry()
    return Workbench(load(FOUND, "cpu"), {name: resolve(registry.entry(name), config) for name in SCHEDULERS})


@pytest.fixture(scope="module")
def theirs() -> Any:
    found = StableDiffusion3Pipeline.from_pretrained(FOUND.path, text_encoder_3=None, tokenizer_3=None)
    found.set_progress_bar_config(disable=True)
    return found


def cell(scheduler: str, steps: int, seed: int = 8, prompt: str = "a red circle on a blue background") -> Cell:
    name = f"{scheduler} {steps} {seed} {prompt}"
    return Cell(name, 0, scheduler, scheduler, "default", steps, seed, "p", prompt, "", GUIDANCE, None, None)


def alone(bench: Workbench, cells: list[Cell]) -> dict[str, CellResult]:
    return {r.cell.id: r for r in SoloEngine(bench, Measuring(timed=False)).run(cells)}


def packed(bench: Workbench, cells: list[Cell]) -> dict[str, CellResult]:
    return {r.cell.id: r for r in PackedEngine(bench, lambda cell: cell.steps, 8).run(cells)}


def pixels(result: CellResult) -> Any:
    assert result.status == "ok", result.error
    return np.asarray(result.image, int)


def test_an_image_is_diffusers_own_bit_for_bit(bench: Workbench, theirs: Any) -> None:
    c = cell("euler", 4)
    image = theirs(
        c.prompt, num_inference_steps=c.steps, guidance_scale=c.guidance_scale,
        generator=torch.Generator().manual_seed(c.seed),
    ).images[0]  # fmt: skip
    assert isinstance(theirs.scheduler, FlowMatchEulerDiscreteScheduler)
    assert np.array_equal(pixels(alone(bench, [c])[c.id]), np.asarray(image, int))


def test_packed_equals_alone(bench: Workbench, latents: Latents) -> None:
    cells = [cell(name, steps) for name, steps in product(SCHEDULERS, (2, 4))]
    expected = alone(bench, cells)
    expected_latents = dict(latents.of)
    latents.of.clear()
    got = packed(bench, cells)
    assert max(np.abs(pixels(got[i]) - pixels(e)).max() for i, e in expected.items()) <= 1
    assert all(float((latents.of[i] - e).abs().max() / e.std()) < 1e-4 for i, e in expected_latents.items())


@pytest.mark.slow
def test_it_draws_what_it_is_told(bench: Workbench) -> None:
    cells = [cell("euler", 20, seed, prompt) for seed, prompt in enumerate(HELD_OUT)]
    shares = [adherence(r.image, r.cell.prompt) for r in packed(bench, cells).values()]
    assert np.mean(shares) >= 0.95


def test_schedulers_differ_where_steps_are_few_and_agree_where_they_are_many(bench: Workbench) -> None:
    images = packed(bench, [cell(name, steps) for name, steps in product(("euler", "heun"), (4, 16))])
    few, many = (
        np.sqrt(((pixels(images[cell("euler", n).id]) - pixels(images[cell("heun", n).id])) ** 2).mean())
        for n in (4, 16)
    )
    assert few > 3  # of 255 levels
    assert many < few / 2


def test_one_padding_token_stands_for_all(bench: Workbench) -> None:
    """So it was trained: the pipeline's zero tokens in place of the T5 encoder's are all alike."""
    transformer = bench.pipeline.transformer
    processors = dict(transformer.attn_processors)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 16, 16, generator=draw)
    text, pooled = torch.randn(2, 32, 160, generator=draw), torch.randn(2, 160, generator=draw)
    t = torch.tensor([100.0, 900.0])
    with torch.no_grad():
        long = transformer(x, pad(text, (0, 0, 0, PADDING)), pooled, t).sample
        try:
            transformer.set_attn_processor(PaddedOnce())
            short = transformer(x, pad(text, (0, 0, 0, 1)), pooled, t).sample
        finally:
            transformer.set_attn_processor(processors)
    torch.testing.assert_close(short, long, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_turbo_lora_draws_in_one_step_what_takes_the_model_guidance_and_many() -> None:
    lora, registry = find_adapter("builtin:tiny-flow-turbo"), builtin_registry()
    config = mended(FOUND.scheduler_config, FOUND.pipeline_class)
    pipeline = load(FOUND, "cpu")
    wear = Wardrobe(pipeline, {lora.digest: lora}).wear
    bench = Workbench(pipeline, {"euler": resolve(registry.entry("euler"), config)}, wear=wear)
    worn = json.dumps({"name": "turbo", "adapters": [["builtin:tiny-flow-turbo", "", 1.0, lora.digest]]})

    def drawn(lora: str, steps: int, guidance: float) -> dict[str, CellResult]:
        cells = [cell("euler", steps, seed, prompt) for seed, prompt in enumerate(HELD_OUT)]
        found = packed(bench, [replace(c, guidance_scale=guidance, lora=lora) for c in cells])
        return {r.cell.prompt: r for r in found.values()}

    ends = drawn("", 16, 3.0)

    def away(images: dict[str, CellResult]) -> float:
        """Root mean square, of 255 levels."""
        return float(np.sqrt(np.mean([(pixels(images[i]) - pixels(end)) ** 2 for i, end in ends.items()])))

    one = drawn(worn, 1, 1.0)
    assert np.mean([adherence(r.image, prompt) for prompt, r in one.items()]) >= 0.95
    assert away(one) < 0.5 * min(away(drawn("", 1, guidance)) for guidance in (1.0, 3.0))

    first = next(iter(one.values()))
    theirs = StableDiffusion3Pipeline.from_pretrained(FOUND.path, text_encoder_3=None, tokenizer_3=None)
    theirs.load_lora_weights(lora.file.path.parent)
    theirs.set_progress_bar_config(disable=True)
    image = theirs(
        first.cell.prompt, num_inference_steps=1, guidance_scale=1.0,
        generator=torch.Generator().manual_seed(first.cell.seed),
    ).images[0]  # fmt: skip
    assert np.abs(pixels(first) - np.asarray(image, int)).max() <= 1
