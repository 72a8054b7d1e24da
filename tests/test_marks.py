"""What a checkpoint says of itself is honoured; what a single file lacks is told, or taken from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from asked import prepare
from checkpoints import image, vae
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from single_file import write_original_layout

from schedcmp.checkpoint import Checkpoint, ModelSpec, inspect
from schedcmp.errors import CheckpointError

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def tensors(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    return load_file(write_original_layout(StableDiffusionPipeline.from_pretrained(sd1), path))


@pytest.fixture
def write(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Write:
    """Writes the file with some of its tensors, others and metadata."""

    def write(
        without: tuple[str, ...] = ("-",), metadata: dict[str, str] | None = None, name: str = "m", **more: torch.Tensor
    ) -> Path:
        path = tmp_path / f"{name}.safetensors"
        kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(without)}
        save_file(kept | more, path, metadata)
        return path

    return write


@pytest.fixture(scope="module")
def configs(sd1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of `sd1`, without weights."""
    folder = copytree(sd1, tmp_path_factory.mktemp("configs") / "configs")
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


def found(path: Path, configs: Path, **options: Any) -> Checkpoint:
    return inspect(ModelSpec(str(path), config=str(configs), **options))


@pytest.mark.parametrize(
    ("metadata", "keys", "expected"),
    [
        ({}, ["v_pred"], ("v_prediction", None)),
        ({}, ["v_pred", "ztsnr"], ("v_prediction", True)),
        ({"modelspec.prediction_type": "v"}, [], ("v_prediction", None)),
        ({"modelspec.prediction_type": "v_prediction"}, [], ("v_prediction", None)),
        ({"modelspec.prediction_type": "epsilon"}, ["v_pred"], ("v_prediction", None)),
        ({"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, [], ("v_prediction", True)),
        ({"ss_v_parameterization": "False"}, [], ("epsilon", None)),
        ({}, [], ("epsilon", None)),
    ],
)
def test_a_single_file_is_what_it_says(
    write: Write, configs: Path, metadata: dict[str, str], keys: list[str], expected: tuple[str, bool | None]
) -> None:
    path = write(metadata=metadata or None, **{key: torch.tensor([]) for key in keys})
    checkpoint = found(path, configs)
    config = checkpoint.scheduler_config
    assert (config["prediction_type"], config.get("rescale_betas_zero_snr")) == expected
    assert bool(checkpoint.remarks) == (expected != ("epsilon", None))


def test_the_schedulers_run_as_the_file_says_and_it_is_told(write: Write, configs: Path, write_sweep: Any) -> None:
    path = write(v_pred=torch.tensor([]), ztsnr=torch.tensor([]))
    sweep = write_sweep(model={"id": str(path), "config": str(configs)}, schedulers=["euler"], steps=2)
    prepared = prepare(sweep)
    assert prepared.recipes["euler"].config["prediction_type"] == "v_prediction"
    assert prepared.recipes["euler"].config["rescale_betas_zero_snr"]
    assert any("by the key v_pred" in warning for warning in prepared.warnings)


def test_a_prediction_that_nobody_knows_is_told(write: Write, configs: Path) -> None:
    (remark,) = found(write(metadata={"modelspec.prediction_type": "rectified"}), configs).remarks
    assert "'rectified', which is not known here; epsilon is taken" in remark


def test_an_edm_file_wants_configs_of_its_kind(write: Write, configs: Path) -> None:
    with pytest.raises(CheckpointError, match=r"key edm_vpred\.sigma_max, so it is an EDM model.* set `config`"):
        found(write(**{"edm_vpred.sigma_max": torch.tensor(120.0)}), configs)


@pytest.mark.parametrize(
    ("name", "remarked"),
    [("noob-vpred-1.0", 1), ("some_V-Prediction ztsnr", 2), ("zsnr_model", 1), ("dreamshaper", 0), ("vprediger", 0)],
)
def test_a_name_is_only_a_hint(write: Write, configs: Path, name: str, remarked: int) -> None:
    checkpoint = found(write(name=name), configs)
    assert len(checkpoint.remarks) == remarked
    assert checkpoint.scheduler_config["prediction_type"] == "epsilon"


def test_a_name_that_the_configs_confirm_is_no_remark(write: Write, configs: Path) -> None:
    assert all(
        "has a name" not in text for text in found(write(name="x-vpred", v_pred=torch.tensor([])), configs).remarks
    )


VAE, TEXT = "first_stage_model.", "cond_stage_model."


def test_what_a_file_lacks_is_told_with_what_to_do(write: Write, configs: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no VAE; set `vae` to .*; or set `config`"):
        found(write((VAE,)), configs)
    with pytest.raises(CheckpointError, match=r"holds no text encoder; set `config` to a whole diffusers folder"):
        found(write((TEXT,)), configs)
    with pytest.raises(CheckpointError, match=r"holds no text encoder and no VAE; set `config`"):
        found(write((VAE, TEXT)), configs)


def test_what_a_file_lacks_is_taken_from_a_whole_config_folder(write: Write, sd1: Path) -> None:
    checkpoint = found(write((VAE, TEXT)), sd1)
    assert [part.name for part in checkpoint.elsewhere] == ["text_encoder", "vae"]
    assert len(checkpoint.remarks) == 2
    assert np.allclose(image(checkpoint), image(inspect(ModelSpec(str(sd1)))), atol=1e-6)


def test_another_vae_is_taken_from_a_folder_a_pipeline_or_a_file(write: Write, sd1: Path, tmp_path: Path) -> None:
    own = image(inspect(ModelSpec(str(sd1))))
    torch.manual_seed(1)
    other = vae()
    other.save_pretrained(tmp_path / "other")
    assert not np.allclose(image(inspect(ModelSpec(str(sd1), parts={"vae": str(tmp_path / "other")}))), own, atol=1e-3)
    whole = write()
    for name in (str(sd1), str(sd1 / "vae"), str(whole)):
        checkpoint = found(write((VAE,), name="without"), sd1, parts={"vae": name})
        assert np.allclose(image(checkpoint), own, atol=1e-6)


def test_the_fingerprint_tells_vaes_apart(sd1: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    vae().save_pretrained(tmp_path / "other")
    plain, same, other = (
        inspect(ModelSpec(str(sd1), parts={"vae": name} if name else {}))
        for name in (None, str(sd1 / "vae"), str(tmp_path / "other"))
    )
    assert plain.fingerprint == same.fingerprint != other.fingerprint


def test_a_vae_that_is_none_or_does_not_fit_is_refused(sd1: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vae: .*nowhere: no such folder or file"):
        inspect(ModelSpec(str(sd1), parts={"vae": str(tmp_path / "nowhere")}))
    with pytest.raises(CheckpointError, match="holds no VAE"):
        inspect(ModelSpec(str(sd1), parts={"vae": str(sd1 / "unet/diffusion_pytorch_model.safetensors")}))
    folder = copytree(sd1 / "vae", tmp_path / "sixteen")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"latent_channels": 4', '"latent_channels": 16'))
    with pytest.raises(CheckpointError, match="latent_channels: 16, and the checkpoint's other models go with 4"):
        inspect(ModelSpec(str(sd1), parts={"vae": str(folder)}))


def test_an_inpainting_file_with_configs_of_a_plain_model_is_refused(write: Write, configs: Path) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    with pytest.raises(CheckpointError, match=r"reads 9 channels \(9: an inpainting model\), and its configs say 4"):
        found(write(**{name: torch.zeros(8, 9, 3, 3)}), configs)
