"""How diffusers' pipelines call their schedulers, read from their source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from asked import prepare
from checkpoints import save_sd1, text_config
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    LCMScheduler,
    SCMScheduler,
    UniPCMultistepScheduler,
)
from families import flux
from transformers import CLIPTextModel

from schedcmp.checkpoint import ModelSpec, inspect
from schedcmp.checkpoint.loading.load import load
from schedcmp.cli.judging import _with_verdict
from schedcmp.cli.looking import list_schedulers
from schedcmp.cli.planning import show_plan
from schedcmp.errors import CheckpointError, RegistryError, SweepError
from schedcmp.pipelines.arithmetic import size_multiple, size_refusal
from schedcmp.pipelines.evaluations import evaluations
from schedcmp.pipelines.guidance import default_guidance, guidance_arguments, inert_guidance, is_for_one_image
from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.packages import install, packages
from schedcmp.pipelines.scheduling import leaves_out_last, misused, timestep_arguments
from schedcmp.pipelines.sizes import chosen_instead
from schedcmp.pipelines.skipping import skip_refusal
from schedcmp.pipelines.source import pipeline_source
from schedcmp.pipelines.tasks import task_pipeline, unfit_controlnet
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.compat import OWN, Compatibility, judge
from schedcmp.registry.preflight import preflight
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.measure import Measurement
from schedcmp.truth.verdict import Verdict


@pytest.mark.parametrize(
    ("pipeline", "given"),
    [
        ("StableDiffusionPipeline", set()),
        ("StableDiffusion3Pipeline", set()),
        ("FluxPipeline", {"mu", "sigmas"}),
        ("QwenImagePipeline", {"mu", "sigmas"}),
        ("CogView4Pipeline", {"mu", "sigmas", "timesteps"}),
        ("LatentConsistencyModelPipeline", {"original_inference_steps"}),
        ("OmniGenPipeline", {"sigmas"}),
        ("NoSuchPipeline", set()),
    ],
)
def test_what_a_pipeline_hands_to_set_timesteps(pipeline: str, given: set[str]) -> None:
    assert timestep_arguments(pipeline, FlowMatchEulerDiscreteScheduler(), 4).keys() == given


def test_dynamic_shifting_adds_mu() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=0.9)
    assert timestep_arguments("StableDiffusion3Pipeline", scheduler, 4) == {"mu": 0.9}


def test_flow_sigmas_of_a_scheduler_replace_those_of_flux() -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert "sigmas" not in timestep_arguments("FluxPipeline", scheduler, 4)
    assert "sigmas" in timestep_arguments("ChromaPipeline", scheduler, 4)


def test_what_a_loop_wants_of_its_scheduler() -> None:
    assert "generator" in misused("Kandinsky3Pipeline", UniPCMultistepScheduler())
    assert not misused("Kandinsky3Pipeline", DDIMScheduler())
    assert "base_image_seq_len" in misused("BriaFiboPipeline", UniPCMultistepScheduler())
    assert not misused("StableDiffusionXLPipeline", DDIMScheduler())


def test_a_branch_for_a_scheduler_s_class_is_taken_for_that_class_alone() -> None:
    flow = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    assert "mu" in timestep_arguments("BriaPipeline", flow, 4)
    assert "mu" not in timestep_arguments("BriaPipeline", UniPCMultistepScheduler(), 4)
    assert "mu" in timestep_arguments("HiDreamImagePipeline", flow, 4)
    assert "mu" not in timestep_arguments("HiDreamImagePipeline", UniPCMultistepScheduler(), 4)


def test_a_pipeline_of_pipelines_is_read_where_its_loop_is() -> None:
    assert "generator" in misused("KandinskyV22CombinedPipeline", UniPCMultistepScheduler())
    assert not misused("KandinskyV22CombinedPipeline", DDIMScheduler())


def test_a_predicted_variance_is_for_who_can_take_it() -> None:
    registry = builtin_registry()
    config = mended({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "IFPipeline")
    assert not misused("IFPipeline", resolve(registry.entry("ddpm"), config).build())
    assert "of the variance" in misused("IFPipeline", resolve(registry.entry("sa-solver"), config).build())
    assert "variance_type" in misused("IFPipeline", DDIMScheduler())


def test_a_last_timestep_that_the_loop_leaves_out_is_not_counted() -> None:
    config = mended({**SCMScheduler().config, "_class_name": "SCMScheduler"}, "SanaSprintPipeline")
    own = resolve(builtin_registry().entry("SCMScheduler"), config)
    assert preflight(own, 2).nfe == 2
    assert leaves_out_last("SanaSprintPipeline", own.build())
    assert not leaves_out_last("SanaPipeline", own.build())


def test_timesteps_that_are_not_whole_are_refused_where_a_pipeline_refuses_them() -> None:
    registry = builtin_registry()
    config = mended({"_class_name": "PNDMScheduler"}, "StableDiffusionSAGPipeline")
    assert preflight(resolve(registry.entry("ddim"), config), 4).nfe == 4
    for name in ("euler", "heun-3"):
        with pytest.raises(RegistryError, match="between whole ones, which StableDiffusionSAGPipeline refuses"):
            preflight(resolve(registry.entry(name), config), 4)


def test_a_state_that_cannot_be_copied_is_not_for_a_pipeline_of_views() -> None:
    registry, config = builtin_registry(), {"_class_name": "PNDMScheduler"}
    assert not misused("StableDiffusionPanoramaPipeline", UniPCMultistepScheduler())
    for name in ("heun-3", "dpmpp-sde"):
        scheduler = resolve(registry.entry(name), config).build()
        assert "cannot be copied" in misused("StableDiffusionPanoramaPipeline", scheduler)
        assert not misused("StableDiffusionPipeline", scheduler)


def test_more_timesteps_than_a_pipeline_has_values_for_are_refused() -> None:
    config = mended({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "Ideogram4Pipeline")
    registry = builtin_registry()
    assert preflight(resolve(registry.entry("flow-euler"), config), 4).nfe == 4
    with pytest.raises(RegistryError, match="visits 7 timesteps, and Ideogram4Pipeline has values for 4 alone"):
        preflight(resolve(registry.entry("heun"), config), 4)
    config = mended({"_class_name": "PNDMScheduler"}, "SemanticStableDiffusionPipeline")
    assert preflight(resolve(registry.entry("pndm"), config), 4).nfe == 5
    with pytest.raises(RegistryError, match="has values for 5 alone"):
        preflight(resolve(registry.entry("heun"), config), 4)


def test_noise_levels_that_rise_because_the_model_was_made_so_are_right() -> None:
    options = {"invert_sigmas": True, "num_train_timesteps": 1}
    config = mended({"_class_name": "FlowMatchEulerDiscreteScheduler", **options}, "OmniGenPipeline")
    found = preflight(resolve(builtin_registry().entry("flow-euler"), config), 3)
    assert found.nfe == 3
    assert not found.remarks


@pytest.mark.parametrize(
    ("pipeline", "whether"),
    [
        ("StableDiffusionPipeline", True),
        ("PixArtSigmaPipeline", True),
        ("ChromaPipeline", False),  # two calls
        ("FluxPipeline", False),  # none
        ("HiDreamImagePipeline", False),  # its answers are negated
        ("DreamLitePipeline", False),  # a part of them is left out
        ("StableDiffusionPAGPipeline", False),  # three parts
        ("KandinskyV22CombinedPipeline", False),
    ],
)
def test_cfgpp_is_for_pipelines_that_ask_for_both_answers_at_once(pipeline: str, whether: bool) -> None:
    scheduler = resolve(builtin_registry().entry("euler-cfgpp"), {"_class_name": "DDIMScheduler"}).build()
    assert ("with and without the prompt" not in misused(pipeline, scheduler)) is whether


def test_which_pipelines_are_for_one_image_at_a_time() -> None:
    assert is_for_one_image("StableDiffusionPanoramaPipeline")
    assert not is_for_one_image("StableDiffusionPipeline")
    assert not is_for_one_image("SomebodysPipeline")


def test_an_lcm_pipeline_takes_lcm_alone() -> None:
    config = mended({**LCMScheduler().config, "_class_name": "LCMScheduler"}, "LatentConsistencyModelPipeline")
    registry = builtin_registry()
    assert preflight(resolve(registry.entry("lcm"), config), 4).nfe == 4
    with pytest.raises(RegistryError, match="original_inference_steps, which LatentConsistencyModelPipeline"):
        preflight(resolve(registry.entry("ddim"), config), 4)


@pytest.mark.parametrize("name", ["ddim", "ddim-parallel", "ddpm", "pndm"])
def test_a_first_timestep_beyond_the_noise_schedule_is_refused(name: str, tmp_path: Path) -> None:
    checkpoint = inspect(ModelSpec(str(save_sd1(tmp_path / "sd1"))))
    config = mended(checkpoint.scheduler_config, checkpoint.pipeline_class)
    registry = builtin_registry()
    preflight(resolve(registry.entry(name), config), 999)
    preflight(resolve(registry.entry(f"{name}-trailing"), config), 1000)  # as the message advises
    with pytest.raises(RegistryError, match=f"first timestep is 1000.* as in {name}-trailing"):
        preflight(resolve(registry.entry(name), config), 1000)


def test_only_classes_with_a_call_of_their_own_are_read() -> None:
    source = pipeline_source("FluxPipeline")
    assert source
    assert source.defaults["guidance_scale"] == 3.5
    assert pipeline_source("DiffusionPipeline") is None


SD_VAE = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4}
FLUX_VAE = {**SD_VAE, "latent_channels": 16}


def configs(**parts: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    return lambda name: parts.get(name, {})


@pytest.mark.parametrize(
    ("pipeline", "parts", "why"),
    [
        ("StableDiffusionPipeline", {"unet": {"in_channels": 4}, "vae": SD_VAE}, ""),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 9}, "vae": SD_VAE}, "reads 9 channels.* masked image"),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 8}, "vae": SD_VAE}, "reads 8 channels.* image to edit"),
        ("StableDiffusionPipeline", {"unet": {"in_channels": 5}, "vae": SD_VAE}, "reads 5 channels.* depth map"),
        ("StableDiffusionInpaintPipeline", {"unet": {"in_channels": 4}}, "needs `image` and `mask_image`"),
        ("StableDiffusionXLImg2ImgPipeline", {}, "needs `image`"),
        ("StableDiffusionDepth2ImgPipeline", {}, "needs `image`"),
        ("FluxFillPipeline", {}, "needs `image` and `mask_image`"),
        ("FluxKontextPipeline", {}, ""),
        ("HunyuanImageRefinerPipeline", {}, "needs `image`"),  # which may be None by its annotation
        ("OmniGenPipeline", {}, ""),
        ("FluxPipeline", {"transformer": {"in_channels": 64}, "vae": FLUX_VAE}, ""),
        ("FluxPipeline", {"transformer": {"in_channels": 384}, "vae": FLUX_VAE}, "reads 96 channels"),
        ("DiTPipeline", {}, "needs `class_labels`"),
        ("DDPMPipeline", {}, "takes no prompt"),
        ("StableAudioPipeline", {}, "gives `audios` and no images"),
        ("WanPipeline", {}, ""),
        ("SomebodysPipeline", {}, ""),
    ],
)
def test_what_makes_no_image_from_a_prompt(pipeline: str, parts: dict[str, Any], why: str) -> None:
    told = unfit(pipeline, configs(**parts))
    assert re.search(why, told) if why else not told


@pytest.mark.parametrize(("told", "why"), [(6, ""), (5, "SDXL refiner"), (4, "other embeddings")])
def test_a_refiner_that_was_saved_as_a_base_model(told: int, why: str) -> None:
    unet = {"projection_class_embeddings_input_dim": 1280 + 256 * told, "addition_time_embed_dim": 256}
    assert why in unfit("StableDiffusionXLPipeline", configs(unet=unet, text_encoder_2={"projection_dim": 1280}))


def changed(folder: Path, to: Path, file: str, **keys: Any) -> Path:
    path = copytree(folder, to) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return to


def test_such_a_checkpoint_is_refused_before_it_is_loaded(
    sd1: Path, tmp_path: Path, write_sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedcmp.truth.quick.quick", lambda *_: {})  # the oracle, asked elsewhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = changed(sd1, tmp_path / "m", "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(CheckpointError, match=r"sweep.yaml:\d+: model: m: .* needs `image` and `mask_image`"):
        prepare(write_sweep(model=str(folder)))
    list_schedulers(str(folder), every_sigma_schedule=False, as_json=True)  # what a sweep with images could run
    folder = changed(sd1, tmp_path / "d", "model_index.json", _class_name="DiTPipeline")
    with pytest.raises(CheckpointError, match="needs `class_labels`"):
        list_schedulers(str(folder), every_sigma_schedule=False, as_json=False)


@pytest.mark.parametrize(
    ("pipeline", "multiple"),
    [
        ("StableDiffusionPipeline", 8),
        ("FluxPipeline", 16),
        ("StableDiffusion3Pipeline", 16),
        ("QwenImagePipeline", 16),
        ("Lumina2Pipeline", 16),
        ("SanaPipeline", 32),
        ("PixArtSigmaPipeline", 8),
    ],
)
def test_the_sizes_that_a_pipeline_makes(pipeline: str, multiple: int) -> None:
    vae = {**SD_VAE, "temperal_downsample": [0, 1, 1], "encoder_block_out_channels": [1] * 6}
    source = pipeline_source(pipeline)
    assert source
    assert size_multiple(source, configs(vae=vae, transformer={"patch_size": 2})) == multiple


def test_a_size_that_would_be_rounded_is_refused_with_the_nearest() -> None:
    has = configs(vae=FLUX_VAE)
    assert not size_refusal("FluxPipeline", has, [(64, 64), (80, 96)])
    assert size_refusal("FluxPipeline", has, [(64, 64), (1080, 64)]).endswith("16; take 1072x64 or 1088x64")


@pytest.mark.parametrize(
    ("pipeline", "size", "call", "told"),
    [
        ("FluxKontextPipeline", (512, 512), {}, "makes 1024x1024 of it; take 1024x1024"),
        ("FluxKontextPipeline", (512, 512), {"max_area": 512 * 512}, ""),
        ("HiDreamImagePipeline", (1280, 720), {}, "makes 1360x768 of it; take 1360x768"),
        ("Kandinsky5T2IPipeline", (64, 64), {}, "makes 1024x1024 of it; take 1024x1024"),
        ("Kandinsky5T2IPipeline", (640, 1408), {}, ""),
        ("HunyuanDiTPipeline", (512, 512), {}, "makes 1024x1024 of it; take 1024x1024"),
        ("HunyuanDiTPipeline", (512, 512), {"use_resolution_binning": False}, ""),
        ("PixArtSigmaPipeline", (512, 512), {}, ""),  # brought to the size that was asked for
        ("Kandinsky3Pipeline", (512, 512), {}, ""),  # what is called height later is that of latents
        ("SomebodysPipeline", (512, 512), {}, ""),
    ],
)
def test_a_size_of_the_pipelines_own_is_told(
    pipeline: str, size: tuple[int, int], call: dict[str, Any], told: str
) -> None:
    found = chosen_instead(pipeline, configs(vae=SD_VAE), [size], [call])
    assert found.endswith(told) if told else not found


def test_a_size_is_refused_where_it_stands(sd1: Path, tmp_path: Path, write_sweep: Any) -> None:
    folder = changed(sd1, tmp_path / "m", "vae/config.json", block_out_channels=[8] * 5)
    with pytest.raises(SweepError, match=r"sweep.yaml:\d+: size: 24x24 is not made .* take 16x16 or 32x32"):
        prepare(write_sweep(model=str(folder), size=[16, 24]))
    kontext = tmp_path / "flux"
    FluxKontextPipeline(**flux().components).save_pretrained(kontext)
    with pytest.raises(
        SweepError, match=r"sweep.yaml:\d+: size: 32x32 is not made by FluxKontextPipeline, which makes"
    ):
        prepare(write_sweep(model=str(kontext), size=32, schedulers=["euler"]))


@pytest.mark.parametrize(
    ("pipeline", "parts", "told"),
    [
        ("StableDiffusionPipeline", {}, ["negative_prompt changes nothing at guidance_scale 0, 1", "are one setting"]),
        ("ZImagePipeline", {}, ["negative_prompt changes nothing at guidance_scale 0: ZImagePipeline guides above 0"]),
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, ["negative_prompt changes nothing"]),
        ("FluxPipeline", {}, ["negative_prompt changes nothing", "guidance_scale changes nothing"]),
        ("LatentConsistencyModelPipeline", {"unet": {"time_cond_proj_dim": 256}}, ["takes none; leave it out"]),
        ("StableDiffusionPipeline", {"unet": {"time_cond_proj_dim": 256}}, ["was distilled"]),
        ("SomebodysPipeline", {}, []),
    ],
)
def test_guidance_that_changes_nothing_is_told(pipeline: str, parts: dict[str, Any], told: list[str]) -> None:
    found = list(inert_guidance(pipeline, configs(**parts), [0, 1, 5], ["", "ugly"]))
    assert len(found) == len(told)
    assert all(part in text for part, text in zip(told, found, strict=True))


def test_guidance_that_is_on_is_not_remarked_on() -> None:
    assert not list(inert_guidance("StableDiffusionPipeline", configs(), [1, 5], [""]))
    assert not list(inert_guidance("QwenImagePipeline", configs(transformer={"guidance_embeds": True}), [4], ["ugly"]))
    assert not list(inert_guidance("QwenImagePipeline", configs(), [4], ["ugly"]))


@pytest.mark.parametrize(
    ("pipeline", "parts", "given"),
    [
        ("StableDiffusionPipeline", {}, {"guidance_scale": 5}),
        ("QwenImagePipeline", {}, {"true_cfg_scale": 5, "negative_prompt": " "}),  # without one it does not guide
        ("QwenImagePipeline", {"transformer": {"guidance_embeds": True}}, {"guidance_scale": 5}),
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, {"guidance_scale": 5}),
        ("HunyuanImagePipeline", {"transformer": {"guidance_embeds": True}}, {"distilled_guidance_scale": 5}),
        ("HunyuanImagePipeline", {}, {}),
        ("Flux2KleinKVPipeline", {}, {}),
        ("QwenImage21Pipeline", {}, {}),
        ("Ideogram4Pipeline", {}, {"guidance_scale": 5, "guidance_schedule": None}),  # it takes one of both
        ("SomebodysPipeline", {}, {"guidance_scale": 5}),
    ],
)
def test_what_a_guidance_scale_is_to_a_pipeline(pipeline: str, parts: dict[str, Any], given: dict[str, Any]) -> None:
    assert guidance_arguments(pipeline, configs(**parts), 5, "") == given


@pytest.mark.parametrize(
    ("pipeline", "parts", "guidance"),
    [
        ("StableDiffusionPipeline", {}, 7.5),
        ("StableDiffusionXLPipeline", {}, 5),
        ("StableDiffusion3Pipeline", {}, 7),
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, 3.5),
        ("QwenImagePipeline", {}, 4),  # true_cfg_scale's
        ("HunyuanImagePipeline", {"transformer": {"guidance_embeds": True}}, 3.25),
        ("HunyuanImagePipeline", {}, 1),  # its guider has its own
        ("QwenImage21Pipeline", {}, 1),  # takes none
        ("Ideogram4Pipeline", {}, 7),  # what its schedule begins with
        ("SomebodysPipeline", {}, 7.5),
    ],
)
def test_a_pipelines_own_guidance(pipeline: str, parts: dict[str, Any], guidance: float) -> None:
    assert default_guidance(pipeline, configs(**parts)) == guidance


def test_without_a_guidance_scale_the_pipelines_own_is_planned_and_told(
    write_sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(model="builtin:tiny-flow", guidance_scale=None, negative_prompt="b", schedulers=["euler"])
    prepared = prepare(sweep)
    assert {c.guidance_scale for c in prepared.plan.cells} == {7}
    assert prepared.portable_sweep.guidance_scale == (7,)
    show_plan(sweep, (), None)
    assert "guidance 7, as none is given: StableDiffusion3Pipeline's own default" in capsys.readouterr().out


def test_further_arguments_win_over_guidance() -> None:
    assert guidance_arguments("QwenImagePipeline", configs(), 5, "ugly", {"true_cfg_scale": 2}) == {
        "negative_prompt": "ugly"
    }
    told = inert_guidance("QwenImagePipeline", configs(), [5], [""], {"true_cfg_scale": [2]})
    assert list(told) == ["guidance_scale changes nothing: `call` has true_cfg_scale; leave it out"]


@pytest.mark.parametrize(
    ("pipeline", "off", "on"),
    [
        ("StableDiffusionPipeline", 1, 1),  # both halves in one batch
        ("ChromaPipeline", 1, 2),
        ("CogView4Pipeline", 1, 2),
        ("QwenImagePipeline", 1, 2),
        ("Kandinsky5T2IPipeline", 1, 2),
        ("UniDiffuserPipeline", 1, 2),  # in a method of its own, which infers what is asked of it
        ("Krea2Pipeline", 2, 2),  # guides above 0
        ("ZImagePipeline", 1, 1),
        ("Ideogram4Pipeline", 2, 2),  # another model answers without the prompt
        ("SomebodysPipeline", 1, 1),
    ],
)
def test_guidance_may_be_a_second_evaluation(pipeline: str, off: int, on: int) -> None:
    for scale, calls in ((1, off), (5, on)):
        assert evaluations(pipeline, configs(), guidance_arguments(pipeline, configs(), scale, "")) == calls


def test_a_distilled_checkpoint_is_not_guided_by_a_second_evaluation() -> None:
    for distilled, calls in ((True, 1), (False, 2)):
        has = {"": {"is_distilled": distilled}}
        assert evaluations("Flux2KleinPipeline", has.__getitem__, {"guidance_scale": 4}) == calls


def test_a_scheduler_made_for_two_steps_goes_with_its_own_checkpoint() -> None:
    config = mended({**SCMScheduler().config, "_class_name": "SCMScheduler"}, "SanaSprintPipeline")
    own = builtin_registry().with_rows([{"name": "own", "class": "SCMScheduler"}], "sweep").entry("own")
    assert judge(own, config) == ("ok", "the checkpoint's own")
    assert preflight(resolve(own, config), 2).nfe
    with pytest.raises(RegistryError, match="cannot do 10 steps"):
        preflight(resolve(own, config), 10)


def test_packages_that_a_pipeline_needs_are_named_with_their_command(
    monkeypatch: pytest.MonkeyPatch, sd1: Path, tmp_path: Path, write_sweep: Any
) -> None:
    assert packages("PRXPixelPipeline") == ["ftfy"]
    assert not packages("StableDiffusionPipeline")
    assert not packages("PixArtAlphaPipeline")  # which asks for it where captions are to be cleaned, and else goes on
    assert install(["torchvision", "ftfy"]) == 'pip install "schedcmp[families]" torchvision'
    monkeypatch.setattr("schedcmp.prepare.checks.missing_packages", lambda _: ["ftfy"])
    with pytest.raises(CheckpointError, match=r'needs ftfy: pip install "schedcmp\[families\]"'):
        prepare(write_sweep())


def test_a_processor_that_is_a_placeholder_is_refused_with_the_command(sd1: Path, tmp_path: Path) -> None:
    folder = changed(sd1, tmp_path / "m", "model_index.json", feature_extractor=["transformers", "CLIPImageProcessor"])
    (folder / "feature_extractor").mkdir()
    named = {"image_processor": {}, "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor"}}
    (folder / "feature_extractor/processor_config.json").write_text(json.dumps(named))
    if find_spec("torchvision") is None:
        with pytest.raises(CheckpointError, match=r"its feature_extractor needs torchvision: pip install torchvision"):
            load(inspect(ModelSpec(str(folder))), "cpu")


def test_the_checkpoint_s_own_scheduler_is_never_wrong() -> None:
    """Whatever it does on the oracle's data: its makers chose it."""
    own, other = (
        Compatibility(builtin_registry().entry("ddim"), "ok", reason, True, "DDIMScheduler") for reason in (OWN, "")
    )
    verdict = Verdict(Measurement("ddim", False, ()), "does not converge", why="error 0.5")
    assert _with_verdict(own, verdict).status == "ok"
    assert _with_verdict(own, verdict).reason == "the checkpoint's own; does not converge, error 0.5"
    assert _with_verdict(other, verdict).status == "wrong"


