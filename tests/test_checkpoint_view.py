"""What is loaded is what was checked and fingerprinted, whatever else lies beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from single_file import write_original_layout

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.view import only
from schedcmp.errors import CheckpointError

UNET = "unet/diffusion_pytorch_model"
TEXT = "text_encoder/model"


@pytest.fixture
def folder(sd1: Path, tmp_path: Path) -> Path:
    """A copy of `sd1` to break."""
    return Path(shutil.copytree(sd1, tmp_path / "copy"))


def write_index(folder: Path, weights: str, file: str, variant: str = "") -> Path:
    """An index that says that another file has the tensors."""
    keys = load_file(folder / f"{weights}{variant}.safetensors")
    path = folder / f"{weights}.safetensors.index{variant}.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, file)}))
    return path


def scaled(path: Path, target: Path) -> None:
    save_file({name: tensor * 1.3 for name, tensor in load_file(path).items()}, target, {"format": "pt"})


def refusal(folder: Path, **options: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect(ModelSpec(str(folder), **options))
    return str(caught.value)


def state(folder: Path, component: str = "unet", **options: str) -> dict[str, Any]:
    found: dict[str, Any] = getattr(load(inspect(ModelSpec(str(folder), **options)), "cpu"), component).state_dict()
    return found


@pytest.mark.parametrize("weights", [UNET, TEXT])
@pytest.mark.parametrize("file", ["w.bin", "other.safetensors", "../other.safetensors", "/tmp/w.bin", "", "."])
def test_an_index_that_names_other_files_is_refused(folder: Path, weights: str, file: str) -> None:
    torch.save({}, (folder / weights).with_name("w.bin"))
    scaled(folder / f"{weights}.safetensors", (folder / weights).with_name("other.safetensors"))
    write_index(folder, weights, file)
    assert "nothing else is ever loaded" in refusal(folder)


@pytest.mark.parametrize("weights", [UNET, TEXT])
def test_an_index_of_a_variant_is_held_to_the_variants_weights(folder: Path, weights: str) -> None:
    plain, half = folder / f"{weights}.safetensors", folder / f"{weights}.fp16.safetensors"
    scaled(plain, half)
    write_index(folder, weights, plain.name, ".fp16")
    assert inspect(ModelSpec(str(folder))).fingerprint  # another variant's is not read
    assert f"'{weights}.safetensors' is none of the component's" in refusal(folder, variant="fp16")


@pytest.mark.parametrize("value", [[], None, {}, {"a": 1}, "x", [["a", "b"]]])
def test_an_index_that_is_none_is_refused(folder: Path, value: object) -> None:
    (folder / f"{UNET}.safetensors.index.json").write_text(json.dumps({"weight_map": value}))
    assert "`weight_map` must give each tensor's file" in refusal(folder)


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize(("component", "stem"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_shards_are_loaded_and_the_file_beside_them_does_not_count(
    sd1: Path, folder: Path, component: str, stem: str, variant: str
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(sd1)
    options = {"variant": variant} if variant else {}
    model = getattr(pipeline, component)
    model.save_pretrained(folder / component, max_shard_size="5KB", **options)
    shards = sorted((folder / component).glob("*-of-*.safetensors"))
    assert len(shards) > 1
    alone = inspect(ModelSpec(str(folder), **options)).fingerprint
    whole = f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"
    scaled(sd1 / component / f"{stem}.safetensors", folder / component / whole)
    found = inspect(ModelSpec(str(folder), **options))
    assert found.fingerprint == alone
    assert {file.path for file in found.content if file.path.suffix == ".safetensors"} >= {*shards}
    loaded = state(folder, component, **options)
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_nothing_beside_what_was_checked_is_there_for_the_libraries(folder: Path) -> None:
    torch.save({}, folder / "text_encoder/pytorch_model.bin")
    (folder / "text_encoder/adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    with only(inspect(ModelSpec(str(folder))).content) as view:
        assert {path.name for path in (view / "text_encoder").iterdir()} == {"config.json", "model.safetensors"}
    assert not view.exists()


def test_weights_that_change_after_the_check_are_refused(folder: Path) -> None:
    found = inspect(ModelSpec(str(folder)))
    scaled(folder / f"{UNET}.safetensors", folder / f"{UNET}.safetensors")
    with pytest.raises(CheckpointError, match="has changed since it was checked"):
        load(found, "cpu")


def test_a_single_file_takes_only_checked_weights_from_its_config_folder(folder: Path, tmp_path: Path) -> None:
    """diffusers' from_single_file falls back to those, pickled ones among them."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    single = write_original_layout(pipeline, tmp_path / "single.safetensors")
    tensors = load_file(single)
    save_file({name: t for name, t in tensors.items() if not name.startswith("cond_stage")}, single)
    found = inspect(ModelSpec(str(single), config=str(folder)))
    assert folder / f"{TEXT}.safetensors" in {file.path for file in found.content}
    index = write_index(folder, TEXT, "w.bin")
    torch.save({}, folder / "text_encoder/w.bin")
    assert "nothing else is ever loaded" in refusal(single, config=str(folder))
    index.unlink()
    torch.save({}, folder / "text_encoder/pytorch_model.bin")
    (folder / f"{TEXT}.safetensors").unlink()
    assert "text encoder" in refusal(single, config=str(folder))


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "tokenizer/tokenizer_config.json",
        "unet/diffusion_pytorch_model.safetensors.index.json",
    ],
)
@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, '{"a":' * 500 + "1" + "}" * 500])
def test_deep_json_is_refused(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=r"levels deep|not valid JSON"):
        inspect(ModelSpec(str(folder))).fingerprint  # noqa: B018  reads the rest


