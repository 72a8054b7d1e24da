"""Writes the trained networks as Stable Diffusion pipelines in half precision."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from tools.tiny.captions import MAX_TOKENS, all_words
from tools.tiny.diffusion import BETA_END, BETA_START, TIMESTEPS, new_text_encoder, new_unet
from tools.tiny.flow import SHIFT, new_text_encoders, new_transformer
from tools.tiny.tokenizer import build_tokenizer
from tools.tiny.training import log
from tools.tiny.vae import new_vae


def new_scheduler() -> PNDMScheduler:
    """Stable Diffusion 1.5's."""
    return PNDMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
        skip_prk_steps=True,
        set_alpha_to_one=False,
    )


def load_pipeline(work: Path) -> StableDiffusionPipeline:
    """The pipeline of the last stages' results, in single precision."""
    tokenizer = build_tokenizer(all_words(), MAX_TOKENS, work / "tokenizer")
    vae, text_encoder, unet = new_vae(), new_text_encoder(tokenizer), new_unet()
    denoiser = torch.load(work / "denoiser.pt", weights_only=True)
    vae.load_state_dict(torch.load(work / "whitened_vae.pt", weights_only=True))
    text_encoder.load_state_dict(denoiser["text_encoder"])
    unet.load_state_dict(denoiser["unet"])
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_flow_pipeline(work: Path, tiny: Path) -> StableDiffusion3Pipeline:
    """The pipeline of the flow stages' results on the VAE and the tokenizer of builtin:tiny, in single precision."""
    tokenizer = CLIPTokenizer.from_pretrained(tiny / "tokenizer")
    networks: dict[str, Any] = dict(zip(("text_encoder", "text_encoder_2"), new_text_encoders(tokenizer), strict=True))
    networks |= {"transformer": new_transformer(), "vae": new_vae()}
    networks["vae"].register_to_config(shift_factor=0.0)
    states = torch.load(work / "flow.pt", weights_only=True)
    states["vae"] = load_file(tiny / "vae" / "diffusion_pytorch_model.safetensors")
    for name, state in states.items():
        networks[name].load_state_dict(state)
    return StableDiffusion3Pipeline(
        **networks,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMESTEPS, shift=SHIFT),
    )


def export(work: Path, out: Path) -> None:
    """Replace the folder `out` by builtin:tiny."""
    _write(load_pipeline(work), out, work / "tokenizer")
    # Named, as in Stable Diffusion 1.5: other schedulers made from this config would clip latents by default.
    _edit(out / "scheduler" / "scheduler_config.json", clip_sample=False)


def export_flow(work: Path, out: Path, tiny: Path) -> None:
    """Replace the folder `out` by builtin:tiny-flow; `tiny` is builtin:tiny's."""
    _write(load_flow_pipeline(work, tiny), out, tiny / "tokenizer")


def export_lora(trained: Path, out: Path) -> None:
    """Replace the folder `out` by the LoRA in the folder `trained`."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(trained, out)
    _finish(out)


def _write(pipeline: DiffusionPipeline, out: Path, tokenizer: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    for folder in out.glob("tokenizer*"):
        for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / name, folder / name)
    for folder in out.glob("text_encoder*"):
        # Else a pipeline loaded without a dtype gets a half precision text encoder and a single precision denoiser.
        _edit(folder / "config.json", dtype="float32")
    _finish(out)


def _finish(out: Path) -> None:
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes its files private
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    log.info("%s: %.1f MB", out, size / 1e6)


def _edit(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
