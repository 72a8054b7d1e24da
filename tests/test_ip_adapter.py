"""IP-Adapters: what a sweep makes with one is what diffusers makes, alone and packed; what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
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
from safetensors.torch import save_file
from test_families import picture
from test_inputs import made, pixels
from test_run import run

import schedcmp
from schedcmp.engine.guarded import seeded
from schedcmp.errors import RequestError
from schedcmp.store.store import Store

FAMILIES = {"sd": families.sd, "sdxl": families.sdxl}
SWEEP = {
    "prompt": "a b", "guidance_scale": 3, "width": 16, "height": 16, "schedulers": ["euler", "dpmpp-2m"], "steps": [2],
    "timing": "off", "metrics": "off", "ip_adapter_image": ["a.png", "b.png"],
}  # fmt: skip


def save_adapter(folder: Path, unet: Any, reads: int = 16) -> None:
    """An IP-Adapter with random weights, and its image encoder beside it."""
    draw, width, tensors = torch.Generator().manual_seed(0), unet.config.cross_attention_dim, {}
    for i, name in enumerate(name for name in unet.attn_processors if "attn2" in name):
        to_k = unet.get_submodule(name.removesuffix(".processor")).to_k.weight
        for key in "kv":
            weight = torch.randn(to_k.shape, generator=draw) / width**0.5
            tensors[f"ip_adapter.{2 * i + 1}.to_{key}_ip.weight"] = weight
    tensors["image_proj.proj.weight"] = torch.randn(4 * width, reads, generator=draw)
    tensors["image_proj.proj.bias"] = torch.zeros(4 * width)
    tensors |= {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}
    folder.mkdir()
    save_file(tensors, folder / "ip.safetensors")
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: saved(tmp_path_factory.mktemp(name), build) for name, build in FAMILIES.items()}


@pytest.fixture
def folder(folders: dict[str, Path]) -> Path:
    return folders["sd"]


def saved(folder: Path, build: Callable[[], Any]) -> Path:
    pipeline = families.ready(build)
    pipeline.save_pretrained(folder / "model")
    save_adapter(folder / "adapter", pipeline.unet)
    picture(0).resize((40, 24)).save(folder / "a.png")
    picture(1).save(folder / "b.png")
    return folder


def written(folder: Path, **changes: Any) -> Path:
    data = {"model": str(folder / "model"), **SWEEP, "ip_adapter": str(folder / "adapter/ip.safetensors")} | changes
    (folder / "sweep.yaml").write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return folder / "sweep.yaml"


@pytest.mark.parametrize("family", FAMILIES)
def test_as_diffusers_own_alone_and_packed(folders: dict[str, Path], family: str) -> None:
    folder, changes = folders[family], {"guidance_scale": [3, 1], "zip": ["ip_adapter_image", "guidance_scale"]}
    prepared = prepare(written(folder, ip_adapter_scale=[0, 0.7], schedulers="euler", **changes))
    alone, packed = made(prepared, "solo"), made(prepared, "packed")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder / "model")
    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "adapter/image_encoder")
    pipeline.register_modules(image_encoder=encoder)
    pipeline.load_ip_adapter(str(folder), subfolder="adapter", weight_name="ip.safetensors", image_encoder_folder=None)
    pipeline.set_progress_bar_config(disable=True)
    for i, result in alone.items():
        cell = result.cell
        generator = torch.Generator().manual_seed(cell.seed)
        pipeline.scheduler = seeded(prepared.recipes[cell.scheduler].build(cell.seed), generator)
        pipeline.set_ip_adapter_scale(cell.ip_adapter_scale)
        with Image.open(folder / f"{cell.ip_adapter_image[0]}.png") as image:
            own = pipeline(
                cell.prompt, ip_adapter_image=image.convert("RGB"), num_inference_steps=2, generator=generator,
                guidance_scale=cell.guidance_scale, width=16, height=16,
            ).images[0]  # fmt: skip
        assert np.array_equal(pixels(own), pixels(result.image)), cell
        assert np.abs(pixels(packed[i].image) - pixels(own)).max() <= 1, cell
    seen = {(r.cell.ip_adapter_image, r.cell.ip_adapter_scale): r.image_sha256 for r in alone.values()}
    assert len({*seen.values()}) == 4


def test_a_run_shares_calls_and_is_repeated_and_pasted(folder: Path, tmp_path: Path) -> None:
    sweep = written(folder, ip_adapter_scale=[0.5], max_batch=8)
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    first = schedcmp.open(tmp_path / "out")
    with Store.open(tmp_path / "out") as store:
        packed = store.meta("throughput")
    assert packed["rows"] == 8 * packed["forwards"]
    assert [c.id for c in prepare(tmp_path / "out/sweep.yaml").plan.cells] == [c.cell.id for c in first.cells]
    assert run("run", sweep, "-o", tmp_path / "solo", "--set", "engine=solo", "--set", "schedulers=euler") == 0
    alone = schedcmp.open(tmp_path / "solo")
    names: dict[str, Any] = {}
    exec(alone.code(alone.cells[1]), names)
    assert np.array_equal(pixels(names["image"]), pixels(alone.image(alone.cells[1])))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ip_adapter_image": None}, "ip_adapter: sees an image, and there is none; add `ip_adapter_image`"),
        ({"ip_adapter": None}, "ip_adapter_image: there is no IP-Adapter that it could be for; add `ip_adapter`"),
        ({"ip_adapter": None, "ip_adapter_image": None, "ip_adapter_scale": 1}, "ip_adapter_scale: there is no"),
        ({"ip_adapter": "nowhere.safetensors"}, "ip_adapter: nowhere.safetensors: no such file or folder"),
        ({"ip_adapter": "a.png"}, r"ip_adapter: .*a.png is no .safetensors file"),
        ({"ip_adapter": "face.safetensors"}, r"ip_adapter: .* reads no image but a face's embedding \(FaceID\)"),
        ({"ip_adapter": "model/unet"}, "ip_adapter: .*holds no IP-Adapter"),
        ({"ip_adapter": "wide.safetensors"}, "ip_adapter: .* read prompts as 48 numbers, and that of model reads 16"),
        ({"ip_adapter": "alone.safetensors"}, "ip_adapter: image_encoder has no config.json; name the folder"),
        ({"ip_adapter": "other.safetensors"}, "ip_adapter: .* reads images as 24 numbers, and the image encoder gives"),
        ({"backend": "jax"}, "ip_adapter: its layers are torch's"),
        ({"call": {"ip_adapter_image": 1}}, "call: ip_adapter_image is this sweep's key ip_adapter_image"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(folder)
    width = {"wide": 48}
    keys: dict[str, Any] = dict(changes)
    for name in ("face", "wide", "alone", "other"):
        tensors = {"ip_adapter.1.to_k_ip.weight": torch.zeros(1, width.get(name, 16))}
        tensors |= {f"image_proj.{'norm' if name == 'face' else 'proj'}.weight": torch.zeros(1, 24)}
        save_file(tensors, folder / f"{name}.safetensors")
    if changes.get("ip_adapter") == "other.safetensors":
        keys["ip_adapter"] = {"path": "other.safetensors", "image_encoder": "adapter/image_encoder"}
    with pytest.raises(RequestError, match=rf"sweep.yaml:\d+: {told}"):
        prepare(written(folder, **keys))


def test_families_of_other_adapters_are_refused(tmp_path: Path) -> None:
    families.ready(families.flux).save_pretrained(tmp_path / "model")
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(RequestError, match=r"ip_adapter: FluxPipeline loads ones of another kind .FluxIPAdapterMixin."):
        prepare(written(tmp_path, ip_adapter_image="a.png", schedulers=["flow-euler"]))
