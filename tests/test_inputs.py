"""Images as inputs: a sweep's is what diffusers' own pipeline makes of it, alone and packed; no file is trusted."""

from __future__ import annotations

import base64
import csv
import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import diffusers
import families
import numpy as np
import pytest
import torch
import transformers
import yaml
from asked import prepare
from PIL import Image
from test_families import half_a_mask, picture
from test_run import run

import schedcmp
from schedcmp.axes import plain_name
from schedcmp.engine.guarded import seeded
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.face.asking import asked
from schedcmp.prepare import Prepared
from schedcmp.records import Cell, CellResult
from schedcmp.report.axes import GridAxes, plan_pages
from schedcmp.report.inputs import inputs
from schedcmp.report.layout import INPUT_SIDE, lay_out
from schedcmp.report.page.data import page_data
from schedcmp.runs.engines import Engines
from schedcmp.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")  # by diffusers' own ControlNet
BETAS = ["euler", "dpmpp-2m", "heun", "euler-a", "res-multistep"]
FLOW = ["flow-euler", "heun", "dpmpp-2m-karras", "euler-a", "res-multistep"]
SHORT = {"max_sequence_length": 8}


def qwen() -> Any:
    """Qwen-Image with random weights."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = ["<pad>", "</s>", "<s>", *(f"<{i}>" for i in range(5)), *sorted(ByteLevel.alphabet())]
    tokenizer = transformers.Qwen2Tokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=512
    )
    rope = {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"}
    text = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024, "pad_token_id": 0, "eos_token_id": 1,
        "bos_token_id": 2, "rope_scaling": rope, "rope_theta": 1e6,
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, hidden_size=32, vision_start_token_id=3, vision_end_token_id=4,
        vision_token_id=5, image_token_id=6, video_token_id=7,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    flow = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    return diffusers.QwenImagePipeline(flow, vae, model, tokenizer, transformer)


def unet_controlnet(pipeline: Any) -> Any:
    return diffusers.ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(8, 8))


def sd3_controlnet(pipeline: Any) -> Any:
    return diffusers.SD3ControlNetModel.from_transformer(
        pipeline.transformer, num_layers=1, num_extra_conditioning_channels=0
    )


def flux_controlnet(pipeline: Any) -> Any:
    names = ("guidance_embeds", "pooled_projection_dim")
    return diffusers.FluxControlNetModel(**shape(pipeline, *names), num_layers=1, num_single_layers=1)


def qwen_controlnet(pipeline: Any) -> Any:
    return diffusers.QwenImageControlNetModel(**shape(pipeline, "out_channels"), num_layers=1)


def shape(pipeline: Any, *more: str) -> dict[str, Any]:
    names = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "axes_dims_rope", *more)
    return {name: pipeline.transformer.config[name] for name in names}


@dataclass(frozen=True)
class Family:
    build: Callable[[], Any]
    name: str  # as its pipelines' class names begin
    controlnet: Callable[[Any], Any]
    schedulers: list[str] = field(default_factory=lambda: BETAS)
    call: Mapping[str, Any] = field(default_factory=dict)
    guidance: float = 3.0


FAMILIES = {
    "sd": Family(families.sd, "StableDiffusion", unet_controlnet),
    "sdxl": Family(families.sdxl, "StableDiffusionXL", unet_controlnet),
    "sd3": Family(lambda: families.sd3(16), "StableDiffusion3", sd3_controlnet, FLOW, SHORT),
    "flux": Family(families.flux, "Flux", flux_controlnet, FLOW, SHORT),
    "qwen": Family(qwen, "QwenImage", qwen_controlnet, FLOW, SHORT),
}
TASKS: dict[str, tuple[str, ...]] = {
    "Img2Img": ("image",),
    "Inpaint": ("image", "mask"),
    "ControlNet": ("control_image",),
}


@dataclass(frozen=True)
class Saved:
    """A family's checkpoint on the disk, with images beside it."""

    family: Family
    folder: Path

    def sweep(self, path: Path, **changes: Any) -> Path:
        data = {
            "model": str(self.folder), "prompt": "a b", "guidance_scale": self.family.guidance, "width": 16,
            "height": 16, "schedulers": self.family.schedulers, "steps": [4, 5], "seeds": "0..1", "timing": "off",
            "metrics": "off", "call": dict(self.family.call),
        }  # fmt: skip
        path.write_text(yaml.safe_dump(data | changes))
        return path


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return saved_checkpoint(FAMILIES[request.param], tmp_path_factory.mktemp(request.param))


