"""From an image that says how it was made to a sweep around it, whatever is in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_cli import output
from test_paste import made  # noqa: F401  a fixture

import schedcmp
from schedcmp.errors import RequestError
from schedcmp.registry.table import builtin_registry
from schedcmp.remake import a1111, comfyui, invokeai, own, swarmui
from schedcmp.remake.reading import Text
from schedcmp.remake.sweep import made_by, sweep_around
from schedcmp.sweep.document import Sweep, checked
from schedcmp.sweep.parts.entries import EntrySpec
from schedcmp.sweep.source import parse

pytestmark = pytest.mark.filterwarnings("ignore::schedcmp.SchedcmpWarning")
A1111 = """a cat, on a "mat"
in the sun
Negative prompt: lowres,
blurry
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 9007199254740993, Size: 512x760, \
Model hash: abcd, Model: dreamshaper_8, Clip skip: 2, Denoising strength: 0.4, Lora hashes: "fluffy: 123, b: 4", \
Version: v1.10.1"""


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


COMFYUI: dict[str, Any] = {
    "3": node(
        "KSampler", seed=["12", 0], steps=20, cfg=8, sampler_name="dpmpp_2m_sde", scheduler="exponential", denoise=1,
        model=["10", 0], positive=["11", 0], negative=["7", 0], latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="v1-5-pruned.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text=["13", 0], clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    "10": node("LoraLoader", lora_name="fluffy.safetensors", strength_model=0.8, model=["4", 0]),
    "11": node("ConditioningSetArea", conditioning=["6", 0]),
    "12": node("PrimitiveInt", value=123),
    "13": node("StringConcatenate", string="a cat"),
}  # fmt: skip
FLUX: dict[str, Any] = {
    "1": node(
        "SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0], sigmas=["5", 0],
        latent_image=["6", 0],
    ),
    "2": node("RandomNoise", noise_seed=7),
    "3": node("BasicGuider", conditioning=["8", 0], model=["9", 0]),
    "4": node("KSamplerSelect", sampler_name="euler"),
    "5": node("BasicScheduler", scheduler="simple", steps=4, denoise=1),
    "6": node("EmptySD3LatentImage", width=1024, height=1024),
    "8": node("CLIPTextEncode", text="a dog"),
    "9": node("UNETLoader", unet_name="flux1-schnell.safetensors"),
}  # fmt: skip
INVOKEAI: dict[str, Any] = {
    "positive_prompt": "a cat", "negative_prompt": "blurry", "width": 512, "height": 512, "seed": 5,
    "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30, "scheduler": "dpmpp_2m_k", "clip_skip": 0,
    "app_version": "5.0.0", "model": {"name": "Dreamshaper 8", "base": "sd-1"},
    "loras": [{"model": {"name": "fluffy"}, "weight": 0.8}],
}  # fmt: skip
SWARMUI: dict[str, Any] = {
    "sui_image_params": {
        "prompt": "a cat", "negativeprompt": "blurry", "model": "sdxl", "seed": 11, "steps": 20, "cfgscale": 7.0,
        "width": 1024, "height": 1024, "sampler": "dpmpp_2m", "scheduler": "karras", "loras": ["fluffy"],
    },
}  # fmt: skip


def image(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def sweep_from(path: Path) -> tuple[Sweep, list[str]]:
    found = made_by(path)
    text = sweep_around(found, path.name)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line.removeprefix("#   ") for line in comments[2:]] == found.lost
    return checked(parse(text, "sweep.yaml")), found.lost


def facts(sweep: Sweep) -> tuple[Any, ...]:
    texts = (*sweep.prompt.values(), *sweep.negative_prompt)
    size = sweep.size and sweep.size[0]
    return *texts, sweep.guidance_scale[0], size, named(sweep.schedulers[0]), sweep.seeds[0]


def named(item: str | EntrySpec) -> str:
    return builtin_registry().entry(item).name if isinstance(item, str) else str(item.cls)


@pytest.mark.parametrize(
    ("texts", "expected", "steps", "lost"),
    [
        (
            {"parameters": A1111},
            ('a cat, on a "mat"\nin the sun', "lowres,\nblurry", 6.5, "512x760", "a1111-dpmpp-2m", 9007199254740993),
            28,
            ["Denoising strength: '0.4'", "Lora hashes: 'fluffy: 123, b: 4'"],
        ),
        (
            {"workflow": '{"nodes": []}', "prompt": json.dumps(COMFYUI)},
            ("a cat", "blurry", 8, "512x768", "comfyui-dpmpp-2m-sde-exponential", 123),
            20,
            [
                "the node 10, LoraLoader: 'lora_name fluffy.safetensors, strength_model 0.8'",
                "the node 11, Conditioning",
            ],
        ),
        ({"prompt": json.dumps(FLUX)}, ("a dog", "", 1, "1024x1024", "comfyui-euler", 7), 4, ["where the checkpoint"]),
        (
            {"invokeai_metadata": json.dumps(INVOKEAI)},
            ("a cat", "blurry", 7.5, "512x512", "dpmpp-2m-karras", 5),
            30,
            ["loras"],
        ),
        (
            {"parameters": json.dumps(SWARMUI)},
            ("a cat", "blurry", 7, "1024x1024", "comfyui-dpmpp-2m-karras", 11),
            20,
            ["loras"],
        ),
    ],
)
def test_other_programs_images_are_remade(
    texts: dict[str, str], expected: tuple[Any, ...], steps: int, lost: list[str], tmp_path: Path
) -> None:
    sweep, told = sweep_from(image(tmp_path / "image.png", **texts))
    assert facts(sweep) == expected
    assert isinstance(sweep.steps, tuple)
    assert steps in sweep.steps
    assert len(sweep.steps) == 3
    assert len(sweep.schedulers) >= 4
    for text in lost:
        assert any(line.startswith(text) for line in told), told


def test_what_a_picture_does_not_say_is_left_to_the_pipeline() -> None:
    found = a1111.read(Text(A1111.replace("CFG scale: 6.5, ", "")))
    assert found is not None
    text = sweep_around(found, "a.png")
    assert "guidance_scale" not in yaml.safe_load(text)
    assert "guidance_scale (none is there" in text


def test_settings_beside_are_carried_over(tmp_path: Path) -> None:
    sweep, _ = sweep_from(image(tmp_path / "image.png", parameters=A1111))
    assert sweep.generator == "device"
    assert sweep.call == {"clip_skip": (1,)}
    assert sweep.model.id == "dreamshaper_8"


def test_an_exif_comment_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    assert facts(sweep_from(path)[0])[4] == "a1111-dpmpp-2m"


def test_our_own_images_and_recipes_come_back(made: schedcmp.Run, tmp_path: Path) -> None:  # noqa: F811
    for stored in made.cells:
        cell, path = stored.cell, tmp_path / "recipe"
        sweep, _ = sweep_from(made.folder / str(stored.image_path))
        assert facts(sweep)[:3] == (cell.prompt, cell.negative_prompt, cell.guidance_scale)
        assert (cell.seed, cell.steps in (sweep.steps or ())) == (sweep.seeds[0], True)  # type: ignore[operator]
        assert named(sweep.schedulers[0]) in (cell.scheduler, made_class(made, cell.scheduler))
        for form in ("a1111", "comfyui-workflow", "invokeai"):
            try:
                path.write_text(made.code(stored, form), encoding="utf-8")
            except RequestError:
                continue  # that program has no such sampler
            again, _ = sweep_from(path)
            assert facts(again)[:3] == (cell.prompt, cell.negative_prompt, cell.guidance_scale)
            assert again.seeds == (cell.seed,)
            wanted = builtin_registry().entry(cell.scheduler).base
            assert wanted in {builtin_registry().entry(str(name)).base for name in again.schedulers}, form


def made_class(run: schedcmp.Run, label: str) -> str:
    text = next(run.image(c).info["schedcmp"] for c in run.cells if c.cell.scheduler == label)
    return str(json.loads(text)["class"])


# --- what is wrong, and what is hostile


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "says nothing"),
        (b"\x89PNG\r\n\x1a\n garbage \0", "is no image"),
        (b"hello", "says nothing"),
        (b'{"nodes": [], "links": []}', "as ComfyUI's window saves it"),
        (b'{"1": {"class_type": "LoadImage", "inputs": {}}}', "none of its own samplers"),
        (b"[" * 100_000, "says nothing"),
    ],
)
def test_what_says_nothing_is_told(
    content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert told in " ".join(output(capsys, "init", tmp_path / "new.yaml", "--from", path, code=2).split())
    assert not (tmp_path / "new.yaml").exists()


def test_what_else_our_own_image_had_is_carried_over_or_told(tmp_path: Path) -> None:
    cell = {"scheduler": "euler", "prompt": "a"}
    further = {
        "num_frames": 9,
        "lora": '{"name": "fast", "adapters": []}',
        "prompt_syntax": "a1111",
        "call": '{"eta": 1}',
    }
    video = {"cell": cell | further, "scheduler_config": {}}
    sweep, lost = sweep_from(image(tmp_path / "image.png", schedcmp=json.dumps(video)))
    assert sweep.num_frames == (9,)
    assert all(any(text.startswith(f"{key}: ") for text in lost) for key in ("lora", "prompt_syntax", "call"))
    begun = {"cell": cell | {"init_image": "cat@0123", "strength": 0.5, "num_frames": 0}, "scheduler_config": {}}
    sweep, lost = sweep_from(image(tmp_path / "image.png", schedcmp=json.dumps(begun)))
    assert not sweep.strength
    assert all(any(text.startswith(f"{key}: ") for text in lost) for key in ("image", "strength", "num_frames"))


def test_an_image_names_no_class_of_somebodys_own(tmp_path: Path) -> None:
    for cls in ("os.system", "evil.Scheduler", "schedcmp.samplers.x.y.z"):
        data = {"cell": {"scheduler": "mine", "prompt": "a"}, "scheduler_config": {}, "class": cls}
        sweep, lost = sweep_from(image(tmp_path / "image.png", schedcmp=json.dumps(data)))
        assert all(isinstance(item, str) and "." not in item for item in sweep.schedulers)
        assert any("somebody's own" in text for text in lost)
    parameters = "a\nSteps: 3, Sampler: os.system, CFG scale: 3, Seed: 1"
    sweep, _ = sweep_from(image(tmp_path / "image.png", parameters=parameters))
    assert "os.system" not in map(str, sweep.schedulers)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_whatever_is_in_the_fields_the_sweep_is_sound(data: st.DataObject) -> None:
    texts: list[tuple[Any, Any]] = [
        (own, {"cell": {}, "scheduler_config": {}, "class": "", "environment": {}, "generator": ""}),
        (invokeai, INVOKEAI),
        (swarmui, SWARMUI["sui_image_params"]),
        (comfyui, COMFYUI),
        (comfyui, FLUX),
    ]
    reader, example = data.draw(st.sampled_from(texts))
    changed = json.loads(json.dumps(example))
    for key in data.draw(st.lists(st.sampled_from(sorted(changed)), max_size=3)):
        where = changed[key] if reader is comfyui else changed
        inner = where.get("inputs", {}) if reader is comfyui and isinstance(where, dict) else where
        if isinstance(inner, dict) and inner:
            inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(junk)
    wrapped = {"sui_image_params": changed} if reader is swarmui else changed
    try:
        found = reader.read(Text("", wrapped))
    except RequestError:
        return
    if found is not None:
        checked(parse(sweep_around(found, "an image"), "sweep.yaml"))


@given(st.text(max_size=300), st.text(alphabet='ab:,"\\ \n', max_size=300))
def test_whatever_an_infotext_says_the_sweep_is_sound(prompt: str, rest: str) -> None:
    found = a1111.read(Text(f"{prompt}\nSteps: 3, Sampler: Euler, CFG scale: 3, Seed: 1, {rest}"))
    if found is not None:
        text = sweep_around(found, "an image")
        checked(parse(text, "sweep.yaml"))
        assert yaml.safe_load(text)["schedulers"]


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = image(tmp_path / "image.png", parameters=A1111)
    assert "is there already" in output(capsys, "init", source, "--from", source, code=2)
