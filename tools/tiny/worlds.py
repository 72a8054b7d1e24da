"""The checkpoints that few-step weights are made for: their noise levels, and what their denoisers see."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline, StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn.functional import pad

from tools.tiny.diffusion import TIMESTEPS, alphas_cumprod
from tools.tiny.flow import SHIFT, PaddedOnce

Text = dict[str, Tensor]  # what the denoiser takes of the captions, a row for each
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


class World:
    """A checkpoint. x = alpha z + sigma noise at a level."""

    denoiser: nn.Module
    encoders: tuple[nn.Module, ...]
    vae: AutoencoderKL
    targets: tuple[str, ...]  # layers that the LoRA changes
    straight: bool  # whether what is learnt are straight lines from the noise to the ends, or jumps from the paths
    most: float  # the level of pure noise

    def parts(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, each shaped as `level`."""
        raise NotImplementedError

    def grid(self, start: Tensor, steps: int, bend: float) -> Tensor:
        """From levels (n,) down to 0, (n, steps + 1)."""
        raise NotImplementedError

    def text(self, ids: Tensor) -> Text:
        """For captions (n, 32)."""
        raise NotImplementedError

    def denoised(self, x: Tensor, level: Tensor, text: Text) -> Tensor:
        """The latents (n, 4, 16, 16) that the denoiser sees in x at levels (n,)."""
        raise NotImplementedError

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """As diffusers' `load_lora_weights` reads them."""
        raise NotImplementedError

    def to(self, device: torch.device) -> "World":
        for part in (self.denoiser, self.vae, *self.encoders):
            part.to(device)
        return self


class Diffusion(World):
    """builtin:tiny, for `lcm`, which jumps to the end and adds new noise. A level is sigma / alpha."""

    straight = False

    targets = (
        *ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut",
        "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj", "conv_in", "conv_out",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        self.encoders, self.denoiser, self.vae = (pipeline.text_encoder,), pipeline.unet, pipeline.vae
        alphas = alphas_cumprod()
        self.levels = ((1 - alphas) / alphas).sqrt().numpy()
        self.least, self.most = float(self.levels[0]), float(self.levels[-1])

    def parts(self, level: Tensor) -> tuple[Tensor, Tensor]:
        alpha = (1 + level**2).rsqrt()
        return alpha, level * alpha

    def grid(self, start: Tensor, steps: int, bend: float) -> Tensor:
        """Karras et al. 2022."""
        power, share = 5 + 4 * bend, torch.linspace(0, 1, steps, device=start.device)
        start = start.clamp(min=self.least).view(-1, 1) ** (1 / power)
        return pad((start + share * (self.least ** (1 / power) - start)) ** power, (0, 1))

    def text(self, ids: Tensor) -> Text:
        return {"encoder_hidden_states": self.encoders[0](ids).last_hidden_state}

    def denoised(self, x: Tensor, level: Tensor, text: Text) -> Tensor:
        t = np.interp(level.log().cpu().numpy(), np.log(self.levels), np.arange(TIMESTEPS))
        noise = self.denoiser(x, torch.from_numpy(t).float().to(x.device), **text).sample.float()
        alpha, sigma = (part.view(-1, 1, 1, 1) for part in self.parts(level))
        return (x - sigma * noise) / alpha  # type: ignore[no-any-return]

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=weights)


class Flow(World):
    """builtin:tiny-flow, for `euler`, which follows straight lines best. A level is sigma, and alpha 1 - sigma."""

    straight = True

    targets = (
        *ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
        "norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out",
    )  # fmt: skip
    most = 1.0

    def __init__(self, folder: Path) -> None:
        pipeline = StableDiffusion3Pipeline.from_pretrained(
            folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
        )
        self.encoders, self.denoiser = (pipeline.text_encoder, pipeline.text_encoder_2), pipeline.transformer
        self.denoiser.set_attn_processor(PaddedOnce())
        self.vae = pipeline.vae

    def parts(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - level, level

    def grid(self, start: Tensor, steps: int, bend: float) -> Tensor:
        shift = SHIFT + bend
        even = start / (shift - (shift - 1) * start)
        even = even.view(-1, 1) * torch.linspace(1, 0, steps + 1, device=start.device)
        return shift * even / (1 + (shift - 1) * even)

    def text(self, ids: Tensor) -> Text:
        outputs = [encoder(ids, output_hidden_states=True) for encoder in self.encoders]
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        pooled = torch.cat([output.text_embeds for output in outputs], -1)
        return {"encoder_hidden_states": pad(tokens, (0, 0, 0, 1)), "pooled_projections": pooled}

    def denoised(self, x: Tensor, level: Tensor, text: Text) -> Tensor:
        velocity = self.denoiser(x, timestep=level * TIMESTEPS, **text).sample.float()
        return x - level.view(-1, 1, 1, 1) * velocity  # type: ignore[no-any-return]

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        StableDiffusion3Pipeline.save_lora_weights(folder, transformer_lora_layers=weights)
