"""Every family of pipelines packs without special code, and what cannot be packed is still answered right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import families
import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from hypothesis import given
from hypothesis import strategies as st
from latents import Latents
from PIL import Image

from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.joining import join
from schedcmp.engine.job import Workbench
from schedcmp.engine.lane import _remembered
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.processors import Processors
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.spacing.flow import PIPELINE

REGISTRY = builtin_registry()
DENOISING = ("ddim", "euler", "euler-a", "heun", "dpmpp-2m", "dpmpp-sde")  # euler-a and dpmpp-sde draw noise
FLOW = (
    "flow-euler", "heun", "dpmpp-2m", "dpmpp-2m-sde", "unipc", "deis", "euler-a", "er-sde-simple",
    "res-multistep-beta57", "heun-karras", "sa-solver", "lcm",
)  # fmt: skip


@dataclass(frozen=True)
class Bench(Workbench):
    """Gives the pipeline more arguments than a sweep knows of."""

    more: Mapping[str, Any] = field(default_factory=dict)

    def job(self, *cells: Cell) -> tuple[Any, dict[str, Any]]:
        pipeline, arguments = Workbench.job(self, *cells)
        return pipeline, arguments | self.more


def recipes_for(pipeline: Any, names: tuple[str, ...]) -> dict[str, Recipe]:
    own = type(pipeline.scheduler).__name__
    config = {**pipeline.scheduler.config, "_class_name": own, PIPELINE: type(pipeline).__name__}
    return {name: resolve(REGISTRY.entry(name), config) for name in names}


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8))


def half_a_mask() -> Image.Image:
    return Image.fromarray(np.repeat([[0, 255]], 8, axis=1).repeat(16, axis=0).astype(np.uint8))


@dataclass(frozen=True)
class Family:
    build: Callable[[], Any]
    schedulers: tuple[str, ...] = DENOISING
    more: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int | None, int | None] = (16, 16)


SHORT = {"max_sequence_length": 8}
PLAIN = {**SHORT, "clean_caption": False, "use_resolution_binning": False}
FAMILIES = {
    "sd": Family(families.sd),
    "sd-img2img": Family(families.sd_img2img, more={"image": picture(0), "strength": 0.7}, size=(None, None)),
    "sd-inpaint": Family(families.sd_inpaint, more={"image": picture(0), "mask_image": half_a_mask(), "strength": 0.9}),
    "sd-inpaint-4": Family(families.sd_inpaint_by_blending, more={"image": picture(0), "mask_image": half_a_mask()}),
    "sdxl": Family(families.sdxl),
    "sd3": Family(families.sd3, FLOW, SHORT),
    "flux": Family(families.flux, FLOW, SHORT),
    # as many text or image tokens as an evaluation, or a batch, has rows
    "flux-text-1": Family(families.flux, FLOW, {"max_sequence_length": 1}),
    "flux-image-1": Family(families.flux, FLOW, SHORT, size=(4, 4)),
    "flux-image-8": Family(families.flux, FLOW, SHORT, size=(16, 8)),
    "flux-true-cfg": Family(families.flux, FLOW, {**SHORT, "negative_prompt": "a", "true_cfg_scale": 1.5}),
    "pixart": Family(families.pixart, DENOISING, PLAIN),
    "sana": Family(families.sana, FLOW, {**PLAIN, "complex_human_instruction": None}, (32, 32)),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[Bench, list[Cell]]:
    kind = FAMILIES[request.param]
    pipeline = families.ready(kind.build)
    return Bench(pipeline, recipes_for(pipeline, kind.schedulers), more=kind.more), cells_of(kind)


def cells_of(kind: Family) -> list[Cell]:
    """All schedulers at two lengths, with seeds, prompts and guidance taking turns."""
    made = []
    for i, (steps, name) in enumerate(product((3, 5), kind.schedulers)):
        prompt, guidance = ("a b", "b", "a a b")[i % 3], (3.0, 1.0, 7.5, 3.0)[i % 4]
        made.append(Cell(str(i), i, name, name, "default", steps, i % 2, "p", prompt, "", guidance, *kind.size))
    return made


def ran(engine: Any, cells: list[Cell]) -> dict[str, CellResult]:
    results = {r.cell.id: r for r in engine.run(cells)}
    assert not [r.error for r in results.values() if r.status == "failed"]
    assert list(map(str, sorted(map(int, results)))) == [c.id for c in cells]
    return results


def alone(bench: Workbench) -> SoloEngine:
    return SoloEngine(bench, Measuring(timed=False))


def packed(bench: Workbench, max_batch: int) -> PackedEngine:
    return PackedEngine(bench, lambda cell: cell.steps, max_batch)


def test_packed_equals_alone(family: tuple[Bench, list[Cell]], latents: Latents) -> None:
    """And is it bit for bit where every cell has a batch of its own."""
    bench, cells = family
    expected = ran(alone(bench), cells)
    expected_latents = dict(latents.of)
    latents.of.clear()
    engine = packed(bench, 8)
    got = ran(engine, cells)
    worst = max(float((latents.of[i] - e).abs().max() / e.std()) for i, e in expected_latents.items())
    levels = max(np.abs(pixels(got[i]) - pixels(e)).max() for i, e in expected.items())
    assert worst < 1e-4
    assert levels <= 1
    assert {i: (r.nfe, r.timesteps) for i, r in got.items()} == {i: (r.nfe, r.timesteps) for i, r in expected.items()}
    assert engine.throughput.max_batch == 8
    assert engine.throughput.evaluations > 2 * engine.throughput.forwards
    got = ran(packed(bench, 1), cells)
    assert {i: r.image_sha256 for i, r in got.items()} == {i: r.image_sha256 for i, r in expected.items()}
    assert all(torch.equal(latents.of[i], e) for i, e in expected_latents.items())


def pixels(result: CellResult) -> Any:
    return np.asarray(result.image, int)


def assert_same_images(got: dict[str, CellResult], expected: dict[str, CellResult]) -> None:
    assert {i: r.image_sha256 for i, r in got.items()} == {i: r.image_sha256 for i, r in expected.items()}


def test_a_pipeline_that_puts_in_attention_processors_is_packed_with_its_like() -> None:
    """They cut a batch into as many parts as an image has rows."""
    kind = FAMILIES["sd"]
    pipeline = families.ready(families.sd_pag)
    bench = Bench(pipeline, recipes_for(pipeline, kind.schedulers), more={"pag_scale": 3.0})
    cells = cells_of(kind)
    cells += [replace(cell, id=str(len(cells) + i), guidance_scale=1.0) for i, cell in enumerate(cells[:2])]
    own = dict(pipeline.unet.attn_processors)
    expected = ran(alone(bench), cells)
    engine = packed(bench, 12)
    got = ran(engine, cells)
    assert max(np.abs(pixels(got[i]) - pixels(e)).max() for i, e in expected.items()) <= 1
    assert engine.throughput.evaluations > 2 * engine.throughput.forwards
    assert not engine.throughput.notes
    assert pipeline.unet.attn_processors == own


def test_a_lane_that_fails_leaves_the_models_as_they_were() -> None:
    pipeline = families.ready(families.sd_pag)
    own = dict(pipeline.unet.attn_processors)
    bench = Bench(pipeline, recipes_for(pipeline, ("ddim",)), more={"pag_scale": 3.0, "eta": "none"})
    (result,) = packed(bench, 12).run(cells_of(FAMILIES["sd"])[:1])
    assert "TypeError" in (result.error or "")
    assert pipeline.unet.attn_processors == own


def test_processors_that_remember_something_serve_their_own_image_alone() -> None:
    remembering, plain = AttnProcessor(), AttnProcessor()
    remembering.probabilities = None
    assert Processors(((object(), remembering),)).know_their_image
    assert not Processors(((object(), plain),)).know_their_image


def test_a_vae_that_is_cast_for_each_image_serves_one_lane_at_a_time() -> None:
    """Stable Diffusion XL in fp16 casts its VAE to fp32 and back."""
    pipeline = families.ready(families.sdxl).to(torch.float16)
    assert pipeline.vae.config.force_upcast
    bench = Bench(pipeline, recipes_for(pipeline, DENOISING))
    cells = cells_of(FAMILIES["sdxl"])
    expected = ran(alone(bench), cells)
    engine = packed(bench, 8)
    for i, result in ran(engine, cells).items():
        assert np.abs(pixels(result) - pixels(expected[i])).max() <= 8
    assert engine.throughput.max_batch == 8
    assert pipeline.vae.dtype == torch.float16


class OddModel(torch.nn.Module):
    """Answers each row by that row alone."""

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(-1).sin()


class Columns(OddModel):
    """Answers with the rows last: with four channels, an answer for four rows looks right."""

    def forward(self, x: torch.Tensor, timestep: Any) -> torch.Tensor:
        return self.predict(x).movedim(0, -1)

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return self(x, t).movedim(-1, 0)


class Listing(OddModel):
    """Takes and gives a list with an item for each row."""

    def forward(self, x: list[torch.Tensor], timestep: torch.Tensor) -> list[torch.Tensor]:
        assert len(x) == len(timestep)
        return [self.predict(row) for row in x]

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return torch.stack(self(list(x), t.expand(len(x))))


class Ambiguous(Listing):
    """Takes a list with an item for each row, which are as long as there are rows."""

    def forward(self, x: list[torch.Tensor], timestep: torch.Tensor) -> list[torch.Tensor]:
        return [row[0] for row in super().forward(x, timestep)]

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return torch.stack(self([row[None] for row in x], t.expand(len(x))))


class Zipping(Listing):
    """Does not notice that it got fewer items than timesteps."""

    def forward(self, x: list[torch.Tensor], timestep: torch.Tensor) -> list[torch.Tensor]:
        return [self.predict(row) for row, _ in zip(x, timestep, strict=False)]


class Numbers(OddModel):
    """Answers with an array of another library."""

    def forward(self, x: torch.Tensor, timestep: Any) -> Any:
        return self.predict(x).numpy()

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return torch.from_numpy(self(x, t))


class Summing(OddModel):
    """Tells one number for all rows beside its answer."""

    def forward(self, x: torch.Tensor, timestep: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.predict(x), x.mean()

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        answer, mean = self(x, t)
        return answer + mean


@dataclass
class Images:
    images: list[Image.Image]


@dataclass
class OddPipeline:
    """The least that an engine needs."""

    transformer: Any
    scheduler: Any = None
    components: tuple[str, ...] = ("transformer", "scheduler")
    _execution_device: str = "cpu"

    def __call__(self, num_inference_steps: int, generator: torch.Generator, **_: Any) -> Images:
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(1, 4, 4, 4, generator=generator)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.transformer.ask(x, t), t, x).prev_sample
        levels = (x[0, :3] * 60 + 128).clip(0, 255).byte()
        return Images([Image.fromarray(levels.movedim(0, -1).numpy())])


@pytest.mark.parametrize("model", [Columns, Ambiguous, Numbers, Summing])
def test_what_cannot_be_cut_into_rows_is_answered_one_by_one(model: type) -> None:
    recipe = resolve(REGISTRY.entry("ddim"), {"clip_sample": False})
    bench = Workbench(OddPipeline(model()), {"ddim": recipe})
    lengths = [9] * 5 + [5] * 4 + [4] * 6
    cells = [
        Cell(str(i), i, "ddim", "ddim", "default", steps, i % 2, "p", "a", "", 1.0, None, None)
        for i, steps in enumerate(lengths)
    ]
    expected = ran(alone(bench), cells)
    engine = packed(bench, 8)
    assert_same_images(ran(engine, cells), expected)
    assert engine.throughput.max_batch == 1
    assert engine.throughput.evaluations == sum(lengths)


@pytest.mark.parametrize("model", [Listing, Zipping])
def test_lists_with_an_item_for_each_row_are_packed(model: type) -> None:
    """As Z-Image's transformer takes and gives them."""
    bench = Workbench(OddPipeline(model()), {"ddim": resolve(REGISTRY.entry("ddim"), {"clip_sample": False})})
    cells = [Cell(str(i), i, "ddim", "ddim", "default", 5 + i, i, "p", "a", "", 1.0, None, None) for i in range(6)]
    expected = ran(alone(bench), cells)
    engine = packed(bench, 8)
    assert_same_images(ran(engine, cells), expected)
    assert engine.throughput.max_batch > 1


