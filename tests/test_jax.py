"""`backend: jax`: the same images as torch's, solo, packed, on several devices and as whole solves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import checkpoints
import families
import jax
import numpy as np
import pytest
import torch
from asked import load as read_sweep
from asked import prepare
from diffusers import UNet2DConditionModel
from latents import Latents
from test_families import recipes_for
from test_packed import alone, cells_of, packed, ran, recipes  # noqa: F401
from test_run import run

from schedcmp.backend.denoiser import Denoiser, OnAllDevices, to_numpy, to_torch
from schedcmp.backend.handover import hand_over
from schedcmp.backend.linear import plan
from schedcmp.backend.scan import SolvingWorkbench
from schedcmp.backend.support import _NOT_WITH_JAX, unknown_config
from schedcmp.backend.unet import nested, unet
from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.engine.batch import BatchSize
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.errors import CheckpointError, RegistryError, SweepError
from schedcmp.registry.build import resolve
from schedcmp.registry.entry import Entry
from schedcmp.registry.preflight import preflight

CLOSE = 1e-4  # of the latents' scale
TESTS = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def sd_1(**options: Any) -> UNet2DConditionModel:
    shape = {"attention_head_dim": 2, "cross_attention_dim": 24, "layers_per_block": 2} | options
    return UNet2DConditionModel(sample_size=8, block_out_channels=(8, 16, 16, 16), norm_num_groups=4, **shape)


UNETS: dict[str, Callable[[], UNet2DConditionModel]] = {
    "sd-1.5": sd_1,
    "sd-2.1": partial(
        sd_1, layers_per_block=1, attention_head_dim=(1, 2, 4, 4), use_linear_projection=True, upcast_attention=True
    ),
    "sdxl": lambda: families.sdxl().unet,
    "sdxl-deep": lambda: checkpoints.unet(
        transformer_layers_per_block=[1, 3], use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=16 + 6 * 4,
    ),
    "of-one-level": checkpoints.quick_unet,
    "lcm": partial(checkpoints.unet, time_cond_proj_dim=6),
    "tiny": lambda: load(inspect(ModelSpec("builtin:tiny")), "cpu").unet,
}  # fmt: skip


def inputs_of(model: Any, size: tuple[int, int]) -> dict[str, Any]:
    torch.manual_seed(1)
    found = {
        "sample": torch.randn(3, model.config.in_channels, *size),
        "timestep": torch.tensor([1.0, 500.5, 999.0]),
        "encoder_hidden_states": torch.randn(3, 7, model.config.cross_attention_dim),
    }
    if model.config.addition_embed_type:
        sizes = torch.randint(0, 1024, (3, 6)).float()
        found["added_cond_kwargs"] = {"text_embeds": torch.randn(3, 16), "time_ids": sizes}
    if model.config.time_cond_proj_dim:
        found["timestep_cond"] = torch.randn(3, model.config.time_cond_proj_dim)
    return found


def in_jax(model: Any) -> Denoiser:
    def evaluated(weights: Any, *, sample: Any, **rows: Any) -> Any:
        return unet(model.config, weights, sample.transpose(0, 2, 3, 1), **rows).transpose(0, 3, 1, 2)

    return Denoiser(OnAllDevices(nested({k: to_numpy(v) for k, v in model.state_dict().items()}), evaluated))


@pytest.mark.parametrize("name", UNETS)
def test_the_unet_is_torchs(name: str) -> None:
    """Measured: 2e-6 to 4e-6."""
    torch.manual_seed(0)
    model = UNETS[name]().eval()
    assert unknown_config(model.config) is None
    given = inputs_of(model, (10, 6) if name == "sd-2.1" else (16, 16))  # 10 is odd after one halving
    with torch.no_grad():
        expected = model(**given).sample
    got = in_jax(model)(**given).sample
    assert float((got - expected).abs().max() / expected.std()) < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_as_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = checkpoints.unet().eval()
    given = inputs_of(model, (8, 8))
    with torch.no_grad():
        expected = model(**given).sample
    model = model.to(dtype)
    half = {k: v if k == "timestep" else v.to(dtype) for k, v in given.items()}
    got = in_jax(model)(**half, return_dict=False)[0]
    with torch.no_grad():
        theirs = model(**half).sample
    assert got.dtype is dtype
    ours_off, theirs_off = ((x.float() - expected).abs().mean() for x in (got, theirs))
    assert ours_off < 1.5 * theirs_off


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_go_to_jax_and_back(dtype: torch.dtype) -> None:
    tensor = torch.randn(2, 3).to(dtype)
    assert torch.equal(to_torch(np.asarray(jax.device_put(to_numpy(tensor)))), tensor)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("down_block_types", ["AttnDownBlock2D"]),
        ("class_embed_type", "timestep"),
        ("encoder_hid_dim_type", "text_proj"),
        ("only_cross_attention", [True, False]),
        ("norm_num_groups", None),
        ("a_key_of_tomorrow", 3),
    ],
)
def test_a_config_that_is_not_known_is_refused_by_key(key: str, value: Any) -> None:
    model = checkpoints.unet()
    assert unknown_config(model.config) is None
    why = unknown_config({**model.config, key: value})
    assert why is not None
    assert f"{key}: {value!r}" in why


def test_an_argument_that_is_not_known_is_refused() -> None:
    model = checkpoints.unet().eval()
    with pytest.raises(TypeError, match="takes no attention_mask"):
        in_jax(model)(**inputs_of(model, (8, 8)), attention_mask=torch.ones(3, 7), cross_attention_kwargs=None)


def pipelines(folder: Path, solve: Any = "steps") -> tuple[Any, Any]:
    theirs, ours = (load(inspect(ModelSpec(str(folder))), "cpu") for _ in range(2))
    device = ours.unet.device
    hand_over(ours, solve)
    assert ours.unet.device == device
    assert sum(p.numel() for p in ours.unet.parameters()) == 0
    return theirs, ours


def worst(latents: Latents, expected: dict[str, torch.Tensor]) -> float:
    assert latents.of.keys() == expected.keys()
    return max(float((latents.of[i] - x).abs().max() / x.std()) for i, x in expected.items())


def registry_distance(sd1: Path, recipes: Any, latents: Latents, max_batch: int) -> float:  # noqa: F811
    """The whole registry packed with JAX against torch alone, with and without guidance."""
    theirs, ours = pipelines(sd1)
    cells = cells_of(recipes, (4,), seeds=(0,))
    cells = [replace(c, guidance_scale=(1.0, 3.0, 7.5)[i % 3]) for i, c in enumerate(cells)]
    alone(theirs, recipes, cells)
    expected = dict(latents.of)
    latents.of.clear()
    engine = packed(ours, recipes, max_batch)
    engine._models._fixed_shapes = True
    results = ran(engine, cells)
    assert not [r.error for r in results.values() if r.status == "failed"]
    return worst(latents, expected)


@pytest.mark.slow
def test_the_whole_registry_is_torchs(sd1: Path, recipes: Any, latents: Latents) -> None:  # noqa: F811
    assert len(recipes) > 40
    assert registry_distance(sd1, recipes, latents, max_batch=16) < CLOSE


def solved(pipeline: Any, recipes: Any, cells: Any, **options: Any) -> Any:  # noqa: F811
    bench = SolvingWorkbench(pipeline, recipes)
    return ran(PackedEngine(bench, lambda c: preflight(recipes[c.scheduler], c.steps).nfe, 8, **options), cells)


def linear_ones(recipes: Any) -> list[str]:  # noqa: F811
    def is_linear(name: str) -> bool:
        try:
            return bool(plan(recipes[name], 4))
        except RegistryError:
            return False

    return list(filter(is_linear, recipes))


def scan_distance(sd1: Path, recipes: Any, latents: Latents, names: list[str]) -> float:  # noqa: F811
    theirs, ours = pipelines(sd1, "scan")
    cells = cells_of(names, (4,), seeds=(0,)) + cells_of(names[::3], (9,), seeds=(0,))
    cells = [replace(c, guidance_scale=(1.0, 3.0, 7.5)[i % 3]) for i, c in enumerate(cells)]
    expected_results = alone(theirs, recipes, cells)
    expected = dict(latents.of)
    latents.of.clear()
    told: list[int] = []
    results = solved(ours, recipes, cells, evaluated=told.append, fixed_shapes=True)
    found, wanted = ({i: (r.nfe, r.timesteps) for i, r in rs.items()} for rs in (results, expected_results))
    assert found == wanted
    assert sum(told) == sum(r.nfe or 0 for r in results.values())
    return worst(latents, expected)


@pytest.mark.slow
def test_whole_solves_are_diffusers_over_the_registry(sd1: Path, recipes: Any, latents: Latents) -> None:  # noqa: F811
    names = linear_ones(recipes)
    known = {"ddim", "pndm", "lms", "euler", "heun", "kdpm2", "dpmpp-2m", "dpmpp-2s", "dpmpp-3m", "deis", "unipc"}
    assert known <= set(names)
    assert not [name for name in names if recipes[name].entry.noise]
    assert scan_distance(sd1, recipes, latents, names) < CLOSE


def test_a_whole_solve_alone_is_timed_as_one_call(sd1: Path, recipes: Any) -> None:  # noqa: F811
    _, ours = pipelines(sd1, "scan")
    (cell,) = cells_of(["dpmpp-2m"], (5,))
    result = ran(SoloEngine(SolvingWorkbench(ours, recipes), Measuring()), [cell])[cell.id]
    assert result.nfe == len(result.timesteps) == 5
    assert result.timings[0].denoiser_s > 0


ON_FOUR = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import jax, pytest, torch
assert jax.device_count() == 4
import test_jax, test_packed, latents
folder = Path({folder!r})
recipes = test_packed.recipes.__wrapped__(folder)
with pytest.MonkeyPatch.context() as patch:
    seen = latents.Latents(patch)
    some = dict([*recipes.items()][::6])  # whether all are right, one device has told
    print(test_jax.registry_distance(folder, some, seen, max_batch=6))  # which 4 does not divide
    seen.of.clear()
    print(test_jax.scan_distance(folder, recipes, seen, ["ddim", "pndm", "dpmpp-2m", "heun"]))
print([line for solve in ("steps", "scan") for line in test_jax.collectives(folder, solve)])
"""