def saved_checkpoint(family: Family, folder: Path) -> Saved:
    """A family's checkpoint, and its ControlNet beside it."""
    pipeline = families.ready(family.build)
    pipeline.save_pretrained(folder / "model")
    controlnet = family.controlnet(pipeline)
    for weight in controlnet.parameters():
        if not weight.any():  # as it begins to be trained, it leads nowhere
            torch.nn.init.normal_(weight, std=0.1)
    controlnet.save_pretrained(folder / "controlnet")
    return Saved(family, folder / "model")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, str]:
    made = {"image": picture(0), "mask": half_a_mask(), "control_image": picture(1)}
    for name, image in made.items():
        image.save(tmp_path / f"{name}.png")
    return {name: f"{name}.png" for name in made}


def made(prepared: Prepared, engine: str) -> dict[str, CellResult]:
    engines = Engines(prepared, prepared.loader.load(), lambda evaluations: None)
    run = engines.other if engine == "packed" else engines.timed
    results = {result.cell.id: result for result in run.run(prepared.supported)}
    assert not [result.error for result in results.values() if result.status == "failed"]
    return results


def pixels(image: Any) -> Any:
    return np.asarray(image, int)


def by_diffusers(prepared: Prepared, pipeline: Any, cell: Cell, arguments: Mapping[str, Any]) -> Any:
    generator = torch.Generator().manual_seed(cell.seed)
    torch.manual_seed(cell.seed)  # what SD3's ControlNet is led by is drawn without the generator
    pipeline.scheduler = seeded(prepared.recipes[cell.scheduler].build(cell.seed), generator)
    return pipeline(cell.prompt, num_inference_steps=cell.steps, generator=generator, **arguments).images[0]


@pytest.mark.parametrize("task", TASKS)
def test_as_diffusers_own_pipeline_alone_and_packed(
    saved: Saved, task: str, images: dict[str, str], tmp_path: Path
) -> None:
    keys: dict[str, Any] = {key: images[key] for key in TASKS[task]} | {"zip": [["steps", "seeds"]]}
    keys |= {"controlnet": str(saved.folder.parent / "controlnet")} if task == "ControlNet" else {"strength": 0.7}
    prepared = prepare(saved.sweep(tmp_path / "sweep.yaml", **keys))
    name = f"{saved.family.name}{task}Pipeline"
    assert prepared.checkpoint.pipeline_class == name
    assert len(prepared.supported) == 2 * len(saved.family.schedulers)
    alone, packed = made(prepared, "solo"), made(prepared, "packed")
    cls = getattr(diffusers, name)
    parts = {"controlnet": _controlnet(saved)} if task == "ControlNet" else {}
    pipeline = cls.from_pretrained(saved.folder, **parts)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipeline.set_progress_bar_config(disable=True)
    arguments = _arguments(cls, saved, task, tmp_path)
    for i, result in alone.items():
        own = by_diffusers(prepared, pipeline, result.cell, arguments)
        assert np.array_equal(pixels(own), pixels(result.image)), result.cell.scheduler
        assert np.abs(pixels(packed[i].image) - pixels(own)).max() <= 1, result.cell.scheduler
        assert packed[i].nfe == result.nfe == prepared.cost(result.cell)


def _controlnet(saved: Saved) -> Any:
    folder = saved.folder.parent / "controlnet"
    name = type(saved.family.controlnet(families.ready(saved.family.build))).__name__
    return getattr(diffusers, name).from_pretrained(folder)


def _arguments(cls: Any, saved: Saved, task: str, folder: Path) -> dict[str, Any]:
    import inspect

    takes = inspect.signature(cls.__call__).parameters
    control = "control_image" if "control_image" in takes else "image"
    names = {"image": "image", "mask": "mask_image", "control_image": control}
    given = {names[key]: Image.open(folder / f"{key}.png") for key in TASKS[task]}
    more = {"guidance_scale": saved.family.guidance, "width": 16, "height": 16}
    more |= {} if task == "ControlNet" else {"strength": 0.7}
    return {**given, **{key: value for key, value in more.items() if key in takes}, **saved.family.call}


SMALL = {"schedulers": ["ddim"], "steps": [4], "seeds": 0, "timing": "off", "width": 16, "height": 16}
Write = Callable[..., Path]


