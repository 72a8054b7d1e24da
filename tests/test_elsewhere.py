"""Parts that a sweep takes from elsewhere: they are what is loaded and fingerprinted, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from asked import prepare
from checkpoints import image, quick_unet, scheduler, text_config, tokenizer, unet, vae
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from single_file import write_original_layout
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.errors import CheckpointError

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
FLOW = Path(__file__).parents[1] / "schedcmp/builtin/tiny-flow"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with the configs of `sd1` and other weights."""
    torch.manual_seed(1)
    parts = (vae(), CLIPTextModel(text_config()), tokenizer(), quick_unet(), scheduler(), None, None)
    folder = tmp_path_factory.mktemp("other") / "pipeline"
    StableDiffusionPipeline(*parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


def write_gguf(path: Path, tensors: dict[str, torch.Tensor], kind: gguf.GGMLQuantizationType) -> Path:
    """As ComfyUI's converter does: matrices are quantised where their rows are whole blocks, the rest is kept."""
    writer = gguf.GGUFWriter(path, "test")
    for name, tensor in tensors.items():
        value = tensor.numpy().astype(np.float32)
        whole = value.ndim == 2 and value.shape[-1] % 32 == 0
        raw = gguf.quants.quantize(value, kind) if whole else value
        writer.add_tensor(name, raw, raw_dtype=kind if whole else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", ["unet", "text_encoder", "vae"])
def test_a_part_is_taken_from_a_pipeline_a_folder_or_a_file(sd1: Path, other: Path, name: str) -> None:
    file = {"unet": UNET, "text_encoder": TEXT}.get(name, "vae/diffusion_pytorch_model.safetensors")
    pipeline: Any = StableDiffusionPipeline.from_pretrained(other)
    wanted = getattr(pipeline, name).state_dict()
    prints = set()
    for place in (other, other / name, other / file):
        checkpoint = inspect(ModelSpec(str(sd1), parts={name: str(place)}))
        taken = getattr(load(checkpoint, "cpu"), name).state_dict()
        assert all(torch.equal(taken[key], tensor) for key, tensor in wanted.items())
        prints.add(checkpoint.fingerprint)
    assert len(prints) == 1
    assert prints != {inspect(ModelSpec(str(sd1))).fingerprint}


def test_a_single_file_takes_parts_from_elsewhere(sd1: Path, other: Path, tmp_path: Path) -> None:
    file = write_original_layout(StableDiffusionPipeline.from_pretrained(sd1), tmp_path / "m.safetensors")
    both = {"unet": str(other), "text_encoder": str(other), "vae": str(other)}
    assert np.array_equal(
        image(inspect(ModelSpec(str(file), config=str(sd1), parts=both))), image(inspect(ModelSpec(str(other))))
    )


def test_a_gguf_transformer_is_what_it_was_quantised_from(tmp_path: Path) -> None:
    own = load_file(FLOW / TRANSFORMER)
    path = write_gguf(tmp_path / "q8.gguf", {k: t.float() for k, t in own.items()}, gguf.GGMLQuantizationType.Q8_0)
    checkpoint = inspect(ModelSpec("builtin:tiny-flow", parts={"transformer": str(path)}))
    plain = inspect(ModelSpec("builtin:tiny-flow"))
    assert checkpoint.fingerprint != plain.fingerprint
    near = np.abs(image(checkpoint, "a red heart") - image(plain, "a red heart"))
    assert 0 < near.mean() < 0.02


@pytest.mark.parametrize(
    ("name", "place", "told"),
    [
        ("unet", "nowhere", r"s\.yaml:2: model: unet: nowhere: no such folder or file; give a UNet's folder or"),
        ("transformer", "builtin", r"s\.yaml:2: model: transformer: .* has none .*; it has text_encoder, unet, vae"),
        ("unet", "{sd1}/vae/diffusion_pytorch_model.safetensors", "holds no UNet"),
        ("text_encoder", "{sd1}/unet", "text_encoder: .*/unet holds no text encoder; give"),
        ("unet", "{tmp}/w.ckpt", "is no .safetensors or .gguf file, and others are never loaded; convert it"),
        ("vae", "{tmp}/w.gguf", "is no .safetensors file"),
        ("unet", "{tmp}/w.gguf", "is truncated or no GGUF file"),
        ("unet", "{tmp}/wide", "has in_channels: 9, and the checkpoint's other models go with 4"),
        ("unet", "{tmp}/wide/diffusion_pytorch_model.safetensors", "for 9 inputs, and its config says 4"),
        ("text_encoder", "{tmp}/pickled", "is pickled"),
    ],
)
def test_what_is_none_or_does_not_fit_is_refused_before_anything_is_loaded(
    sd1: Path, tmp_path: Path, name: str, place: str, told: str
) -> None:
    for file in ("w.ckpt", "w.gguf"):
        (tmp_path / file).write_bytes(b"GGUF" + b"\xff" * 64)
    unet(in_channels=9).save_pretrained(tmp_path / "wide")
    pickled = copytree(sd1 / "text_encoder", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    sweep = tmp_path / "s.yaml"
    path = place.format(sd1=sd1, tmp=tmp_path)
    sweep.write_text(f"model: {{id: {sd1},\n  {name}: {path}}}\nprompt: a\nschedulers: euler\nsteps: 2\n")
    with pytest.raises(CheckpointError, match=told):
        prepare(sweep)


def words(path: Path, **tensors: torch.Tensor) -> str:
    save_file(tensors, path)
    return str(path)


def test_a_word_is_learnt_and_known_to_the_fingerprint(sd1: Path, tmp_path: Path) -> None:
    one = words(tmp_path / "one.safetensors", emb_params=torch.ones(2, 16))
    two = words(tmp_path / "two.safetensors", **{"<x>": 2 * torch.ones(16)})
    plain, *found = (inspect(ModelSpec(str(sd1), embeddings={"zz": e} if e else {})) for e in (None, one, two))
    assert len({c.fingerprint for c in (plain, *found)}) == 3
    pictures = [image(c, "a zz") for c in (plain, *found)]
    assert not any(np.allclose(a, b, atol=1e-3) for a, b in zip(pictures, (*pictures[1:], pictures[0]), strict=True))
    reference: Any = StableDiffusionPipeline.from_pretrained(sd1)
    reference.load_textual_inversion(one, token="zz")
    made = reference("a zz", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np")
    assert np.array_equal(pictures[1], made.images[0])


def test_a_word_of_two_encoders_is_learnt_by_both(tmp_path: Path) -> None:
    torch.manual_seed(0)
    texts = CLIPTextModel(text_config()), CLIPTextModelWithProjection(text_config(projection_dim=16))
    denoiser = unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64
    )
    folder = tmp_path / "xl"
    StableDiffusionXLPipeline(
        vae(), *texts, tokenizer(), tokenizer(), denoiser, scheduler(), add_watermarker=False
    ).save_pretrained(folder)
    file = words(tmp_path / "w.safetensors", clip_l=torch.ones(1, 16), clip_g=torch.full((1, 16), 3.0))
    pipeline: Any = load(inspect(ModelSpec(str(folder), embeddings={"zz": file})), "cpu")
    for encoder, name, value in (
        (pipeline.text_encoder, pipeline.tokenizer, 1.0),
        (pipeline.text_encoder_2, pipeline.tokenizer_2, 3.0),
    ):
        row = encoder.get_input_embeddings().weight[name.convert_tokens_to_ids("zz")]
        assert torch.equal(row, torch.full((16,), value))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            {"emb_params": torch.ones(1, 24)},
            "has vectors of 24 numbers, and the checkpoint's text_encoder reads vectors",
        ),
        ({"clip_g": torch.ones(1, 16)}, "text_encoder_2 is not there"),
        ({"a": torch.ones(16), "b": torch.ones(16)}, "holds 2 tensors"),
    ],
)
def test_vectors_that_no_encoder_reads_are_refused(
    sd1: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], told: str
) -> None:
    file = words(tmp_path / "w.safetensors", **tensors)
    sweep = tmp_path / "s.yaml"
    sweep.write_text(f"model:\n  id: {sd1}\n  embeddings:\n    zz: {file}\nprompt: a\nschedulers: euler\nsteps: 2\n")
    with pytest.raises(CheckpointError, match=rf"s\.yaml:4: model: embeddings\.zz: .*{told}"):
        prepare(sweep)


def test_a_words_file_gives_it_its_name_and_a_written_sweep_has_whole_paths(
    sd1: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words(tmp_path / "soft.safetensors", e=torch.ones(16))
    monkeypatch.chdir(tmp_path)
    keys = {"prompt": "a", "schedulers": "euler", "steps": 2}
    model = {"id": str(sd1), "embeddings": "soft.safetensors", "unet": str(other)}
    Path("s.yaml").write_text(json.dumps({"model": model} | keys))
    written = prepare(Path("s.yaml")).portable_sweep.model
    assert written.embeddings == {"soft": str(tmp_path / "soft.safetensors")}
    assert written.unet == str(other)