def collectives(folder: Path, solve: str) -> list[str]:
    """What devices tell each other in a compiled evaluation, or solve."""
    _, ours = pipelines(folder, solve)
    inner, width = ours.unet.forward._on_devices, ours.unet.config.cross_attention_dim
    shapes, shared = {"sample": (4, 8, 8), "timesteps": (), "states": (8, width)}, ()
    if solve == "scan":
        solve_shapes = {"guidance": (), "coefficients": (33, 33), "visited": (32,), "states": (2, 8, width)}
        shapes, shared = {"noise": (4, 8, 8)} | solve_shapes, (3,)
    rows = {name: torch.zeros(8, *shape) for name, shape in shapes.items()}
    text = inner._function.lower(inner._weights, *shared, **inner._placed(rows, 8)).compile().as_text()
    return re.findall(r"(?:all-|collective-|reduce-scatter)[\w-]*\(", text)


@pytest.mark.slow
def test_four_devices_do_the_same_and_need_nothing_of_each_other(sd1: Path) -> None:
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"}
    code = ON_FOUR.format(tests=str(TESTS), folder=str(sd1))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, scan, told = done.stdout.splitlines()[-3:]
    assert float(steps) < CLOSE
    assert float(scan) < CLOSE
    assert told == "[]"


def config_of(sd1: Path, **changes: Any) -> dict[str, Any]:
    return {**inspect(ModelSpec(str(sd1))).scheduler_config, **changes}