def test_a_controlnet_answers_many_cells_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it answers with as many tensors as there are rows."""
    pipeline = families.ready(families.sd)
    pipeline.save_pretrained(tmp_path / "model")
    unet_controlnet(pipeline).save_pretrained(tmp_path / "controlnet")
    saved_picture(tmp_path / "a.png")
    asked, forward = [], diffusers.ControlNetModel.forward

    @functools.wraps(forward)
    def counting(self: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        answer = forward(self, sample, *args, **options)
        asked.append((len(sample), len(answer[0])))
        return answer

    monkeypatch.setattr(diffusers.ControlNetModel, "forward", counting)
    keys = {"control_image": "a.png", "controlnet": str(tmp_path / "controlnet"), "max_batch": 4, "seeds": "0..3"}
    sweep = Saved(FAMILIES["sd"], tmp_path / "model").sweep(tmp_path / "sweep.yaml", **keys)
    made(prepare(sweep), "packed")
    assert {rows for rows, _ in asked} >= {4}
    assert any(rows == blocks for rows, blocks in asked)
    assert sum(rows for rows, _ in asked) > 3 * len(asked)


def saved_picture(path: Path, seed: int = 0, **options: Any) -> str:
    picture(seed).save(path, **options)
    return path.name


def test_the_steps_that_run_follow_the_strength(write_sweep: Write, tmp_path: Path) -> None:
    image = saved_picture(tmp_path / "a.png")
    sweep = SMALL | {"schedulers": ["ddim", "heun"], "steps": [4, 10], "image": image, "strength": [0.5, 1.0]}
    prepared = prepare(write_sweep(**sweep))
    costs = {(c.scheduler, c.steps, c.strength): prepared.cost(c) for c in prepared.supported}
    assert costs == {
        ("ddim", 4, 0.5): 2, ("ddim", 4, 1.0): 4, ("ddim", 10, 0.5): 5, ("ddim", 10, 1.0): 10,
        ("heun", 4, 0.5): 3, ("heun", 4, 1.0): 7, ("heun", 10, 0.5): 9, ("heun", 10, 1.0): 19,
    }  # fmt: skip
    assert {result.cell.id: result.nfe for result in made(prepared, "packed").values()} == {
        cell.id: prepared.cost(cell) for cell in prepared.supported
    }


def test_a_budget_of_evaluations_is_met_at_a_strength(write_sweep: Write, tmp_path: Path) -> None:
    image = saved_picture(tmp_path / "a.png")
    sweep = SMALL | {"schedulers": ["ddim", "heun"], "steps": None, "nfe": [6], "image": image, "strength": 0.5}
    prepared = prepare(write_sweep(**sweep))
    assert [(c.scheduler, c.steps, prepared.cost(c)) for c in prepared.supported] == [("ddim", 13, 6), ("heun", 7, 5)]


def test_without_a_strength_it_is_the_pipelines_own(write_sweep: Write, tmp_path: Path) -> None:
    prepared = prepare(write_sweep(**SMALL, image=saved_picture(tmp_path / "a.png")))
    assert {c.strength for c in prepared.plan.cells} == {0.8}
    half_a_mask().save(tmp_path / "m.png")
    assert {c.strength for c in prepare(write_sweep(**SMALL, image="a.png", mask="m.png")).plan.cells} == {1.0}


def test_too_few_steps_for_a_strength_are_told(write_sweep: Write, tmp_path: Path) -> None:
    image = saved_picture(tmp_path / "a.png")
    prepared = prepare(write_sweep(**SMALL | {"steps": [4, 20]}, image=image, strength=0.2))
    assert any("ddim: of 4 steps none is left at strength 0.2" in text for text in prepared.warnings)
    assert [c.steps for c in prepared.supported] == [20]


def test_a_changed_image_is_another_cell_and_a_run_goes_on(write_sweep: Write, tmp_path: Path) -> None:
    saved_picture(tmp_path / "a.png", 0)
    first = prepare(write_sweep(**SMALL, image="a.png"))
    assert prepare(write_sweep(**SMALL, image="a.png")).plan.cells == first.plan.cells
    picture(0).save(tmp_path / "a.png", optimize=True, compress_level=0)  # other bytes, the same pixels
    assert prepare(write_sweep(**SMALL, image="a.png")).plan.cells == first.plan.cells
    saved_picture(tmp_path / "a.png", 1)
    (other,) = prepare(write_sweep(**SMALL, image="a.png")).plan.cells
    assert other.id != first.plan.cells[0].id
    assert other.task != first.plan.cells[0].task
    (result,) = Engines(first, first.loader.load(), lambda n: None).other.run(first.supported)
    assert result.status == "failed"
    assert "has changed since the run began; run the sweep again" in str(result.error)


def test_several_images_are_an_axis_of_a_run(write_sweep: Write, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a"):
        saved_picture(tmp_path / f"in/{name}.png", ord(name))
    out = tmp_path / "out"
    sweep = write_sweep(**SMALL | {"seeds": "0..1"}, image="in", strength=[0.5, 0.9])
    assert run("run", sweep, "-o", out) == 0
    with Store.open(out) as store:
        cells = list(store.cells())
    assert [plain_name(c.cell.init_image) for c in cells] == ["a"] * 4 + ["b"] * 4
    assert len({c.result.image_sha256 for c in cells}) == 8
    assert "Denoising strength: 0.5" in Image.open(out / str(cells[0].image_path)).text["parameters"]  # type: ignore[attr-defined]
    assert len(list((out / "inputs").glob("*.png"))) == 2
    page = plan_pages(cells, GridAxes())[0]
    (label, shown), *more = inputs(page, out)
    assert (label, shown.getpixel((3, 4)), more) == ("image", picture(ord("a")).getpixel((3, 4)), [])
    again = out / "sweep.yaml"  # from any folder
    assert [c.id for c in prepare(again).plan.cells] == [c.cell.id for c in cells]


def test_images_and_masks_advance_together_and_are_left_out_by_name(write_sweep: Write, tmp_path: Path) -> None:
    for kind in ("in", "masks"):
        (tmp_path / kind).mkdir()
        for i, name in enumerate(("a", "b", "c")):
            saved_picture(tmp_path / f"{kind}/{name}.png", i)
    sweep = SMALL | {"image": "in", "mask": "masks", "zip": ["image", "mask"], "strength": [0.5, 1.0]}
    cells = prepare(write_sweep(**sweep, exclude=[{"image": "b"}, {"strength": 0.5, "mask": "c"}])).plan.cells
    found = [(plain_name(c.init_image), plain_name(c.mask), c.strength) for c in cells]
    assert found == [("a", "a", 0.5), ("a", "a", 1.0), ("c", "c", 1.0)]
    (tmp_path / "masks/c.png").unlink()
    with pytest.raises(SweepError, match=r"sweep.yaml:\d+: zip: .*but image has 3, mask has 2"):
        prepare(write_sweep(**sweep))


def test_strengths_and_images_are_rows_and_columns(write_sweep: Write, tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b")):
        saved_picture(tmp_path / f"{name}.png", i)
    out, grid = tmp_path / "out", {"rows": ["image", "scheduler"], "cols": "strength"}
    assert run("run", write_sweep(**SMALL, image=["a.png", "b.png"], strength=[0.5, 0.8], grid=grid), "-o", out) == 0
    assert [path.name for path in (out / "grids").glob("*.png")] == ["grid.png"]
    with Store.open(out) as store:
        cells = [*store.cells()]
        data = page_data(store, cells, {}, {}, [], running=False)
    (page,) = plan_pages(cells, GridAxes(("init_image", "scheduler"), ("strength",)))
    assert not [*inputs(page, out)]  # they are at the rows' labels
    assert lay_out(page, (16, 16)).label_width > INPUT_SIDE
    values = {axis["name"]: axis["values"] for axis in data["axes"]}
    small = [base64.b64decode(value["picture"].partition(",")[2]) for value in values["init_image"]]
    assert [Image.open(BytesIO(one)).size for one in small] == [picture(0).size] * 2
    assert not any("picture" in value for value in values["strength"])
    assert {path.parts[-4] for path in (out / "images").rglob("*.png")} == {"strength-0.5", "strength-0.8"}
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(plain_name(row["init_image"]), row["strength"], row["nfe"]) for row in rows] == [
        ("a", "0.5", "2"), ("a", "0.8", "3"), ("b", "0.5", "2"), ("b", "0.8", "3"),
    ]  # fmt: skip


def test_an_image_is_turned_flattened_and_brought_to_the_size(write_sweep: Write, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    given = prepare(write_sweep(**SMALL, image=["turned.jpg", "clear.png"]))
    turned, clear_one = (given.inputs.of(cell)["image"] for cell in given.plan.cells)
    assert turned.size == (16, 16)
    top, bottom = (turned.getpixel((8, y)) for y in (2, 13))
    assert top[2] > 200 > 60 > top[0]
    assert bottom[0] > 200 > 60 > bottom[2]
    assert clear_one.getpixel((0, 0)) == (255, 255, 255)


def wrong(path: Path) -> dict[str, bytes]:
    """Files that are no images that could be used."""
    with (path / "x.png").open("wb") as file:
        picture(0).save(file, "PNG")
    whole = (path / "x.png").read_bytes()
    (path / "x.png").unlink()
    film = [picture(i) for i in range(3)]
    film[0].save(path / "film.webp", save_all=True, append_images=film[1:], lossless=True)
    Image.new("I;16", (4, 4)).save(path / "deep.png")
    Image.new("1", (9000, 9000)).save(path / "huge.png")
    return {"torn.png": whole[: len(whole) // 2], "text.png": b"no image", "empty.png": b"", "none.gif": b"GIF89a"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.png", "there is no file or folder nowhere.png"),
        ("torn.png", "cannot be read"),
        ("text.png", "cannot be read: it is no PNG, JPEG, WebP or BMP image"),
        ("empty.png", "cannot be read"),
        ("none.gif", "cannot be read"),
        ("film.webp", "is a film of 3 images; give one of them"),
        ("deep.png", "more than 8 bits a channel"),
        ("huge.png", "has 9000 × 9000 pixels, over 64,000,000; make it smaller"),
        ("pipe", "it is no regular file"),
        ("nothing", "nothing holds 0 images"),
    ],
)
def test_what_is_no_image_is_refused_where_it_is_named(
    write_sweep: Write, tmp_path: Path, name: str, told: str
) -> None:
    import os

    for file, data in wrong(tmp_path).items():
        (tmp_path / file).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SweepError, match=rf"sweep.yaml:\d+: image: .*{told}"):
        prepare(write_sweep(**SMALL, image=name))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"mask": "a.png"}, "mask: says where an image is repainted, and there is none; add `image`"),
        ({"strength": 0.5}, "strength: StableDiffusionPipeline begins with noise alone.* add `image`"),
        ({"image": "a.png", "strength": 0}, "strength.0: must be greater than 0"),
        ({"image": "a.png", "strength": 1.2}, "strength.0: must be at most 1"),
        ({"image": ["a.png", "b.png"]}, "image: .*b.png is the same image as .*a.png"),
        ({"image": "a.png", "mask": "wide.png"}, "mask: .*wide.png .32 × 16. has other proportions than .*a.png"),
        ({"control_image": "a.png"}, "control_image: StableDiffusionPipeline has nothing that it could lead"),
        ({"call": {"strength": 0.5}}, "call: strength is this sweep's key strength"),
        ({"image": "a.png", "strength": [0.5, 0.6], "steps": None, "nfe": 4}, "nfe: so many steps cost otherwise"),
        ({"image": "a.png", "metrics": "reference"}, "metrics: reference has no meaning at a strength below 1"),
    ],
)
def test_what_does_not_go_together_is_refused(
    write_sweep: Write, tmp_path: Path, keys: dict[str, Any], told: str
) -> None:
    for name in ("a", "b"):
        saved_picture(tmp_path / f"{name}.png")
    Image.new("L", (32, 16)).save(tmp_path / "wide.png")
    with pytest.raises(SweepError, match=rf"sweep.yaml:\d+: {told}"):
        prepare(write_sweep(**SMALL | keys))


def test_a_checkpoint_saved_for_images_runs_as_what_it_is(write_sweep: Write, tmp_path: Path) -> None:
    pipeline = families.ready(families.sd_inpaint)  # 9 channels
    pipeline.save_pretrained(tmp_path / "m")
    saved_picture(tmp_path / "a.png")
    half_a_mask().save(tmp_path / "b.png")
    model = {"model": str(tmp_path / "m")}
    prepared = prepare(write_sweep(**SMALL, **model, image="a.png", mask="b.png"))
    assert prepared.checkpoint.pipeline_class == "StableDiffusionInpaintPipeline"
    assert made(prepared, "packed")
    with pytest.raises(CheckpointError, match=r"reads 9 channels.*: it needs a mask and a masked image"):
        prepare(write_sweep(**SMALL, **model, image="a.png"))
    with pytest.raises(CheckpointError, match="needs `image` and `mask_image`; give it with the key image"):
        prepare(write_sweep(**SMALL, **model))


def test_a_given_pipelines_parts_do_other_tasks_and_stay_as_they_are(sd1: Path, tmp_path: Path) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(sd1)
    pipeline.vae.to(torch.bfloat16)
    saved_picture(tmp_path / "a.png")
    given = asked(None, {**SMALL, "prompt": "a", "metrics": "off", "image": str(tmp_path / "a.png")}, pipeline)
    loaded = given.loader.load()
    assert type(loaded) is diffusers.StableDiffusionImg2ImgPipeline
    assert loaded.unet is pipeline.unet
    assert pipeline.vae.dtype == torch.bfloat16


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two schedulers, two seeds each, in a folder "out"."""
    folder = tmp_path_factory.mktemp("earlier")
    sweep = SMALL | {"schedulers": ["ddim", "euler-a"], "steps": [2, 3], "seeds": "0..1", "prompt": "a red circle"}
    (folder / "first.yaml").write_text(yaml.safe_dump({"model": "builtin:tiny", "metrics": "off", **sweep}))
    assert run("run", folder / "first.yaml", "-o", folder / "out") == 0
    return folder / "out"


