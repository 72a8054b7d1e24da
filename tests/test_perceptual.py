"""LPIPS and DISTS: as torchmetrics computes them from the same features, and in a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import prepare
from PIL import Image
from quick import fewer_steps
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from test_reference import TINY, make
from torch import nn
from torchmetrics.functional.image import dists as their_dists
from torchmetrics.functional.image import lpips as their_lpips

from schedcmp.errors import CheckpointError, SweepError
from schedcmp.metrics.measuring import COMPARED
from schedcmp.metrics.perceptual import Dists, Lpips, shapes
from schedcmp.metrics.wanted import wants_references
from schedcmp.store.images import opened
from schedcmp.store.store import Store

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]  # configuration D


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, as timm's file has them: with the classifier, which nobody needs here."""
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        size = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5 if len(shape) > 1 else 0.1
        return (size * torch.randn(shape, generator=generator)).half()

    path = tmp_path_factory.mktemp("vgg16") / "model.safetensors"
    save_file({"pre_logits.fc1.bias": torch.zeros(3)} | {name: drawn(shape) for name, shape in shapes().items()}, path)
    return path


@pytest.fixture(scope="module")
def features(vgg16: Path) -> nn.Sequential:
    """The layers as the paper lists them, under torchvision's names."""
    from safetensors.torch import load_file

    layers, before = nn.Sequential(), 3
    for width in VGG16:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers.extend([nn.Conv2d(before, width, 3, padding=1), nn.ReLU()])
            before = width
    weights = {name: tensor.float() for name, tensor in load_file(vgg16).items() if name.startswith("features.")}
    layers.load_state_dict({name.removeprefix("features."): tensor for name, tensor in weights.items()})
    return layers


def theirs_of(features: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> dict[type, nn.Module]:
    """torchmetrics' own distances with its own weights of the channels."""
    monkeypatch.setattr(their_lpips, "_get_tv_model_features", lambda net, pretrained: features)
    dists: Any = their_dists.DISTSNetwork.__new__(their_dists.DISTSNetwork)
    nn.Module.__init__(dists)
    ends = (0, 4, 9, 16, 23, 30)
    for i, (start, end) in enumerate(pairwise(ends), 1):
        pools = [their_dists.L2pooling(channels=(64, 128, 256, 512)[i - 2])] if i > 1 else []
        setattr(dists, f"stage{i}", nn.Sequential(*pools, *features[start + len(pools) : end]))
    dists.mean, dists.std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    dists.chns = [3, 64, 128, 256, 512, 512]
    weights = torch.load(their_dists._PATH_WEIGHT_DISTS, weights_only=True, map_location="cpu")
    dists.alpha, dists.beta = nn.Parameter(weights["alpha"]), nn.Parameter(weights["beta"])
    return {Lpips: their_lpips._LPIPS(net="vgg"), Dists: dists}


def pictures() -> Iterator[tuple[Image.Image, Image.Image]]:
    rng = np.random.default_rng(0)
    for width, height, noise in ((16, 16, 0.5), (35, 27, 0.05)):
        smooth = np.clip(gaussian_filter(rng.random((height, width, 3)), (2, 2, 0)) * 3 - 1, 0, 1)
        noisy = np.clip(smooth + rng.normal(0, noise, smooth.shape), 0, 1)
        one, other = (Image.fromarray((255 * x).astype(np.uint8)) for x in (smooth, noisy))
        yield one, other


def test_the_layers_are_vgg16s() -> None:
    assert sum(int(np.prod(shape)) for shape in shapes().values()) == 14_714_688
    assert list(shapes())[-1] == "features.28.bias"


def test_both_are_torchmetrics_own_from_the_same_features(
    vgg16: Path, features: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = theirs_of(features, monkeypatch)
    for one, other in pictures():
        x, y = (torch.from_numpy(np.asarray(i, np.float32) / 255).permute(2, 0, 1)[None] for i in (one, other))
        expected = {Lpips: theirs[Lpips](x, y, normalize=True), Dists: theirs[Dists](x, y)}
        for of in (Lpips, Dists):
            metric = of(str(vgg16))
            assert metric.compare(one, other) == pytest.approx(
                float(expected[of].detach().squeeze()), rel=1e-3, abs=1e-6
            )
            assert metric.compare(one, one) == pytest.approx(0, abs=1e-5)


def test_images_of_two_sizes_or_of_too_few_pixels_are_not_compared(vgg16: Path) -> None:
    for sizes in (((32, 32), (32, 33)), ((15, 32), (15, 32))):
        one, other = (Image.new("RGB", size, "red") for size in sizes)
        assert Lpips(str(vgg16)).compare(one, other) is None


def test_weights_that_are_no_vgg16_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lpips: .* has no features.0.weight of VGG16's shape; give its weights"):
        Lpips(str(tmp_path)).prepare()
    (tmp_path / "vgg.pth").write_bytes(b"\x80\x02}")
    with pytest.raises(CheckpointError, match=r"dists: .*vgg.pth is pickled; convert it to the safetensors format"):
        Dists(str(tmp_path / "vgg.pth")).prepare()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"lpips: timm/vgg16.tv_in1k is not complete in the local cache"):
        Lpips().prepare()


def asked(vgg16: Path) -> list[dict[str, Any]]:
    return [{"name": name, "options": {"model": str(vgg16)}} for name in ("lpips", "dists")]


def test_a_run_compares_what_draws_no_noise_with_its_converged_image(
    vgg16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer_steps(monkeypatch)
    folder = tmp_path / "out"
    sweep = TINY | {
        "schedulers": ["ddim", "euler-a"],
        "steps": [2, 8],
        "width": 32,
        "height": 32,
        "metrics": asked(vgg16),
    }
    make(sweep | {"seeds": [0]}, folder)
    compared: list[str] = []
    for of in (Lpips, Dists):
        monkeypatch.setattr(of, "compare", lambda *given, own=of.compare: compared.append("") or own(*given))
    assert make(sweep | {"seeds": [0, 1]}, folder) == 4
    assert len(compared) == 4  # the new cells of ddim
    with Store.create(folder) as store:
        store.note(COMPARED, {"lpips": store.meta(COMPARED)["lpips"], "dists": {}})
    make(sweep | {"seeds": [0, 1]}, folder)
    assert len(compared) == 8  # all of one metric
    with Store.open(folder) as store:
        images = {task: reference.image for task, reference in store.references().items()}
        cells = list(store.cells())
        for stored in cells:
            names = {"lpips", "dists", "reference_rmse"} & stored.metrics.keys()
            assert names == (set() if stored.cell.scheduler == "euler-a" else {"lpips", "dists", "reference_rmse"})
            if names:
                with (
                    opened(folder, stored.image_path) as image,
                    opened(folder, images[stored.cell.task]) as converged,
                ):
                    assert Lpips(str(vgg16)).compare(image, converged) == pytest.approx(stored.metrics["lpips"])
        far, near = (
            np.mean([c.metrics["dists"] for c in cells if (c.cell.scheduler, c.cell.steps) == ("ddim", n)])
            for n in (2, 8)
        )
        assert far > near
        assert not store.readings()["lpips"].decides


def test_asking_for_one_asks_for_references(vgg16: Path, write_sweep: Any, tmp_path: Path) -> None:
    metrics = asked(vgg16)
    prepared = prepare(write_sweep(metrics=metrics))
    assert wants_references(prepared.sweep, prepared.checkpoint)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(SweepError, match="lpips has no meaning at a strength below 1"):
        prepare(write_sweep(metrics=metrics, image=str(tmp_path / "a.png"), strength=0.5))