@pytest.mark.parametrize(
    ("cls", "options", "reason"),
    [
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample"),
        ("DPMSolverMultistepScheduler", {"thresholding": True}, "thresholding"),
        ("EulerAncestralDiscreteScheduler", {}, "draws noise"),
        ("DDPMScheduler", {"clip_sample": False}, "draws noise"),
        ("schedcmp.samplers.dpm.dpm_adaptive", {}, "chooses its steps"),
        ("test_jax.sample_bent", {}, "is not linear"),
        ("test_jax.sample_shifted", {}, "neither latents nor predictions"),
    ],
)
def test_what_is_not_linear_is_refused_with_the_reason(sd1: Path, cls: str, options: Any, reason: str) -> None:
    """The entries say nothing of themselves: what draws noise or bends is found out."""
    entry = Entry(name="mine", cls=cls, options=options, origin="a test")
    with pytest.raises(RegistryError, match=reason):
        plan(resolve(entry, config_of(sd1)), 4)


def sample_bent(model: Any, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """On basis vectors, whose elements are 0 and 1, it looks linear."""
    for sigma, following in pairwise(sigmas):
        x = x + ((x - model(x, sigma)) / sigma) ** 2 * (following - sigma)
    return x


def sample_shifted(model: Any, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    for sigma in sigmas[:-1]:
        x = model(x, sigma) + 0.1
    return x


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises((SweepError, CheckpointError)) as error:
        prepare(path, ("backend=jax", *overrides))
    return str(error.value)


def test_options_of_torch_are_refused_by_place(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(optimize={"tf32": True, "compile": "default"})
    assert "compile: has no place with backend: jax" in refused(path)
    assert refused(path).startswith(f"{path}:")
    assert prepare(write_sweep(optimize={"tf32": True}), ("backend=jax",)).is_compiled


def test_without_the_extra_the_message_installs_it(
    write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("schedcmp.backend.support.find_spec", lambda name: None if name == "jax" else real(name))
    assert 'pip install "schedcmp[jax]"' in refused(write_sweep())


def test_scan_without_jax_is_refused(write_sweep: Callable[..., Path]) -> None:
    with pytest.raises(SweepError, match="backend: jax"):
        prepare(write_sweep(), ("jax.solve=scan",))


def test_a_unet_that_is_not_known_is_refused(write_sweep: Callable[..., Path], sd1: Path, tmp_path: Path) -> None:
    families.ready(families.sd).save_pretrained(tmp_path / "odd")
    config = tmp_path / "odd/unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"resnet_time_scale_shift": "scale_shift"}))
    assert "resnet_time_scale_shift: 'scale_shift'" in refused(write_sweep(model=str(tmp_path / "odd")))


def test_keys_and_environment_tell_the_backend(write_sweep: Callable[..., Path]) -> None:
    torchs, steps, scan = (
        prepare(write_sweep(schedulers=["ddim"]), overrides)
        for overrides in ((), ("backend=jax",), ("backend=jax", "jax.solve=scan"))
    )
    assert len({p.origin.keys["ddim"] for p in (torchs, steps, scan)}) == 3
    assert "backend" not in torchs.origin.environment
    assert steps.origin.environment["jax"] == jax.__version__
    assert steps.origin.environment["jax_devices"] == "1 × cpu"
    assert torchs.origin.machine != steps.origin.machine


def test_a_run_with_jax_goes_on_where_it_stopped(
    write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", write_sweep(), "-o", tmp_path / "run"]
    assert run(*arguments, "--set", "backend=jax") == 0
    assert "are there already" not in capsys.readouterr().out
    assert run(*arguments, "--set", "backend=jax") == 0
    assert "12 cells are there already" in capsys.readouterr().out
    assert run(*arguments) == 0
    assert "are there already" not in capsys.readouterr().out


def test_a_scanned_run_says_what_cannot_be(
    write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", write_sweep(), "-o", tmp_path / "run", "--set", "backend=jax", "--set", "jax.solve=scan"]
    assert run(*arguments) == 0
    assert "unsupported: euler-a: cannot be solved as a whole: it draws noise" in capsys.readouterr().err
    rows = (tmp_path / "run/results.csv").read_text().splitlines()
    assert sum(",ok," in row for row in rows) == 8


def test_list_compatible_says_what_runs_how(
    sd1: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.truth.quick.quick", lambda *_: {})  # whether they are right is not asked here
    assert run("list-compatible", sd1, "--backend", "jax", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["lms"]["jax"] == {"steps": True, "scan": True, "reason": ""}
    assert rows["ddpm"]["jax"] == {"steps": True, "scan": False, "reason": "draws noise"}
    assert not rows["edm-euler"]["jax"]["steps"]
    assert run("list-compatible", sd1, "--backend", "jax") == 0
    assert "lms and ddpm, which" in capsys.readouterr().out


def test_the_jax_tour_is_the_documents_example() -> None:
    sweep, _ = read_sweep(TESTS.parent / "configs/tour-jax.yaml")
    assert (sweep.schedulers, sweep.steps, sweep.dtype, sweep.backend) == (("dpmpp-2m",), (25,), "bf16", "jax")
    assert sweep.prompt == {"prompt": "a photo of an astronaut riding a horse on mars"}


def test_the_page_names_what_is_refused() -> None:
    page = (TESTS.parent / "docs/jax.md").read_text(encoding="utf-8")
    assert all(f"`{option}`" in page for option in _NOT_WITH_JAX)


def test_the_first_batch_of_a_shape_is_not_judged(
    sd1: Path,
    recipes: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for its compilation, which would look like a batch size that does not pay."""
    judged: list[int] = []
    monkeypatch.setattr(BatchSize, "observe", lambda self, rows, seconds: judged.append(rows))
    _, ours = pipelines(sd1)
    engine = PackedEngine(Workbench(ours, recipes), lambda c: c.steps, fixed_shapes=True)
    ran(engine, cells_of(["ddim"], (5,)))
    assert engine.throughput.forwards == 5
    assert judged == [2] * 4


def test_a_platform_that_is_not_there_is_no_traceback() -> None:
    code = "from schedcmp.backend.runtime import devices; devices()"
    environment = os.environ | {"JAX_PLATFORMS": "cuda"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "RequestError: JAX has no devices here" in done.stderr


@pytest.mark.parametrize("solve", ["steps", "scan"])
def test_stable_diffusion_xl_runs_through_its_pipeline(solve: Any, latents: Latents) -> None:
    theirs, ours = (families.ready(families.sdxl) for _ in range(2))
    hand_over(ours, solve)
    known = recipes_for(theirs, ("ddim", "dpmpp-2m", "heun"))
    cells = cells_of(known, (4,), seeds=(0, 1), width=16, height=16)
    alone(theirs, known, cells)
    expected = dict(latents.of)
    latents.of.clear()
    bench = (SolvingWorkbench if solve == "scan" else Workbench)(ours, known)
    results = ran(PackedEngine(bench, lambda c: c.steps, 4, fixed_shapes=True), cells)
    assert not [r.error for r in results.values() if r.status == "failed"]
    assert worst(latents, expected) < CLOSE