def test_images_of_an_earlier_run_are_inputs(write_sweep: Write, tmp_path: Path, earlier: Path) -> None:
    shutil.copytree(earlier, tmp_path / "out")
    chosen = {"run": "out", "scheduler": "Euler a", "steps": 3}
    sweep = write_sweep(**SMALL, image=chosen, mask={"run": "out", "scheduler": "ddim", "steps": 2, "seeds": 1})
    prepared = prepare(sweep)
    cells = prepared.plan.cells
    assert [plain_name(c.init_image) for c in cells] == [f"euler-a-steps-003-seed-000{seed}" for seed in (0, 1)]
    given = prepared.inputs.of(cells[1])["image"]
    own = Image.open(tmp_path / "out/images/euler-a/steps-003/seed-0001.png")
    assert np.array_equal(pixels(given), pixels(own))
    assert run("run", sweep, "-o", tmp_path / "second", "--set", "engine=solo") == 0
    again = prepare(tmp_path / "second/sweep.yaml")
    assert [c.id for c in again.plan.cells] == [c.id for c in cells]
    second = schedcmp.open(tmp_path / "second")
    names: dict[str, Any] = {}
    exec(second.code(second.cells[1]), names)
    assert np.array_equal(pixels(names["image"]), pixels(second.image(second.cells[1])))
    assert len(prepare(write_sweep(**SMALL, image=[{"run": "out"}, "out/images/ddim/steps-002"])).plan.cells) == 10


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"run": "nowhere"}, "image: there is no folder nowhere"),
        ({"run": "s3://bucket/out"}, "image: s3://bucket/out is an address"),
        ({"run": "."}, "image: .*has no run.sqlite; give the folder of a run"),
        ({"run": "out", "scheduler": "heun"}, "image: out has no finished image with scheduler 'heun'; it has: ddim"),
        ({"run": "out", "seed": 7}, "image: out has no finished image with seed 7; it has: 0, 1"),
        ({"run": "out", "file": "../run.sqlite"}, "image: out has no finished image with file '../run.sqlite'"),
        ({"run": "out", "schedular": "ddim"}, "unknown key 'image.0.schedular'; did you mean 'scheduler'"),
        ([{"run": "out"}, {"run": "out", "seed": 1}], "image: .* is the same image as .*; remove one of the two"),
        ({"folder": "out"}, "image: "),
        ([], "image: is an empty list"),
    ],
)
def test_what_an_earlier_run_has_not_is_refused(
    write_sweep: Write, tmp_path: Path, earlier: Path, image: Any, told: str
) -> None:
    (tmp_path / "out").symlink_to(earlier)
    with pytest.raises(SweepError, match=rf"sweep.yaml:\d+: {told}"):
        prepare(write_sweep(**SMALL, image=image))


@pytest.mark.parametrize("damage", ["other", "link", "gone"])
def test_an_earlier_image_that_is_not_what_was_made_is_refused(
    write_sweep: Write, tmp_path: Path, earlier: Path, damage: str
) -> None:
    shutil.copytree(earlier, tmp_path / "out")
    image = tmp_path / "out/images/ddim/steps-002/seed-0000.png"
    if damage == "other":
        picture(3).save(image)
    else:
        kept = image.rename(tmp_path / "kept.png")
        if damage == "link":
            image.symlink_to(kept)
    with pytest.raises(SweepError, match=r"image: .*seed-0000.png is not what its run has made; repeat that run"):
        prepare(write_sweep(**SMALL, image={"run": "out"}))