class Learnt(OddModel):
    """Has a weight, by which torch would remember all that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.answers: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, timestep: Any) -> torch.Tensor:
        self.answers.append(self.predict(x) * self.weight)
        return self.answers[-1]

    def ask(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return self(x, t)


def test_nothing_is_remembered_for_gradients() -> None:
    """Whatever the pipeline does: the weights ask for them, since without that torch rounds otherwise."""
    for engine in (alone, lambda bench: packed(bench, 8)):
        model = Learnt()
        bench = Workbench(OddPipeline(model), {"ddim": resolve(REGISTRY.entry("ddim"), {"clip_sample": False})})
        cells = [Cell(str(i), i, "ddim", "ddim", "default", 3, i, "p", "a", "", 1.0, None, None) for i in range(2)]
        ran(engine(bench), cells)
        assert model.answers
        assert not any(answer.requires_grad for answer in model.answers)


@dataclass
class Unmoved(OddPipeline):
    """Keeps to a scheduler of its own, whatever it is given."""

    def __call__(self, num_inference_steps: int, generator: torch.Generator, **others: Any) -> Images:
        own = resolve(REGISTRY.entry("ddim"), {"clip_sample": False}).build()
        return OddPipeline(self.transformer, own)(num_inference_steps, generator, **others)


def test_a_pipeline_that_does_not_use_its_scheduler_fails_and_says_so() -> None:
    bench = Workbench(Unmoved(Columns()), {"ddim": resolve(REGISTRY.entry("ddim"), {"clip_sample": False})})
    cell = Cell("0", 0, "ddim", "ddim", "default", 3, 0, "p", "a", "", 1.0, None, None)
    for engine in (alone(bench), packed(bench, 8)):
        (result,) = engine.run([cell])
        assert result.status == "failed"
        assert "asks its scheduler for no step" in str(result.error)


def test_a_text_encoder_that_adds_to_a_cache_is_not_answered_from_memory() -> None:
    class Writer(torch.nn.Module):
        def forward(self, token: torch.Tensor, past: object = ()) -> torch.Tensor:
            return token + torch.randn(())

    forward, token = _remembered(Writer().forward), torch.ones(1)
    assert torch.equal(forward(token), forward(token))
    assert torch.equal(forward(token, (1, 2)), forward(token, (1, 2)))
    assert not torch.equal(forward(token, (1, 2)), forward(token, (2, 1)))
    cache = object()
    assert not torch.equal(forward(token, cache), forward(token, cache))


@given(st.lists(st.integers(1, 3), min_size=2, max_size=5))
def test_timesteps_of_any_kind_share_a_batch(rows: list[int]) -> None:
    kinds = [torch.tensor(3), torch.tensor(2.5), 7, 1.5, torch.tensor([4]), torch.tensor([0.5])]
    made = [kinds[i % 4] if n > 1 else kinds[i % 6] for i, n in enumerate(rows)]
    calls = [Call("unet", {"x": torch.zeros(n, 2), "timestep": t}) for n, t in zip(rows, made, strict=True)]
    assert len({call.signature for call in calls}) == 1
    expected = [float(t) for n, t in zip(rows, made, strict=True) for _ in range(n)]
    assert join(calls)["timestep"].tolist() == expected


def test_an_array_is_never_taken_for_equal_to_another() -> None:
    """Arrays have no hash, and what is printed of a large one leaves out the middle."""
    large = np.zeros(5000)
    other = large.copy()
    other[2500] = 1
    calls = [Call("unet", {"x": torch.zeros(1, 2), "noise": array}) for array in (large, other)]
    assert calls[0].signature != calls[1].signature
