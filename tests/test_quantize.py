"""Quantised weights are near the others, other checkpoints to the store, and refused where they cannot be had."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import prepare
from checkpoints import image
from diffusers import StableDiffusionPipeline
from single_file import write_original_layout

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.checkpoint.quantize import METHODS
from schedcmp.errors import RequestError
from schedcmp.sweep.parts.model import Model

torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


def kinds(model: Any) -> set[str]:
    return {type(tensor).__name__ for tensor in model.state_dict().values()}


@torchao
@pytest.mark.filterwarnings("ignore")  # torchao's own
@pytest.mark.parametrize(("model", "denoiser"), [("builtin:tiny", "unet"), ("builtin:tiny-flow", "transformer")])
def test_quantised_weights_make_nearly_the_same_image(model: str, denoiser: str) -> None:
    checkpoint = inspect(ModelSpec(model, quantize={"denoiser": "int8"}))
    plain = inspect(ModelSpec(model))
    assert checkpoint.fingerprint != plain.fingerprint
    assert "Int8Tensor" in kinds(getattr(load(checkpoint, "cpu"), denoiser))
    apart = np.abs(image(checkpoint, "a red heart") - image(plain, "a red heart"))
    assert 0 < apart.mean() < 0.02


@torchao
@pytest.mark.filterwarnings("ignore")
def test_text_encoders_and_parts_from_elsewhere_are_quantised_too(sd1: Path) -> None:
    methods = {"denoiser": "int8", "text_encoder": "fp8"}
    both = load(inspect(ModelSpec(str(sd1), quantize=methods, parts={"unet": str(sd1)})), "cpu")
    assert "Int8Tensor" in kinds(both.unet)
    assert "Float8Tensor" in kinds(both.text_encoder)


def test_a_single_file_is_not_quantised_in_silence(sd1: Path, tmp_path: Path) -> None:
    path = write_original_layout(StableDiffusionPipeline.from_pretrained(sd1), tmp_path / "m.safetensors")
    whole = {"id": str(path), "config": str(sd1), "quantize": "int8"}
    part = {"id": str(sd1), "unet": str(path), "quantize": "int8"}
    for model in (whole, part):
        with pytest.raises(RequestError, match=r"unet comes from .*, and only diffusers folders are quantised; give"):
            prepared(tmp_path, model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if not row.on_cpu])
def test_what_this_machine_cannot_is_refused_with_what_can(tmp_path: Path, method: str) -> None:
    with pytest.raises(RequestError, match=r"pip install|needs a CUDA GPU"):
        prepared(tmp_path, {"id": "builtin:tiny", "quantize": method}).loader.load()


def prepared(folder: Path, model: dict[str, Any], **keys: Any) -> Any:
    path = folder / "s.yaml"
    path.write_text(json.dumps({"model": model, "prompt": "a", "schedulers": "euler", "steps": 2} | keys, indent=0))
    return prepare(path)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path) -> None:
    told = r"s\.yaml:\d: model: quantize: bnb-4bit needs bitsandbytes, .*: pip install bitsandbytes"
    with pytest.raises(RequestError, match=told):
        prepared(tmp_path, {"id": "builtin:tiny", "quantize": "bnb-4bit"})


def test_a_part_that_is_not_there_and_a_method_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no transformer; it has text_encoder, unet, vae"):
        prepared(tmp_path, {"id": "builtin:tiny", "quantize": {"transformer": "int8"}})
    with pytest.raises(RequestError, match="quantize"):
        prepared(tmp_path, {"id": "builtin:tiny", "quantize": "int3"})


def test_the_sweep_knows_every_method() -> None:
    for method in METHODS:
        assert Model(id="x", quantize=method).quantize == {"denoiser": method}  # type: ignore[arg-type]


def test_methods_go_by_the_names_of_diffusers_and_torchao_too() -> None:
    for name, method in {"bitsandbytes_4bit": "bnb-4bit", "int8wo": "int8", "float8_weight_only": "fp8"}.items():
        assert Model(id="x", quantize={"unet": name}).quantize == {"unet": method}  # type: ignore[dict-item]
