"""Options for speed: what they may change of an image, and that both engines work with them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from latents import Latents
from test_packed import alone, cells_of, ran, recipes  # noqa: F401

from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.optimize import optimize
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.engine.calls.call import Call
from schedcmp.engine.calls.joining import join, take_rows
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.errors import RequestError

EXACT = {"vae_slicing": True, "offload": True}
ROUNDED = {"channels_last": True, "tf32": True}


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


CELLS = cells_of(["ddim", "euler", "heun", "dpmpp-2m-sde"], [2, 3], [0, 1])


def images(pipeline: Any, recipes: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: F811
    """Of a few cells: solo, and packed."""
    engine = PackedEngine(Workbench(pipeline, recipes), lambda c: c.steps, **options)
    found = alone(pipeline, recipes, CELLS), ran(engine, CELLS)
    return tuple({i: r.image_sha256 for i, r in results.items()} for results in found)  # type: ignore[return-value]


def worst(latents: Latents, plain: dict[str, torch.Tensor]) -> float:
    return max(float((latents.of[i] - x).abs().max() / x.std()) for i, x in plain.items())


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_an_option_changes_no_more_than_the_last_digits(
    name: str,
    sd1: Path,
    recipes: Any,  # noqa: F811
    latents: Latents,
) -> None:
    pixels = images(load(inspect(ModelSpec(str(sd1))), "cpu"), recipes)
    plain = dict(latents.of)
    changed = images(load(inspect(ModelSpec(str(sd1))), "cpu", "auto", {name: True}), recipes)
    assert worst(latents, plain) < 1e-4
    if name in EXACT:
        assert changed[0] == pixels[0]


def test_fixed_shapes_are_few_and_change_nothing(
    sd1: Path,
    recipes: Any,  # noqa: F811
    latents: Latents,
) -> None:
    pipeline = load(inspect(ModelSpec(str(sd1))), "cpu")
    images(pipeline, recipes)
    plain, forward, shapes = dict(latents.of), pipeline.unet.forward, set()

    @functools.wraps(forward)
    def seen(sample: torch.Tensor, timestep: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert (timestep.dtype, timestep.shape) == (torch.float32, sample.shape[:1])  # whoever asks: one program a size
        shapes.add(sample.shape[0])
        return forward(sample, timestep, *args, **kwargs)

    pipeline.unet.forward = seen
    engine = PackedEngine(Workbench(pipeline, recipes), lambda c: c.steps, max_batch=12, fixed_shapes=True)
    assert all(result.image for result in ran(engine, CELLS).values())
    assert {12} < shapes <= {2, 4, 8, 12}
    assert worst(latents, plain) < 1e-4


@pytest.mark.parametrize("mode", ["reduce-overhead", "regional"])
def test_a_compiled_denoiser_gives_the_same_images(
    sd1: Path,
    recipes: Any,  # noqa: F811
    latents: Latents,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    """Traced and run by torch itself: its code generator takes minutes and needs a C++ compiler."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode=None, dynamic=None: real(f, backend="eager", dynamic=dynamic))
    cells = cells_of(["dpmpp-2m"], [2], [0, 1])
    alone(load(inspect(ModelSpec(str(sd1))), "cpu"), recipes, cells)
    plain = dict(latents.of)
    pipeline = load(inspect(ModelSpec(str(sd1))), "cpu", "auto", {"compile": mode})
    ran(PackedEngine(Workbench(pipeline, recipes), lambda c: c.steps, 4, fixed_shapes=True), cells)
    assert worst(latents, plain) < 1e-4


def test_rows_that_fill_a_batch_have_no_say_in_the_others_answers() -> None:
    call = Call("unet", {"sample": torch.randn(2, 3), "timestep": torch.tensor(7), "extra": {"ids": torch.ones(2, 1)}})
    joined = join([call, *[take_rows(call, 0, 2)] * 3])
    assert joined["sample"].shape == (5, 3)
    assert joined["timestep"].tolist() == [7] * 5
    assert joined["extra"]["ids"].shape == (5, 1)
    assert torch.equal(joined["sample"][:2], call.arguments["sample"])


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor([7, 7])])
def test_a_compiled_model_gets_timesteps_of_one_kind_where_its_latents_are(timestep: Any) -> None:
    """On another device than the host a number of the host would be refused, or be another program."""
    call = Call("unet", {"sample": torch.zeros(2, 3, device="meta"), "timestep": timestep})
    got = join([call], float_timesteps=True)["timestep"]
    assert (got.device.type, got.dtype, got.shape) == ("meta", torch.float32, (2,))


def test_attention_is_refused_where_diffusers_would_ignore_it(sd1: Path) -> None:
    with pytest.raises(RequestError, match="takes no attention backend"):
        load(inspect(ModelSpec(str(sd1))), "cpu", "auto", {"attention": "flash"})


def test_an_attention_backend_that_is_not_there_is_refused() -> None:
    pipeline = families.ready(families.flux)
    with pytest.raises(RequestError, match="'sage' cannot be used here"):
        optimize(pipeline, {"attention": "sage"}, "cpu")
    optimize(pipeline, {"attention": "native"}, "cpu")
