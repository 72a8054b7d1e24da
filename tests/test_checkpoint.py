from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import families
import fsspec
import numpy as np
import pytest
import torch
from checkpoints import scheduler, text_config, tokenizer, unet, vae
from diffusers import (
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from hub import COMMIT, Hub, serving
from safetensors.torch import load_file, save_file
from single_file import write_original_layout
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from schedcmp.checkpoint import ModelSpec, inspect, layout
from schedcmp.checkpoint.loading.device import resolve_device, resolve_dtype
from schedcmp.checkpoint.loading.load import load
from schedcmp.errors import CheckpointError, RequestError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(sd1: Path, tmp_path: Path) -> Path:
    """A copy of `sd1` to break."""
    return Path(shutil.copytree(sd1, tmp_path / "copy"))


def of(model: object, **options: str) -> ModelSpec:
    return ModelSpec(str(model), **options)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def image(pipeline: Any) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    result = pipeline("a b", num_inference_steps=2, generator=generator, output_type="np")
    return np.asarray(result.images[0])


def refusal(model: object, **options: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect(of(model, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_inspect_imports_no_torch(sd1: Path) -> None:
    code = (
        "import sys; from schedcmp.checkpoint import ModelSpec, inspect; inspect(ModelSpec(sys.argv[1])).fingerprint;"
        "sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(sd1)]).returncode == 0


def test_inspect_reads_a_folder(sd1: Path) -> None:
    found = inspect(of(sd1))
    assert (found.name, found.kind, found.pipeline_class) == ("sd1", "folder", "StableDiffusionPipeline")
    assert (found.width, found.height) == (16, 16)
    assert found.scheduler_config == json.loads((sd1 / "scheduler/scheduler_config.json").read_text())
    assert found.scheduler_config["_class_name"] == "PNDMScheduler"


def test_builtin_is_a_folder_of_the_package(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schedcmp.checkpoint.layout.files", lambda package: tmp_path)
    shutil.copytree(sd1, tmp_path / "builtin/small")
    found = inspect(of("builtin:small"))
    assert (found.name, found.path) == ("builtin:small", tmp_path / "builtin/small")
    assert "use builtin:small" in refusal("builtin:none")


@pytest.mark.parametrize(("sample_size", "size"), [(32, (64, 64)), ([8, 16], (32, 16)), (None, (None, None))])
def test_own_size_comes_from_the_denoiser_and_the_vae(
    folder: Path, sample_size: object, size: tuple[int | None, int | None]
) -> None:
    edit(folder / "unet/config.json", lambda config: config.update(sample_size=sample_size))
    found = inspect(of(folder))
    assert (found.width, found.height) == size


def test_callers_cannot_change_the_scheduler_config(sd1: Path) -> None:
    found = inspect(of(sd1))
    found.scheduler_config["beta_start"] = 0.5
    assert found.scheduler_config["beta_start"] != 0.5


def test_a_folder_loads_as_diffusers_loads_it_and_quietly(sd1: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = load(inspect(of(sd1)), "cpu")
    assert capfd.readouterr() == ("", "")
    assert not pipeline.unet.training
    assert all(weight.requires_grad for weight in pipeline.unet.parameters())  # as diffusers leaves them
    theirs = StableDiffusionPipeline.from_pretrained(sd1)
    theirs.set_progress_bar_config(disable=True)
    assert np.array_equal(image(pipeline), image(theirs))


def test_stable_diffusion_3_that_was_saved_without_its_t5_encoder_loads(tmp_path: Path) -> None:
    parts = families.sd3().components | {"text_encoder_3": None, "tokenizer_3": None}
    StableDiffusion3Pipeline(**parts).save_pretrained(tmp_path / "sd3")
    found = load(inspect(of(tmp_path / "sd3")), "cpu")
    assert found.text_encoder_3 is None
    assert found.text_encoder is not None


def test_dtype_is_applied(sd1: Path) -> None:
    assert load(inspect(of(sd1)), "cpu", "bf16").unet.dtype == torch.bfloat16


# Fingerprint


def test_fingerprint_belongs_to_the_content(sd1: Path, folder: Path) -> None:
    assert inspect(of(folder)).fingerprint == inspect(of(sd1)).fingerprint


def test_fingerprint_does_not_depend_on_the_scheduler(sd1: Path, folder: Path) -> None:
    edit(folder / "scheduler/scheduler_config.json", lambda config: config.update(beta_start=0.5))
    edit(folder / "model_index.json", lambda index: index.update(scheduler=["diffusers", "PNDMScheduler"]))
    assert inspect(of(folder)).fingerprint == inspect(of(sd1)).fingerprint


def test_fingerprint_tells_one_flipped_bit(sd1: Path, folder: Path) -> None:
    content = bytearray((folder / UNET).read_bytes())
    content[-1] ^= 1
    (folder / UNET).write_bytes(content)
    assert inspect(of(folder)).fingerprint != inspect(of(sd1)).fingerprint


def test_fingerprint_tells_a_changed_architecture_and_tokenizer(sd1: Path, folder: Path) -> None:
    before = inspect(of(folder)).fingerprint
    edit(folder / "vae/config.json", lambda config: config.update(scaling_factor=1.0))
    changed = inspect(of(folder)).fingerprint
    edit(folder / "tokenizer/tokenizer.json", lambda config: config.update(model={}))
    assert len({before, changed, inspect(of(folder)).fingerprint}) == 3


def test_fingerprint_sees_the_chosen_variant_only(sd1: Path, folder: Path) -> None:
    plain = inspect(of(folder)).fingerprint
    half = {name: tensor.half() for name, tensor in load_file(folder / UNET).items()}
    save_file(half, folder / UNET.replace(".safetensors", ".fp16.safetensors"), {"format": "pt"})
    assert inspect(of(folder)).fingerprint == plain
    assert inspect(of(folder, variant="fp16")).fingerprint != plain
    weights = load(inspect(of(folder, variant="fp16")), "cpu").unet.state_dict()
    assert torch.equal(weights["conv_in.weight"], half["conv_in.weight"].float())


def test_fingerprint_takes_the_hub_cache_at_its_word_and_nobody_else(
    sd1: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    (folder / UNET).rename(blob)
    (folder / UNET).symlink_to(blob)
    assert inspect(of(folder)).fingerprint == inspect(of(sd1)).fingerprint
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    blob.touch()  # what was read before is remembered by size and time
    assert inspect(of(folder)).fingerprint != inspect(of(sd1)).fingerprint


# Refusals


def test_absent_paths_are_refused(tmp_path: Path) -> None:
    for model in (tmp_path / "none", "./none", "none", "none.safetensors", "a/b/c", "models/none.ckpt"):
        assert "no such folder or file" in refusal(model)


def test_unknown_builtin_is_refused() -> None:
    assert "not part of this installation" in refusal("builtin:none")
    assert "not part of this installation" in refusal("builtin:../checkpoint")


def test_folders_that_are_no_checkpoint_are_refused(sd1: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "model_index.json is missing" in refusal(tmp_path / "empty")
    assert f"give the whole checkpoint: {sd1}" in refusal(sd1 / "unet")
    (folder / "model_index.json").unlink()
    assert "one model without its pipeline" in refusal(folder / "unet")
    assert "Give" in refusal(folder / "unet/nothing")


@pytest.mark.parametrize("missing", ["unet/config.json", "scheduler/scheduler_config.json", "tokenizer", UNET])
def test_incomplete_folder_is_refused(folder: Path, missing: str) -> None:
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert missing.removesuffix("diffusion_pytorch_model.safetensors") in refusal(folder)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.bin")
    message = refusal(folder)
    assert "unet/diffusion_pytorch_model.bin is pickled" in message
    assert "save_pretrained" in message
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02")
    assert "is pickled" in refusal(tmp_path / "model.ckpt")


@pytest.mark.parametrize("size", [0, 5, 2000, -1])
def test_truncated_weights_are_refused(folder: Path, size: int) -> None:
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[:size])
    assert f"{folder / UNET} is truncated" in refusal(folder)


def test_lfs_pointer_is_named(folder: Path) -> None:
    (folder / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "git lfs pull" in refusal(folder)


def test_missing_shard_is_refused(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"metadata": {}, "weight_map": dict(zip("ab", shards, strict=True))}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index))
    assert f"{shards[1]} is missing" in refusal(folder)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_corrupt_json_is_refused(folder: Path, file: str) -> None:
    (folder / file).write_text('{"a": ')
    assert f"{folder / file} is not valid JSON" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": ["my_pipeline", "MyPipeline"]},
        {"unet": ["my_unet", "MyUNet"]},
        {"unet": ["../unet", "MyUNet"]},
        {"unet": ["os", "system"]},
    ],
)
def test_custom_code_is_refused(folder: Path, change: dict[str, Any]) -> None:
    edit(folder / "model_index.json", lambda index: index.update(change))
    assert "never run" in refusal(folder)


@pytest.mark.parametrize("file", ["pipeline.py", "unet/my_unet.py", "scheduler/scheduler.py"])
def test_python_files_are_refused(folder: Path, file: str) -> None:
    (folder / file).write_text("")
    assert f"({file})" in refusal(folder)


def test_pipelines_modules_of_diffusers_are_no_custom_code(folder: Path) -> None:
    edit(
        folder / "model_index.json",
        lambda index: index.update(safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
    )
    assert "safety_checker/ is missing" in refusal(folder)


def test_pipeline_without_a_scheduler_is_refused(folder: Path) -> None:
    edit(folder / "model_index.json", lambda index: index.update(scheduler=[None, None]))
    assert "names no scheduler" in refusal(folder)


def test_unknown_variant_is_refused(folder: Path) -> None:
    assert "there are only plain files" in refusal(folder, variant="fp16")
    shutil.copy(folder / UNET, folder / UNET.replace(".safetensors", ".bf16.safetensors"))
    assert "there are: bf16" in refusal(folder, variant="fp16")
    (folder / UNET).unlink()
    assert "only as variant bf16" in refusal(folder)


def test_options_that_do_nothing_are_refused(sd1: Path) -> None:
    assert "`revision` is for a hub id" in refusal(sd1, revision="main")
    assert "`config` is for a single file" in refusal(sd1, config=str(sd1))


def test_weights_that_do_not_fit_the_config_are_refused(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, folder / UNET, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights.*conv_in\.weight"):
        load(inspect(of(folder)), "cpu")
    save_file(tensors | {"conv_in.weight": torch.zeros(3, 3)}, folder / UNET, {"format": "pt"})
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(inspect(of(folder)), "cpu")


def test_missing_text_encoder_weights_are_refused(folder: Path) -> None:
    path = folder / "text_encoder/model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "final_layer_norm" in name))
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights.*final_layer_norm"):
        load(inspect(of(folder)), "cpu")


def test_unknown_pipeline_class_is_refused(folder: Path) -> None:
    for name in ("NoSuchPipeline", "UNet2DConditionModel"):
        edit(folder / "model_index.json", lambda index, name=name: index.update(_class_name=name))
        with pytest.raises(CheckpointError, match=f"is a {name}, which diffusers"):
            load(inspect(of(folder)), "cpu")


# Stable Diffusion XL


def test_pitfall_27_sdxl_writes_no_watermark(tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = unet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=40
    )
    second = CLIPTextModelWithProjection(text_config(projection_dim=16))
    pipeline = StableDiffusionXLPipeline(
        vae(), CLIPTextModel(text_config()), second, tokenizer(), tokenizer(), denoiser, scheduler(),
        add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "sdxl")
    found = inspect(of(tmp_path / "sdxl"))
    assert found.pipeline_class == "StableDiffusionXLPipeline"
    loaded = load(found, "cpu")
    assert loaded.watermark is None
    assert torch.equal(loaded.text_encoder_2.text_projection.weight, second.text_projection.weight)


# Single files


@pytest.fixture(scope="session")
def single(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sd1` as one file in the original layout."""
    pipeline = StableDiffusionPipeline.from_pretrained(sd1)
    return write_original_layout(pipeline, tmp_path_factory.mktemp("single") / "model.safetensors")


def test_single_file_makes_the_images_of_its_folder(sd1: Path, single: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = inspect(of(single, config=str(sd1)))
    assert (found.name, found.kind, found.width) == ("model", "file", 16)
    assert found.scheduler_config == inspect(of(sd1)).scheduler_config
    pipeline = load(found, "cpu")
    assert capfd.readouterr() == ("", "")
    assert np.allclose(image(pipeline), image(load(inspect(of(sd1)), "cpu")), atol=1e-6)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_vae_of_another_dtype_is_what_the_files_hold_and_takes_the_others_latents(
    kind: str, sd1: Path, single: Path
) -> None:
    spec = of(sd1) if kind == "folder" else of(single, config=str(sd1))
    pipeline = load(inspect(spec), "cpu", "bf16", vae_dtype="fp32")
    assert (pipeline.unet.dtype, pipeline.vae.dtype) == (torch.bfloat16, torch.float32)
    whole = load(inspect(spec), "cpu", "fp32").vae.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in pipeline.vae.state_dict().items())
    latents = torch.zeros(1, 4, 8, 8, dtype=torch.bfloat16)
    assert pipeline.vae.decode(z=latents, return_dict=False)[0].dtype == torch.float32
    assert image(pipeline).shape == image(load(inspect(spec), "cpu")).shape


def test_single_file_keeps_its_fingerprint_when_renamed(sd1: Path, single: Path, tmp_path: Path) -> None:
    copy = shutil.copy(single, tmp_path / "other.safetensors")
    assert inspect(of(copy, config=str(sd1))).fingerprint == inspect(of(single, config=str(sd1))).fingerprint


def test_single_file_needs_configs_and_no_weights_in_its_config_folder(single: Path, folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    assert load(inspect(of(single, config=str(folder))), "cpu").unet is not None
    (folder / "unet/config.json").unlink()
    (folder / "unet/notes").touch()
    assert "unet/config.json is missing" in refusal(single, config=str(folder))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.out", "first_stage_model.decoder", "cond_stage_model"])
def test_single_file_with_gaps_is_refused(sd1: Path, single: Path, tmp_path: Path, prefix: str) -> None:
    tensors = load_file(single)
    tensors.pop(next(name for name in tensors if name.startswith(prefix) and "position" not in name))
    save_file(tensors, tmp_path / "gaps.safetensors")
    with pytest.raises(CheckpointError, match="lacks weights"):
        load(inspect(of(tmp_path / "gaps.safetensors", config=str(sd1))), "cpu")


def test_files_that_are_no_checkpoint_are_refused(sd1: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert "is no checkpoint" in refusal(tmp_path / "notes.txt")
    assert f"give the whole checkpoint: {sd1}" in refusal(sd1 / UNET)
    lora, other = tmp_path / "lora.safetensors", tmp_path / "other.safetensors"
    save_file({"unet.down.lora_A.weight": torch.zeros(1)}, lora)
    assert "is a LoRA" in refusal(lora)
    save_file({"weight": torch.zeros(1)}, other)
    assert "set `config`" in refusal(other)
    assert "is no diffusers folder" in refusal(other, config=str(tmp_path))
    assert "neither a folder nor a hub id" in refusal(other, config="./none")


# The hub


@pytest.fixture
def hub(sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants, hf_api

    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/README.md").write_text("")
    with serving({"tests/tiny": sd1, "tests/gated": sd1, "tests/bare": tmp_path / "bare"}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
        yield hub


def test_hub_checkpoint_is_the_folder_it_was_made_of(hub: Hub, sd1: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = inspect(of("tests/tiny"))
    assert capfd.readouterr() == ("", "")
    assert (found.name, found.kind) == ("tests/tiny", "folder")
    assert found.fingerprint == inspect(of(sd1)).fingerprint
    assert np.array_equal(image(load(found, "cpu")), image(load(inspect(of(sd1)), "cpu")))


def test_hub_checkpoint_is_found_in_the_cache_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = inspect(of("tests/tiny", revision=COMMIT))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert inspect(of("tests/tiny", revision=COMMIT)).path == online.path
    assert not hub.requests
    assert "HF_HUB_OFFLINE is set; unset it" in refusal("tests/other")


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        (
            "tests/missing",
            "check the spelling, and if the model is private run `hf auth login` or set HF_TOKEN",
        ),
        ("tests/gated", "accept its licence on the model's page, then run `hf auth login`"),
        ("tests/token", "the hub refuses your token"),
        ("tests/forbidden", "answers with status 403"),
        ("tests/bare", "is no diffusers pipeline"),
        ("bad id/with space", "neither a folder nor a hub id"),
    ],
)
def test_hub_refusals_name_the_remedy(hub: Hub, repository: str, words: str) -> None:
    assert words in refusal(repository)


def test_hub_refuses_unknown_revision_and_variant(hub: Hub) -> None:
    assert "has no revision 'none'" in refusal("tests/tiny", revision="none")
    assert "has no variant 'fp16'" in refusal("tests/tiny", variant="fp16")


def test_pickled_hub_checkpoint_is_refused_before_it_is_fetched(hub: Hub, folder: Path) -> None:
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.bin")
    hub.repositories["tests/pickled"] = folder
    assert "is pickled" in refusal("tests/pickled")
    assert not any(path.endswith((".bin", ".safetensors")) for path in hub.requests)


def test_single_file_takes_its_configs_from_the_hub(hub: Hub, single: Path, sd1: Path) -> None:
    found = inspect(of(single, config="tests/tiny"))
    assert found.scheduler_config == inspect(of(sd1)).scheduler_config
    assert not any(path.endswith(".safetensors") for path in hub.requests)
    assert load(found, "cpu").unet is not None


def test_single_file_without_configs_names_the_remedy(hub: Hub, single: Path) -> None:
    message = refusal(single)
    assert "needs the configs of stable-diffusion-v1-5/stable-diffusion-v1-5" in message
    assert "set `config` to a local diffusers folder" in message


def test_full_disk_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    assert "the disk is full" in refusal("tests/tiny")


def test_unreachable_hub_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; from schedcmp.checkpoint import ModelSpec, inspect\n"
        "try: inspect(ModelSpec('tests/tiny'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.startswith("CheckpointError tests/tiny is not complete in the local cache, and the hub")
    assert result.stderr == ""


# Device and dtype


def test_auto_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    assert [resolve_dtype("auto", device) for device in ("cuda:1", "mps", "cpu")] == [
        torch.float16, torch.float16, torch.float32,
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cuda:7", "tpu", "cpu:1", "cuda:x", "meta", ""])
def test_missing_device_is_refused(device: str) -> None:
    with pytest.raises(RequestError, match="is not there"):
        resolve_device(device)


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(RequestError, match="use auto, fp32, fp16, bf16"):
        resolve_dtype("fp8", "cpu")


@pytest.mark.parametrize("scheme", ["file://", "memory://"])
def test_an_address_is_fetched_once_and_again_when_it_changes(
    scheme: str, sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"{scheme}{tmp_path}/there/copy"
    fs, root = fsspec.url_to_fs(address)
    fs.put(f"{sd1}/", root, recursive=True)
    found = inspect(of(address))
    assert (found.name, found.fingerprint) == ("copy", inspect(of(sd1)).fingerprint)
    assert inspect(of(address)).path == found.path
    assert len([p for p in (tmp_path / "cache" / "schedcmp" / "models").iterdir() if p.is_dir()]) == 1
    config = json.loads(fs.cat(f"{root}/unet/config.json"))
    fs.pipe(f"{root}/unet/config.json", json.dumps(config | {"sample_size": 16}).encode())
    assert inspect(of(address)).path != found.path


def test_one_file_at_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.filesystem("memory").pipe("/files/one.safetensors", b"nothing")
    with pytest.raises(CheckpointError, match=r"one.safetensors"):
        inspect(of("memory://files/one.safetensors"))


@pytest.mark.parametrize(
    ("address", "message"),
    [("memory://nowhere", "no checkpoint is there"), ("odd://x/y", "cannot be fetched: Protocol not known: odd")],
)
def test_an_address_of_nothing_is_refused(
    address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=message):
        inspect(of(address))


def test_a_fetch_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.pipe({"/broken/model_index.json": b"{}", "/broken/unet/config.json": b"{}"})

    def broken(path: str, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("the line is dead")

    monkeypatch.setattr(type(memory), "get_file", lambda self, path, target: broken(path, target))
    with pytest.raises(CheckpointError, match="memory://broken cannot be fetched: the line is dead"):
        inspect(of("memory://broken"))
    assert not [p for p in (tmp_path / "schedcmp" / "models").iterdir() if p.suffix != ".lock"]


@pytest.mark.parametrize(
    ("class_name", "file", "model"),
    [
        ("TokenizersBackend", "tokenizer_config.json", False),
        ("CLIPImageProcessorPil", "preprocessor_config.json", False),
        ("AdaptiveProjectedMixGuidance", "guider_config.json", False),
        ("CLIPTextModel", "generation_config.json", True),
        ("CLIPTextModel", "model.safetensors", True),
        ("CLIPTokenizer", "config.json", False),
    ],
)
def test_a_part_without_weights_is_no_model(class_name: str, file: str, model: bool) -> None:
    index = {"_class_name": "P", "scheduler": ["diffusers", "DDIMScheduler"], "part": ["transformers", class_name]}
    part = layout.components(index, [f"part/{file}", "scheduler/scheduler_config.json"], "folder")[-1]
    assert part.is_model is model
