from __future__ import annotations

import csv
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import load, prepare
from checkpoints import VOCABULARY, text_config, tokenizer
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from sentencepiece import SentencePieceTrainer
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from schedcmp.cli import app
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.metrics import Metric
from schedcmp.metrics.aesthetic import Aesthetic
from schedcmp.metrics.clip import ClipScore, Preference
from schedcmp.metrics.clip_model import Clip, clip_score, find_clip, opened_clip
from schedcmp.metrics.distribution import cmmd
from schedcmp.metrics.pixels import Clipped, Sharpness
from schedcmp.metrics.wanted import wants_references
from schedcmp.store.store import Store
from schedcmp.truth.adherence import adherence, asked_for, shown_in
from schedcmp.truth.metrics import psnr_db, relative_rmse, ssim
from tools.tiny.captions import plain_caption, training_caption
from tools.tiny.shapes import draw_many

Write = Callable[..., Path]
RNG = np.random.default_rng(0)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([*map(str, arguments)])
    return int(ended.value.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# pixels and latents ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures (3, 40, 48) that are alike."""
    one = gaussian_filter(RNG.random((3, 40, 48)), (0, 3, 3)) * 3 - 1
    return torch.from_numpy(one).float(), torch.from_numpy(one + RNG.normal(0, 0.02, one.shape)).float()


def test_psnr_is_its_formula(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    one, other = pair
    assert psnr_db(one, other) == pytest.approx(-10 * float(torch.log10(((one - other) ** 2).mean())), rel=1e-5)
    assert psnr_db(one, one) == float("inf")


def test_ssim_is_its_formula(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Wang et al. 2004, equation 13, over whole windows of 11 pixels; each colour by itself."""
    x, y = (image.double().numpy() for image in pair)

    def mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, (0, 1.5, 1.5), radius=(0, 5, 5))[:, 5:-5, 5:-5]

    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    luminance = (2 * mean(x) * mean(y) + 0.01**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.01**2)
    expected = (luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean()
    assert ssim(*pair) == pytest.approx(expected, abs=1e-4)
    assert ssim(pair[0], pair[0]) == pytest.approx(1)


def test_the_scale_of_latents_does_not_matter() -> None:
    x, y = RNG.normal(size=(2, 1, 4, 64, 64)).astype(np.float32)
    assert relative_rmse(x, y) == pytest.approx(2**0.5, rel=0.02)
    assert relative_rmse(5 * x, 5 * y) == pytest.approx(relative_rmse(x, y))
    assert np.isnan(relative_rmse(x, np.empty(0, np.float32)))
    assert not np.isfinite(relative_rmse(x * np.inf, x))
    assert not np.isfinite(relative_rmse(x, 0 * x))


# CLIP -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4
    )
    config = CLIPConfig(text_config=text_config().to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    folder = tmp_path_factory.mktemp("clip") / "clip"
    CLIPModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def test_the_clip_score_is_that_of_transformers_own_forward(clip_folder: Path) -> None:
    clip, image = Clip(find_clip(str(clip_folder))), picture(16, 16)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    mean, std = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    pixels = torch.from_numpy((np.asarray(image, np.float32) / 255 - mean) / std).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        tokens = tokenizer()("a b", return_tensors="pt")
        theirs = model(pixel_values=pixels, **tokens).logits_per_image / model.logit_scale.exp()
    assert clip_score(clip.images([image]), clip.text("a b")) == pytest.approx(100 * float(theirs), rel=1e-4)


def test_images_of_any_size_and_texts_of_any_length_can_be_read(clip_folder: Path) -> None:
    clip = Clip(clip_folder)
    images = [picture(*size) for size in ((16, 16), (40, 24), (8, 64), (13, 17))]
    together = clip.images(images * 10)
    assert together.shape == (40, 8)
    assert np.allclose(together[:4], np.concatenate([clip.images([image]) for image in images]), atol=1e-6)
    assert np.allclose(clip.text("a b " * 100), clip.text("a b " * 200))
    assert len(VOCABULARY) < 100


SIGMOID = {
    "siglip": (SiglipConfig, SiglipModel, {"image_size": 16}),
    "siglip2": (Siglip2Config, Siglip2Model, {"num_patches": 16}),
}


def siglip_parts(kind: str, folder: Path) -> tuple[Any, Any]:
    """What reads texts, with a vocabulary of its own, and images."""
    if kind == "siglip":
        trained, size = str(folder.parent / kind), {"height": 16, "width": 16}
        told = iter(["a red star on a blue background", "two of them, and a ring"] * 20)
        SentencePieceTrainer.train(
            sentence_iterator=told, model_prefix=trained, vocab_size=30, unk_id=2, bos_id=-1, eos_id=1, pad_id=0,
            minloglevel=9,
        )  # fmt: skip
        return SiglipTokenizer(f"{trained}.model", model_max_length=8), SiglipImageProcessorPil(size=size)
    letters = {token: i for i, token in enumerate(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"abcdeorst▁"))}
    return Siglip2Tokenizer(letters, [], model_max_length=8), Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16)


@pytest.fixture(scope="module", params=SIGMOID)
def siglip_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP of random weights."""
    torch.manual_seed(0)
    config, model, size = SIGMOID[request.param]
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = tmp_path_factory.mktemp("siglip") / "model"
    text = small | {"vocab_size": 40, "max_position_embeddings": 8, "projection_size": 16}
    made = model(config(text_config=text, vision_config=small | size | {"patch_size": 4}))
    torch.nn.init.constant_(made.logit_scale, 2.0)
    torch.nn.init.constant_(made.logit_bias, -3.0)
    made.save_pretrained(folder)
    for part in siglip_parts(request.param, folder):
        part.save_pretrained(folder)
    return folder


def test_a_sigmoid_models_scores_are_those_of_transformers_own_processor_and_forward(siglip_folder: Path) -> None:
    clip, model = opened_clip(str(siglip_folder)), AutoModel.from_pretrained(siglip_folder).eval()
    read, seen = AutoTokenizer.from_pretrained(siglip_folder), AutoImageProcessor.from_pretrained(siglip_folder)
    if model.config.model_type == "siglip":
        of, own = SiglipProcessor, {}
    else:
        of, own = Siglip2Processor, {"patch_size": 4, "max_num_patches": 16}
    clip.refuse_unreadable()
    for image, text in ((picture(16, 16), "a star"), (picture(40, 12), "Red or TEAR " * 9)):
        options = {"padding": "max_length", "max_length": 8, "truncation": True, "return_tensors": "pt"} | own
        given = of(seen, read)(text=[text], images=[image], **options)
        with torch.no_grad():
            theirs = model(**given).logits_per_image
        assert clip.logit(clip.images([image]), clip.text(text)) == pytest.approx(float(theirs), rel=1e-4)
        cosine = (float(theirs) + 3) / np.exp(2)
        score = ClipScore(str(siglip_folder)).measure(image, text)
        assert score == pytest.approx(100 * cosine, rel=1e-3)


def test_a_model_that_nothing_reads_texts_or_images_for_is_refused(siglip_folder: Path, tmp_path: Path) -> None:
    for lost, message in (
        ("tokenizer*", "has no vocabulary"),
        ("preprocessor_config.json", "cannot be read: Can't load"),
    ):
        bare = tmp_path / lost.strip("*")
        shutil.copytree(siglip_folder, bare, ignore=shutil.ignore_patterns(lost, "spiece.model" if "*" in lost else ""))
        with pytest.raises(CheckpointError, match=f"clip_model: {bare}.*{message}"):
            ClipScore(str(bare)).prepare()


def test_cmmd_is_its_formula() -> None:
    """Jayasumana et al. 2024, equation 4, in loops."""
    x, y = (features / np.linalg.norm(features, axis=1)[:, None] for features in RNG.normal(size=(2, 5, 3)))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / (2 * 10**2)))

    own = sum(k(s[i], s[j]) for s in (x, y) for i in range(5) for j in range(5) if i != j) / (5 * 4)
    cross = sum(k(a, b) for a in x for b in y) / 25
    assert cmmd(x, y) == pytest.approx(1000 * (own - 2 * cross), rel=1e-6)


def test_cmmd_of_one_distribution_is_about_zero() -> None:
    x, y, z = RNG.normal(size=(3, 400, 8))
    z[:, 0] += 1
    x, y, z = (features / np.linalg.norm(features, axis=1)[:, None] for features in (x, y, z))
    assert abs(cmmd(x, y)) < 0.1 * cmmd(x, z)


@pytest.mark.parametrize(
    ("gone", "message"), [("model.safetensors", "has no model.safetensors"), ("config.json", "has no config.json")]
)
def test_a_folder_that_is_no_clip_is_refused(gone: str, message: str, clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "clip")
    (tmp_path / "clip" / gone).unlink()
    with pytest.raises(CheckpointError, match=message):
        find_clip(str(tmp_path / "clip"))


def test_another_model_than_clip_is_refused(sd1: Path) -> None:
    with pytest.raises(CheckpointError, match="'clip_text_model'; give one of type 'clip', 'siglip', 'siglip2'"):
        find_clip(str(sd1 / "text_encoder"))


def test_a_hub_id_offline_is_one_clear_refusal_and_nothing_is_written(
    write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sweep = write_sweep(metrics="clip", clip_model="tests/no-clip")
    assert run("run", sweep, "-o", tmp_path / "out") == 2
    shown = capsys.readouterr().err
    assert "clip_model: tests/no-clip is not complete in the local cache, and HF_HUB_OFFLINE is set" in shown
    assert not (tmp_path / "out").exists()


# adherence ------------------------------------------------------------------------------------------------------------


def test_the_training_pictures_are_read_rightly() -> None:
    drawings = [(drawing, shown_in(Image.fromarray(image))) for drawing, image in draw_many(300, seed=77)]
    for name, least in (("background", 1.0), ("colour", 0.98), ("shape", 0.98)):
        assert np.mean([shown.get(name) == getattr(drawing, name) for drawing, shown in drawings]) >= least


def test_prompts_are_read_rightly_in_any_wording() -> None:
    rng = random.Random(1)
    for drawing, image in draw_many(200, seed=5):
        told = {name: getattr(drawing, name) for name in ("background", "colour", "shape")}
        assert asked_for(plain_caption(drawing)) == told
        assert asked_for(training_caption(drawing, rng)).items() <= told.items()
        assert adherence(Image.fromarray(image), plain_caption(drawing)) is not None


def test_adherence_is_the_share_of_what_was_asked_for() -> None:
    drawing, pixels = next((d, i) for d, i in draw_many(50, seed=3) if d.shape == "star" and d.texture == "plain")
    image = Image.fromarray(pixels)
    right, others = plain_caption(drawing), {"a star": 1, "a heart": 0, "a cat": None, "": None}
    assert adherence(image, right) == 1
    assert adherence(image, right.replace("star", "ring")) == pytest.approx(2 / 3)
    assert {prompt: adherence(image, prompt) for prompt in others} == others
    flat = Image.new("RGB", (64, 64), "white")
    assert adherence(flat, "a red ring on a white background") == pytest.approx(1 / 3)


def test_a_mirror_upside_down_is_another_shape() -> None:
    drawing, pixels = next((d, i) for d, i in draw_many(200, seed=4) if d.shape == "heart" and d.texture == "plain")
    assert adherence(Image.fromarray(pixels[::-1].copy()), f"a {drawing.colour} heart") == pytest.approx(1 / 2)


def test_adherence_is_for_the_checkpoint_that_draws_shapes(write_sweep: Write) -> None:
    with pytest.raises(SweepError, match=r"sweep.yaml:.*metrics: adherence reads the shapes .* builtin:tiny-flow draw"):
        prepare(write_sweep(metrics=["adherence"]))


# the run --------------------------------------------------------------------------------------------------------------


def test_more_metrics_of_a_finished_run_make_no_image(
    write_sweep: Write, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, real = tmp_path / "out", tmp_path / "real"
    real.mkdir()
    for i in range(3):
        picture(16, 16).save(real / f"{i}.png")
    sweep = write_sweep(model="builtin:tiny", prompt="a red star on a white background", timing="off", steps=[2])
    assert run("run", sweep, "-o", out) == 0
    assert "clip" not in rows(out / "results.csv")[0]
    times = {p: p.stat().st_mtime_ns for p in out.rglob("seed-*.png")}
    more = (f"clip_model={clip_folder}", f"real_images={real}", "metrics=[clip, adherence]")
    assert run("run", sweep, "-o", out, *(part for change in more for part in ("--set", change))) == 0
    assert "6 cells are there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in times} == times
    found = rows(out / "results.csv")
    assert all(-100 <= float(row["clip"]) <= 100 and 0 <= float(row["adherence"]) <= 1 for row in found)
    table = rows(out / "distribution.csv")
    assert [(r["scheduler"], r["steps"], r["images"], r["real_images"]) for r in table] == [
        (name, "2", "2", "3") for name in ("ddim", "euler-a", "heun")
    ]
    assert all(float(r["cmmd"]) != 0 for r in table)
    assert run("run", out / "sweep.yaml", "-o", out) == 0
    assert rows(out / "results.csv") == found
    assert rows(out / "distribution.csv") == table


def test_real_images_may_be_at_an_address(write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real = tmp_path / "real"
    (real / "more").mkdir(parents=True)
    for name in ("b.PNG", "more/a.png"):
        picture(16, 16).save(real / name)
    (real / "notes.txt").write_text("mine")
    found = prepare(write_sweep(real_images=real.as_uri())).real_images
    assert [path.read_bytes() for path in found] == [(real / name).read_bytes() for name in ("b.PNG", "more/a.png")]
    assert not list((tmp_path / "cache").rglob("notes.txt"))


def test_another_clip_model_measures_anew(write_sweep: Write, clip_folder: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(clip_folder, other)
    model = CLIPModel.from_pretrained(other)
    torch.nn.init.normal_(model.visual_projection.weight)
    model.save_pretrained(other)
    sweep = write_sweep(schedulers=["ddim"], steps=[2], metrics="clip", timing="off")
    found = []
    for folder in (clip_folder, other):
        assert run("run", sweep, "-o", out, "--set", f"clip_model={folder}") == 0
        with Store.open(out) as store:
            found.append([stored.metrics["clip"] for stored in store.cells()])
    assert all(a != b for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["clp"]}, "sweep.yaml:.*metrics: unknown metric 'clp'; did you mean clip"),
        ({"metrics": ["no.such.Metric"]}, "the metric no.such.Metric cannot be loaded: No module named 'no'"),
        ({"metrics": ["collections.Counter"]}, "collections.Counter is no subclass of schedcmp.metrics.Metric"),
        ({"metrics": [{"name": "clip", "options": {"modle": 1}}]}, "clip takes no option 'modle'; it takes: model"),
        ({"metrics": ["sharpness", {"name": "sharpness"}]}, "two metrics are called sharpness"),
        ({"real_images": "nowhere"}, "real_images: nowhere has 0 images"),
        ({"real_images": "memory://nowhere"}, "sweep.yaml:.*real_images: memory://nowhere: no images are there"),
        ({"real_images": "odd://x"}, "sweep.yaml:.*real_images: odd://x cannot be fetched: Protocol not known"),
        ({"metrics": ["clip", "clip"]}, "gives 'clip' twice"),
    ],
)
def test_a_wrong_request_for_metrics_is_refused(change: dict[str, object], message: str, write_sweep: Write) -> None:
    with pytest.raises(SweepError, match=message):
        prepare(write_sweep(**change))


def test_metrics_may_be_written_in_several_ways(write_sweep: Write) -> None:
    for given, meant in (("off", ()), (False, ()), ([], ()), ("clip", ("clip",)), ("auto", ("auto",))):
        assert load(write_sweep(metrics=given))[0].metrics == meant
    prepared = prepare(write_sweep(metrics="auto"))
    assert wants_references(prepared.sweep, prepared.checkpoint)  # so small a checkpoint


# metrics of one's own -------------------------------------------------------------------------------------------------


class Redness(Metric):
    """The mean of the red channel, from 0 to 1."""

    name = "redness"
    label = "redness"

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    @property
    def origin(self) -> str:
        return str(self.power)

    def measure(self, image: Image.Image, prompt: str) -> float | None:
        return float((np.asarray(image)[..., 0] / 255).mean()) ** self.power


class Broken(Redness):
    name = "broken"

    def measure(self, image: Image.Image, prompt: str) -> float | None:
        sys.exit(0)


def test_a_metric_of_ones_own_is_a_class(
    write_sweep: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = [
        "test_metrics.Redness",
        {"name": "squared", "metric": "test_metrics.Redness", "options": {"power": 2}},
    ]
    sweep = write_sweep(
        schedulers=["ddim", "euler-a"], steps=[2], timing="off", metrics=[*asked, "test_metrics.Broken"]
    )
    out = tmp_path / "out"
    assert run("run", sweep, "-o", out) == 0
    assert "the metric broken failed, and its values are missing: SystemExit(0)" in capsys.readouterr().err
    found = rows(out / "results.csv")
    assert all(float(row["squared"]) == pytest.approx(float(row["redness"]) ** 2) for row in found)
    with Store.open(out) as store:
        assert store.readings()["squared"].title == "redness (squared)"
    assert run("recommend", out, "--metric", "squared") == 0
    assert "redness (squared)" in capsys.readouterr().out
    asked[1] = {"name": "squared", "metric": "test_metrics.Redness", "options": {"power": 3}}
    assert run("run", write_sweep(schedulers=["ddim"], steps=[2], timing="off", metrics=asked), "-o", out) == 0
    assert all(float(row["squared"]) == pytest.approx(float(row["redness"]) ** 3) for row in rows(out / "results.csv"))


def test_sharpness_and_clipping_are_always_there_and_decide_nothing(write_sweep: Write, tmp_path: Path) -> None:
    checker = Image.fromarray(np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    assert Sharpness().measure(checker, "") == pytest.approx(1020)
    assert Sharpness().measure(Image.new("RGB", (8, 8), "red"), "") == 0
    assert Clipped().measure(checker, "") == 1
    assert Clipped().measure(Image.new("RGB", (8, 8), (9, 9, 255)), "") == pytest.approx(1 / 3)
    sweep = write_sweep(
        schedulers=["ddim", "euler-a"],
        steps=[2],
        timing="off",
        metrics="adherence",
        model="builtin:tiny",
        prompt="a red star",
    )
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    assert all({"sharpness", "clipped", "adherence"} <= row.keys() for row in rows(tmp_path / "out/results.csv"))
    with Store.open(tmp_path / "out") as store:
        assert [
            r.name for r in store.readings().values() if r.decides and r.name in {"sharpness", "clipped", "adherence"}
        ] == ["adherence"]


def test_a_preference_is_the_models_own_logit(clip_folder: Path) -> None:
    scale = float(CLIPModel.from_pretrained(clip_folder).logit_scale.detach().exp())
    image, both = picture(16, 16), {"model": str(clip_folder)}
    score = ClipScore(**both).measure(image, "a b")
    assert score
    assert Preference(**both).measure(image, "a b") == pytest.approx(scale * score / 100)


def test_an_aesthetic_score_is_its_heads_layers_on_the_embedding(clip_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.Dropout(), *(torch.nn.Linear(5, 5) for _ in range(9)))
    head.append(torch.nn.Linear(5, 1))
    save_file({f"layers.{name}": tensor for name, tensor in head.state_dict().items()}, tmp_path / "model.safetensors")
    image, metric = picture(16, 16), Aesthetic(str(clip_folder), str(tmp_path))
    metric.prepare()
    with torch.no_grad():
        expected = head.eval()(torch.from_numpy(metric.embedding(image)).float())
    assert metric.measure(image, "") == pytest.approx(float(expected), rel=1e-4)
    save_file({"weight": torch.zeros(1, 9), "bias": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        CheckpointError, match=r"aesthetic: .*other.safetensors is no head of linear layers from .* 8 n"
    ):
        Aesthetic(str(clip_folder), str(tmp_path / "other.safetensors")).prepare()


def test_a_sigmoid_models_embedding_may_have_a_head_too(siglip_folder: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1, 16), "bias": torch.ones(1)}, tmp_path / "head.safetensors")
    metric = Aesthetic(str(siglip_folder), str(tmp_path / "head.safetensors"))
    metric.prepare()
    image = picture(16, 16)
    assert metric.measure(image, "") == pytest.approx(1 + metric.embedding(image).sum(), rel=1e-4)


def test_a_runs_sweep_finds_its_models_from_any_folder(
    clip_folder: Path, write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [{"name": "liked", "metric": "preference", "options": {"model": "clip"}}, "sharpness"]
    monkeypatch.chdir(clip_folder.parent)
    named, liked = prepare(write_sweep(metrics=asked)).portable_sweep.metrics
    assert named == "sharpness"
    assert not isinstance(liked, str)
    assert liked.options == {"model": str(clip_folder)}
    redness = {"name": "redness", "metric": "test_metrics.Redness", "options": {"power": 2}}
    (own,) = prepare(write_sweep(metrics=[redness])).portable_sweep.metrics
    assert not isinstance(own, str)
    assert own.options == {"power": 2}


def test_the_example_of_a_metric_measures(monkeypatch: pytest.MonkeyPatch, write_sweep: Write, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    sweep = write_sweep(schedulers=["ddim"], steps=[2], timing="off", metrics="redness.Redness")
    assert run("run", sweep, "-o", tmp_path / "out") == 0
    assert all(0 < float(row["redness"]) < 1 for row in rows(tmp_path / "out/results.csv"))