UNION = {"_class_name": "ControlNetUnionModel", "num_control_type": 6}


@pytest.mark.parametrize(
    ("own", "given", "controlnet", "found"),
    [
        ("StableDiffusionXLPipeline", ["control_image"], "ControlNetModel", "StableDiffusionXLControlNetPipeline"),
        (
            "StableDiffusionXLPipeline",
            ["control_image"],
            "ControlNetUnionModel",
            "StableDiffusionXLControlNetUnionPipeline",
        ),
        (
            "StableDiffusionXLControlNetUnionPipeline",
            ["image", "control_image"],
            "",
            "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        ),
        ("StableDiffusionPAGPipeline", ["control_image"], "ControlNetModel", "StableDiffusionControlNetPAGPipeline"),
    ],
)
def test_the_class_that_a_controlnet_leads(own: str, given: list[str], controlnet: str, found: str) -> None:
    assert task_pipeline(own, given, controlnet=controlnet) == found


@pytest.mark.parametrize(
    ("pipeline", "controlnet", "call", "told"),
    [
        (
            "StableDiffusionXLControlNetUnionPipeline",
            UNION,
            [],
            "6 ways; say by which one, as in call: {control_mode: 0}",
        ),
        ("StableDiffusionXLControlNetUnionPipeline", UNION, ["control_mode"], ""),
        ("StableDiffusionXLControlNetPipeline", UNION, [], "takes a ControlNetModel; give one that was made for"),
        ("StableDiffusionXLControlNetPipeline", {"cross_attention_dim": 768}, [], "768, and the checkpoint 2048; give"),
        ("SomebodysPipeline", {"_class_name": "ControlNetModel"}, [], ""),
    ],
)
def test_a_controlnet_that_does_not_go_with_it(
    pipeline: str, controlnet: dict[str, Any], call: list[str], told: str
) -> None:
    found = unfit_controlnet(pipeline, configs(controlnet=controlnet, unet={"cross_attention_dim": 2048}), call)
    assert told in found if told else not found


@pytest.mark.parametrize(
    ("pipeline", "values", "told"),
    [
        ("StableDiffusionXLPipeline", [None, 1], ""),
        ("StableDiffusionXLPipeline", [3], "clip_skip 3 leaves none of the 3 layers of this checkpoint's text_encoder"),
        ("StableDiffusion3Pipeline", [2], ""),
        ("StableDiffusion3Pipeline", [3], "leaves none of the 3 layers"),
        ("SomebodysPipeline", [9], ""),
    ],
)
def test_layers_that_a_text_encoder_has_not_are_not_skipped(pipeline: str, values: list[Any], told: str) -> None:
    clip = {"model_type": "clip_text_model", "num_hidden_layers": 3}
    found = skip_refusal(pipeline, configs(text_encoder=clip, text_encoder_2=clip), values)
    assert told in found if told else not found


def test_skipping_works_or_is_refused_with_the_reason(write_sweep: Any) -> None:
    sweep = write_sweep(call={"clip_skip": 1}, schedulers=["euler"], steps=[1], seeds=0)
    if hasattr(CLIPTextModel(text_config()), "text_model"):
        assert prepare(sweep).supported
    else:
        with pytest.raises(SweepError, match=r"sweep.yaml:\d+: call: clip_skip: .* text_model, which it has not"):
            prepare(sweep)