@pytest.mark.parametrize("name", ["pipe", "pipe.safetensors", "pipe.ckpt"])
def test_a_pipe_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "is a pipe or a device" in refusal(tmp_path / name)
    assert "is a pipe or a device" in refusal(Path("/dev/zero"))


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_pipe_in_a_checkpoint_is_not_waited_for(folder: Path, file: str) -> None:
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    try:
        inspect(ModelSpec(str(folder))).fingerprint  # noqa: B018
    except CheckpointError as error:
        assert "missing" in str(error) or "no regular file" in str(error) or "no .safetensors" in str(error)


def test_an_unknown_users_home_is_no_folder() -> None:
    assert "no such folder or file" in refusal(Path("~nosuchuser/x"))


@pytest.mark.parametrize(
    ("component", "change"),
    [
        ("unet", {"layers_per_block": 10**7}),
        ("unet", {"layers_per_block": [1, 10**7]}),
        ("unet", {"transformer_layers_per_block": [[1, 10**7], 1]}),
        ("unet", {"block_out_channels": [8] * 10**6}),
        ("vae", {"layers_per_block": 10**7}),
        ("text_encoder", {"num_hidden_layers": 10**6}),
        ("text_encoder", {"text_config": {"num_hidden_layers": 10**6}}),
        ("text_encoder", {"max_position_embeddings": 10**9}),
        ("text_encoder", {"hidden_size": 10**9}),
        ("unet", {"cross_attention_dim": 10**9}),
        ("unet", {"block_out_channels": [8, 10**9]}),
    ],
)
def test_a_config_asks_for_no_more_than_there_are_weights(
    folder: Path, component: str, change: dict[str, object]
) -> None:
    path = folder / component / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    key = next(reversed(change if "text_config" not in change else {"num_hidden_layers": 0}))
    assert f"{path}: `{key}` is larger than the" in refusal(folder)


@pytest.mark.parametrize(("length", "refused"), [(10**9, True), (10**18, True), (77, False), (int(1e30), False)])
def test_texts_are_not_filled_up_beyond_all_memory(folder: Path, length: int, refused: bool) -> None:
    """A tokenizer in Rust ends the process where it finds no memory."""
    path = folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": length}))
    if refused:
        assert f"{path}: `model_max_length` is {length:,}, and no text encoder" in refusal(folder)
    else:
        inspect(ModelSpec(str(folder)))


def test_a_checkpoints_own_size_is_bounded(folder: Path) -> None:
    path = folder / "unet/config.json"
    for size in (10**6, [8, 10**6]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": size}))
        assert "`sample_size` asks for images of over 16,384 pixels" in refusal(folder)


def test_a_part_from_elsewhere_is_imported_from_the_libraries_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flux.py").write_text("raise SystemExit('imported')")  # diffusers has pipelines of that name
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"vae": ["flux", "AutoencoderKL"]}))
    with pytest.raises(CheckpointError, match="vae is of flux, which cannot be taken from elsewhere"):
        load(inspect(ModelSpec(str(folder), parts={"vae": str(folder / "vae")})), "cpu")
