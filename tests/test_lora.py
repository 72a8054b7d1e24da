"""LoRAs: found and checked, worn and taken off, packed as alone, alone as diffusers does it itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import load as load_sweep
from asked import prepare
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from hub import COMMIT, Hub, serving
from loras import layers, save_lora
from safetensors.torch import load_file

import schedcmp
from schedcmp.axes import lora_name
from schedcmp.checkpoint.adapters import WEIGHTS, find_adapter
from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.source import ModelSpec
from schedcmp.checkpoint.wardrobe import Wardrobe
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.errors import CheckpointError, RequestError
from schedcmp.prepare.loras import Loras as FoundLoras
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.table import builtin_registry
from schedcmp.report.paste import FORMS
from schedcmp.runs.engines import Engines
from schedcmp.runs.pending import pending_cells
from schedcmp.store.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::schedcmp.SchedcmpWarning"),
    pytest.mark.usefixtures("coarse_references"),
]
QUANTIZED = "{id: builtin:tiny, quantize: int8}"
SCHEDULERS = ("ddim", "euler-a", "lcm", "heun")
TINY = inspect(ModelSpec("builtin:tiny"))
Loras = dict[str, str]  # what each is worn as → its folder


def plain() -> Any:
    """diffusers' own pipeline, with nothing of ours."""
    pipeline = StableDiffusionPipeline.from_pretrained(TINY.path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two LoRAs: of the UNet and the text encoder, and of the UNet alone, where they share layers."""
    place, pipeline = tmp_path_factory.mktemp("loras"), plain()
    both = layers(pipeline.text_encoder, "text_encoder", "q_proj", "v_proj", seed=1)
    return {
        "a": save_lora(place / "a", layers(pipeline.unet, "unet", "to_q", "conv1", "conv_in"), both),
        "b": save_lora(place / "b", layers(pipeline.unet, "unet", "to_q", "to_out.0", "time_emb_proj", seed=2)),
    }


def text(folders: dict[str, Path], **weights: float) -> str:
    """`Cell.lora` for some of them at once."""
    adapters = [
        [str(folders[n]), WEIGHTS, weight, find_adapter(str(folders[n])).digest] for n, weight in weights.items()
    ]
    return json.dumps({"name": "+".join(weights), "adapters": adapters}) if weights else ""


@pytest.fixture(scope="module")
def bench(folders: dict[str, Path]) -> Workbench:
    pipeline, config = load(TINY, "cpu"), mended(TINY.scheduler_config, TINY.pipeline_class)
    adapters = [find_adapter(str(folder)) for folder in folders.values()]
    registry = builtin_registry()
    recipes = {name: resolve(registry.entry(name), config) for name in SCHEDULERS}
    return Workbench(pipeline, recipes, wear=Wardrobe(pipeline, {a.digest: a for a in adapters}).wear)


def cells(lora: str, schedulers: tuple[str, ...] = SCHEDULERS, seeds: tuple[int, ...] = (0, 1)) -> list[Cell]:
    one = Cell("", 0, "", "", "default", 3, 0, "p", "a red circle on a blue background", "", 2.0, None, None, lora=lora)
    return [
        replace(one, id=f"{lora} {name} {seed}", scheduler=name, seed=seed) for name, seed in product(schedulers, seeds)
    ]


def alone(bench: Workbench, cells: list[Cell]) -> dict[str, CellResult]:
    return {r.cell.id: r for r in SoloEngine(bench, Measuring(timed=False)).run(cells)}


def pixels(result: CellResult) -> Any:
    assert result.status == "ok", result.error
    return np.asarray(result.image, int)


WORN = ({}, {"a": 1.0}, {"b": 1.0}, {"b": 0.25}, {"a": 0.5, "b": -0.5})


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_alone_is_diffusers_own_with_the_same_loras_bit_for_bit(bench: Workbench, folders: dict[str, Path]) -> None:
    theirs = plain()
    for name, folder in folders.items():
        theirs.load_lora_weights(folder, adapter_name=f"mine_{name}")
    seen = []
    for worn in (*WORN[1:], *WORN[1:]):  # again: nothing is left of what was worn between
        (cell,) = cells(text(folders, **worn), ("ddim",), (3,))
        theirs.set_adapters([f"mine_{name}" for name in worn], list(worn.values()))
        theirs.scheduler = bench.recipes["ddim"].build(0)
        image = theirs(
            cell.prompt, num_inference_steps=3, guidance_scale=2.0, generator=torch.Generator().manual_seed(3)
        ).images[0]
        seen.append(pixels(alone(bench, [cell])[cell.id]))
        assert np.array_equal(seen[-1], np.asarray(image, int))
    assert len({image.tobytes() for image in seen}) == len(WORN) - 1  # each does something, and something else


def test_without_a_lora_it_is_as_if_none_were_loaded(bench: Workbench, folders: dict[str, Path]) -> None:
    untouched = Workbench(load(TINY, "cpu"), bench.recipes)
    expected = alone(untouched, cells(""))
    alone(bench, cells(text(folders, a=1.0), ("ddim",), (0,)))
    for id_, result in alone(bench, cells("")).items():
        assert np.array_equal(pixels(result), pixels(expected[id_]))
    models = bench.pipeline.unet, untouched.pipeline.unet
    mine, theirs = ([type(module) for module in model.modules()] for model in models)
    assert mine == theirs  # not even a wrapper that does nothing


def test_packed_is_alone_however_loras_are_mixed(bench: Workbench, folders: dict[str, Path], latents: Any) -> None:
    mixed = [cell for group in zip(*(cells(text(folders, **worn)) for worn in WORN), strict=True) for cell in group]
    expected = alone(bench, mixed)
    expected_latents = dict(latents.of)
    latents.of.clear()
    got = {r.cell.id: r for r in PackedEngine(bench, lambda cell: cell.steps, 8).run(mixed)}
    assert {*got} == {*expected}
    assert max(np.abs(pixels(got[i]) - pixels(e)).max() for i, e in expected.items()) <= 1
    assert all(float((latents.of[i] - e).abs().max() / e.std()) < 1e-4 for i, e in expected_latents.items())
    assert {i: r.nfe for i, r in got.items()} == {i: r.nfe for i, r in expected.items()}


# --- found or refused


def other(folders: dict[str, Path], tmp_path: Path, change: Callable[[str], str], **more: Any) -> Path:
    """The LoRA `a` with other names of tensors."""
    tensors = load_file(folders["a"] / WEIGHTS)
    return save_lora(tmp_path / "other", {change(name): value for name, value in tensors.items()} | more)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def writing(lora: str, **changes: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        keys = {"model": "builtin:tiny", "prompt": "a red star", "steps": "[2]", "schedulers": "[ddim]"} | changes
        path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()) + f"lora: {lora}\n")
        return path

    return writing


def test_a_sweep_unrolls_weights_and_combinations(folders: dict[str, Path], write: Callable[..., Path]) -> None:
    a, b = folders["a"], folders["b"] / WEIGHTS
    sweep = write(f"[none, {a}, {{path: {b}, weight: [0.5, 2]}}, [{a}, {{path: {b}, weight: 0.5}}]]")
    found = prepare(sweep)
    assert [lora_name(cell.lora) for cell in found.plan.cells] == ["none", "a", "b 0.5", "b 2", "a + b 0.5"]
    assert [len(cell.worn) for cell in found.plan.cells] == [0, 1, 1, 1, 2]
    assert len({cell.id for cell in found.plan.cells}) == 5
    assert len({cell.task for cell in found.plan.cells}) == 5
    assert found.plan.cells[0].id == prepare(write("none")).plan.cells[0].id


def test_a_cell_is_known_by_its_loras_content(
    folders: dict[str, Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    moved = save_lora(tmp_path / "moved", load_file(folders["a"] / WEIGHTS), name="x.safetensors")
    first, same, changed = (
        prepare(write(str(place))).plan.cells[0]
        for place in (folders["a"], moved, other(folders, tmp_path, str, **{"unet.x.lora_A.weight": torch.ones(2, 2)}))
    )
    assert first.id == same.id
    assert first.task == same.task
    assert changed.id != first.id


WRONG = {
    "nowhere.safetensors": "no such file or folder",
    "builtin:tiny": "is no LoRA of this installation",
    "builtin:../tiny-lcm": "is no LoRA of this installation",
    "{path: ., file: ../x.safetensors}": "has no '../x.safetensors' of its own",
    "{path: ., weight: many}": "expected a finite number",
    "{path: ., wight: 1}": "wight",
    "[]": "is an empty list",
    "[[a, a]]": "has the same LoRA twice at once",
    "[{path: a, name: x}, {path: b, name: x}]": "two values are called 'x'",
}


@pytest.mark.parametrize("lora", WRONG)
def test_what_is_no_lora_is_refused_with_its_line(lora: str, write: Callable[..., Path]) -> None:
    with pytest.raises(RequestError, match=r"sweep\.yaml:5") as raised:
        prepare(write(lora))
    assert WRONG[lora] in str(raised.value)


def test_files_that_are_no_lora_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    whole = TINY.path / "unet/diffusion_pytorch_model.safetensors"
    pickled, empty, two = tmp_path / "x.bin", tmp_path / "empty", tmp_path / "two"
    pickled.write_bytes(b"x")
    empty.mkdir()
    for name in ("one.safetensors", "two.safetensors"):
        save_lora(two, load_file(folders["b"] / WEIGHTS), name=name)
    dora = other(folders, tmp_path, lambda name: name.replace("lora_A.weight", "dora_scale"))
    for path, why in (
        (whole, "belongs under `model`"),
        (pickled, "is pickled"),
        (empty, "no .safetensors file is there"),
        (two, "say which by `file`: one.safetensors, two.safetensors"),
        (dora, "DoRA"),
    ):
        with pytest.raises(CheckpointError, match=why):
            find_adapter(str(path))
    assert find_adapter(str(two), "two.safetensors").digest == find_adapter(str(folders["b"])).digest


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants, hf_api

    several = save_lora(tmp_path / "several", load_file(folders["a"] / WEIGHTS), name="a.safetensors")
    save_lora(several, load_file(folders["b"] / WEIGHTS), name="b.safetensors")
    (several / "b.bin").write_bytes(b"x")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving({"tests/one": folders["a"], "tests/several": several}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
        yield hub


def test_a_lora_on_the_hub_is_the_file_that_it_is_elsewhere(
    hub: Hub, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {name: find_adapter(str(folder)).digest for name, folder in folders.items()}
    assert find_adapter("tests/one").digest == digests["a"]
    assert find_adapter("tests/several", "b.safetensors", COMMIT).digest == digests["b"]
    assert not [path for path in hub.requests if "several/resolve" in path and "b.safetensors" not in path]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_adapter("tests/one").digest == digests["a"]
    with pytest.raises(CheckpointError, match="not complete in the local cache"):
        find_adapter("tests/missing")


def test_the_hubs_refusals_are_told(hub: Hub) -> None:
    for place, file, why in (
        ("tests/several", None, "say which by `file`: a.safetensors, b.safetensors"),
        ("tests/several", "b.bin", "has no 'b.bin' of its own"),
        ("tests/missing", None, "no such folder here, and no such model on the hub"),
    ):
        with pytest.raises(CheckpointError, match=why):
            find_adapter(place, file)


def test_a_lora_at_an_address_is_fetched(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for address in (f"file://{folders['a']}", f"file://{folders['a'] / WEIGHTS}"):
        assert find_adapter(address).digest == find_adapter(str(folders["a"])).digest
    with pytest.raises(CheckpointError, match="no LoRA is there"):
        find_adapter(f"file://{tmp_path}/nothing")


def test_options_of_other_places_are_refused(folders: dict[str, Path]) -> None:
    for place, file, revision, why in (
        (folders["a"], None, "main", "`revision` is for a hub id"),
        (folders["a"] / WEIGHTS, WEIGHTS, None, "`file` is for a folder or hub id"),
    ):
        with pytest.raises(CheckpointError, match=why):
            find_adapter(str(place), file, revision)


MISFITS: dict[str, Callable[[str], str]] = {
    "of another family": lambda name: name.replace("unet.", "transformer.").replace("text_encoder.", "transformer."),
    "of other blocks": lambda name: name.replace("down_blocks", "layers"),
    "one layer too many": lambda name: name.replace("unet.conv_in.", "unet.conv_off."),
}


@pytest.mark.parametrize("how", MISFITS)
def test_a_lora_that_does_not_fit_is_refused_with_its_line(
    how: str, folders: dict[str, Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    sweep = write(f"[none, {folders['b']}, {other(folders, tmp_path, MISFITS[how])}]")
    with pytest.raises(RequestError, match=r"sweep\.yaml:5: lora: .*other does not fit this StableDiffusionPipeline"):
        prepare(sweep).loader.load()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"executor": "ray"}, "executor: ray takes none"),
        ({"backend": "jax"}, "backend: jax takes none"),
    ],
)
def test_where_none_can_be_worn_it_is_refused(
    changes: dict[str, str], why: str, folders: dict[str, Path], write: Callable[..., Path]
) -> None:
    pytest.importorskip("jax" if "backend" in changes else "torch")
    with pytest.raises(RequestError, match=r"sweep\.yaml:\d: lora: .*") as raised:
        prepare(write(str(folders["a"]), **changes))
    assert why in str(raised.value)
    prepare(write("none", **({} if "backend" in changes else changes)))


@pytest.mark.parametrize("options", ["{offload: true}", "{compile: regional}"])
def test_optimized_models_wear_them(
    options: str, folders: dict[str, Path], write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled programs are run by torch itself: its code generator takes minutes."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode=None, **more: real(f, **{**more, "backend": "eager"}))
    made = []
    for optimize in ("{}", options):
        lora = f"[none, {folders['a']}, [{{path: {folders['a']}, weight: 0.5}}, {folders['b']}]]"
        prepared = prepare(write(lora, optimize=optimize, metrics="off", timing="off"))
        results = Engines(prepared, prepared.loader.load(), lambda n: None).other.run(prepared.supported)
        made.append([pixels(r) for r in sorted(results, key=lambda r: r.cell.index)])
        told = any("compiled once for each LoRA" in text for text in prepared.warnings)
        assert told == ("compile" in optimize)
    assert not np.array_equal(made[0][0], made[0][1])
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(*made, strict=True))


def test_quantized_weights_are_refused_or_worn_on(folders: dict[str, Path], write: Callable[..., Path]) -> None:
    sweep, source = load_sweep(write(str(folders["a"])))
    with pytest.raises(RequestError, match=r"lora: none is worn on bnb-4bit weights, which unet has; .* int8 or fp8"):
        FoundLoras(sweep, source, replace(TINY, quantized={"unet": "bnb-4bit"}))
    pytest.importorskip("torchao")
    made = {}
    for engine, model in (("solo", "builtin:tiny"), ("solo", QUANTIZED), ("packed", QUANTIZED)):
        prepared = prepare(write(f"[none, {folders['a']}]", model=model, engine=engine, metrics="off", timing="off"))
        results = Engines(prepared, prepared.loader.load(), lambda n: None).other.run(prepared.supported)
        made[engine, model] = [pixels(r) for r in sorted(results, key=lambda r: r.cell.index)]
    plain, alone, packed = made.values()
    assert not np.array_equal(*alone)
    for one, other, own in zip(alone, packed, plain, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
        assert 0 < np.abs(one.astype(int) - own).mean() < 1


def test_a_lora_of_kohyas_scripts_is_converted(folders: dict[str, Path], tmp_path: Path, bench: Workbench) -> None:
    """Names as `lora_unet_..._to_q.lora_down.weight`, and an alpha beside them."""
    tensors = load_file(folders["b"] / WEIGHTS)
    chosen = {name: value for name, value in tensors.items() if "to_q" in name or "to_out" in name}
    kohya = {}
    for name, value in chosen.items():
        layer = name.removeprefix("unet.").replace(".lora_A.weight", "").replace(".lora_B.weight", "")
        end = "lora_down.weight" if "lora_A" in name else "lora_up.weight"
        kohya[f"lora_unet_{layer.replace('.', '_')}.{end}"] = value
        kohya[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(2.0)
    folders = {
        "same": save_lora(tmp_path / "same", chosen),
        "kohya": save_lora(tmp_path / "kohya", kohya),
    }
    found = {name: find_adapter(str(folder)) for name, folder in folders.items()}
    pipeline = load(TINY, "cpu")
    other = Workbench(pipeline, bench.recipes, wear=Wardrobe(pipeline, {a.digest: a for a in found.values()}).wear)
    images = [
        pixels(next(iter(alone(other, cells(text(folders, **{name: 1.0}), ("ddim",), (0,))).values())))
        for name in folders
    ]
    assert np.array_equal(*images)


@pytest.fixture(scope="module")
def made(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> schedcmp.Run:
    both = {"name": "both", "adapters": [{"path": str(folders["a"]), "weight": 0.5}, str(folders["b"])]}
    return schedcmp.run(
        model="builtin:tiny", prompt="a red star", guidance_scale=2, schedulers=["ddim", "euler-a"], steps=2, seeds=7,
        lora=["none", str(folders["a"] / WEIGHTS), both], metrics=["reference"], progress=False,
        output=tmp_path_factory.mktemp("run") / "run",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_a_run_keeps_each_apart_and_pasted_programs_make_its_images(made: schedcmp.Run) -> None:
    assert len({stored.image_path for stored in made.cells}) == len(made.cells) == 6
    assert {stored.result.status for stored in made.cells} == {"ok"}
    near = {lora_name(c.cell.lora): c.metrics["reference_rmse"] for c in made.cells if c.cell.scheduler == "ddim"}
    assert {*near} == {"none", "a", "both"}  # each is compared with its own converged image
    assert max(near.values()) < 1.5
    for stored in made.cells:
        if stored.result.timings:  # made alone
            names: dict[str, Any] = {}
            exec(made.code(stored), names)
            assert np.array_equal(np.asarray(names["image"]), np.asarray(made.image(stored))), made.code(stored)


def test_other_programs_are_told_of_loras(made: schedcmp.Run) -> None:
    texts = {c.cell.lora and lora_name(c.cell.lora): c for c in made.cells if c.cell.scheduler == "euler-a"}
    both, none = texts["both"], texts[""]
    assert "a red star <lora:a:0.5> <lora:b:1>" in made.code(both, "a1111")
    assert "LoraLoader: a.safetensors, strength 0.5" in made.code(both, "comfyui")
    assert "lora: b.safetensors, weight 1" in made.code(both, "invokeai")
    assert all("lora" not in made.code(none, form).lower() for form in FORMS)
    nodes = json.loads(made.code(both, "comfyui-workflow"))
    assert [nodes[n]["inputs"]["model"] for n in ("8", "9", "5")] == [["1", 0], ["8", 0], ["9", 0]]


def test_the_resolved_sweep_repeats_the_run(made: schedcmp.Run) -> None:
    again = prepare(made.folder / "sweep.yaml")
    assert [c.id for c in again.plan.cells] == [c.cell.id for c in made.cells]
    with Store.open(made.folder) as store:
        assert pending_cells(again, store) == []


def test_exclude_and_zip_know_it(folders: dict[str, Path], write: Callable[..., Path]) -> None:
    sweep = write(f"[none, {folders['a']}]", guidance_scale="[2, 1]", zip="[lora, guidance_scale]")
    assert [(lora_name(c.lora), c.guidance_scale) for c in prepare(sweep).plan.cells] == [("none", 2), ("a", 1)]
    assert [lora_name(c.lora) for c in prepare(write(f"[none, {folders['a']}]", exclude="[{lora: a}]")).plan.cells] == [
        "none"
    ]


# --- flow matching


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_a_lora_of_a_transformer_packs_and_is_diffusers_own(tmp_path: Path) -> None:
    flow = inspect(ModelSpec("builtin:tiny-flow"))
    theirs = StableDiffusion3Pipeline.from_pretrained(flow.path, text_encoder_3=None, tokenizer_3=None)
    theirs.set_progress_bar_config(disable=True)
    parts = (
        layers(theirs.transformer, "transformer", "to_q", "to_add_out", "ff.net.2"),
        layers(theirs.text_encoder, "text_encoder", "v_proj", seed=1),
    )
    folder = save_lora(tmp_path / "flow", *parts)
    found, pipeline = find_adapter(str(folder)), load(flow, "cpu")
    config, registry = mended(flow.scheduler_config, flow.pipeline_class), builtin_registry()
    recipes = {name: resolve(registry.entry(name), config) for name in ("euler", "heun")}
    bench = Workbench(pipeline, recipes, wear=Wardrobe(pipeline, {found.digest: found}).wear)
    mixed = [c for text_ in ("", text({"flow": folder}, flow=0.5)) for c in cells(text_, ("euler", "heun"), (0,))]
    expected = alone(bench, mixed)
    got = {r.cell.id: r for r in PackedEngine(bench, lambda cell: cell.steps, 8).run(mixed[::-1])}
    assert max(np.abs(pixels(got[i]) - pixels(e)).max() for i, e in expected.items()) <= 1
    theirs.load_lora_weights(folder, adapter_name="mine")
    for cell in (mixed[0], mixed[2]):
        theirs.set_adapters(["mine"], [0.5]) if cell.lora else theirs.disable_lora()
        if cell.lora:
            theirs.enable_lora()
        image = theirs(
            cell.prompt, num_inference_steps=3, guidance_scale=2.0, generator=torch.Generator().manual_seed(0)
        ).images[0]
        assert np.array_equal(pixels(expected[cell.id]), np.asarray(image, int)), cell.lora
    assert not np.array_equal(pixels(expected[mixed[0].id]), pixels(expected[mixed[2].id]))
