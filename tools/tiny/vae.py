"""The autoencoder: 3x64x64 pixels in [-1, 1] <-> 4x16x16 latents of unit variance.

A KL term strong enough to keep such a small autoencoder's latents tidy blurs its pictures. So the posterior's
deviation is fixed instead, and a penalty draws the latents' mean to zero and their covariance to one; the
remaining scale and offset are folded into the outer convolutions afterwards (`whiten`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from tools.tiny.shapes import SIDE, Pixels
from tools.tiny.training import Meter, cosine_rate, generators, run_loop, set_rate

SCALING_FACTOR = 0.18215  # as Stable Diffusion 1.5
LATENT_CHANNELS = 4
POSTERIOR_STD = 0.05  # of latents with unit variance


@dataclass(frozen=True)
class VaeRecipe:
    """How the autoencoder is trained."""

    seed: int = 1
    iterations: int = 3000
    crop_share: float = 0.6  # the first iterations see 32-px crops around the shape: cheap, and full of edges
    crop: int = 32  # pixels
    crops_per_step: int = 32
    images_per_step: int = 14
    rate: float = 3e-3


def new_vae() -> AutoencoderKL:
    """0.65 million parameters; the posterior's deviation starts at, and stays near, e^-3 = 0.05."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        latent_channels=LATENT_CHANNELS,
        sample_size=SIDE,
        scaling_factor=SCALING_FACTOR,
    )
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0
        vae.quant_conv.bias[LATENT_CHANNELS:] = -6.0
        vae.quant_conv.weight[:LATENT_CHANNELS] *= 2
    return vae


def to_tensor(images: Pixels) -> Tensor:
    """(n, h, w, 3) bytes to (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class VaeTrainer:
    """The autoencoder, its optimizer and its pictures."""

    def __init__(self, images: Pixels, centers: npt.NDArray[np.int64], recipe: VaeRecipe) -> None:
        """`images`: (n, 64, 64, 3); `centers`: (n, 2), the shapes' rough middles as row and column."""
        torch.manual_seed(recipe.seed)
        self.images, self.centers, self.recipe = images, centers, recipe
        self.vae = new_vae()
        parameters = self.vae.parameters()
        self.optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.meter = Meter("vae")

    def run(self, path: Path) -> AutoencoderKL:
        run_loop(self.recipe.iterations, path, self.state, self.load, self.step)
        return self.vae

    def state(self) -> dict[str, Any]:
        return {"vae": self.vae.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        self.vae.load_state_dict(saved["vae"])
        self.optimizer.load_state_dict(saved["optimizer"])

    def step(self, iteration: int) -> None:
        rng, noise = generators(self.recipe.seed, iteration)
        set_rate(self.optimizer, cosine_rate(iteration, self.recipe.iterations, self.recipe.rate, warmup=60))
        x = self.batch(iteration, rng)  # (n, 3, h, h)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean = self.vae.encode(x).latent_dist.mean.float()  # (n, 4, h/4, h/4)
            y = self.vae.decode(mean + POSTERIOR_STD * torch.randn(mean.shape, generator=noise)).sample
        loss, squared = reconstruction_loss(y.float() - x)
        spread = spread_penalty(mean)
        (loss + 0.02 * spread).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.meter.add(iteration, mse=squared.item(), spread=spread.item())

    def batch(self, iteration: int, rng: np.random.Generator) -> Tensor:
        """Crops first, then whole pictures."""
        r = self.recipe
        if iteration >= r.crop_share * r.iterations:
            return to_tensor(self.images[np.sort(rng.integers(0, len(self.images), r.images_per_step))])
        chosen = np.sort(rng.integers(0, len(self.images), r.crops_per_step))
        jitter = rng.integers(-12, 13, (len(chosen), 2))
        corners = np.clip(self.centers[chosen] - r.crop // 2 + jitter, 0, SIDE - r.crop)
        windows = zip(chosen, corners, strict=True)
        crops = [self.images[i, y : y + r.crop, x : x + r.crop] for i, (y, x) in windows]
        flip = -1 if rng.random() < 0.5 else 1
        return to_tensor(np.stack(crops)[:, :, ::flip].copy())


def reconstruction_loss(error: Tensor) -> tuple[Tensor, Tensor]:
    """L1 + 2 MSE + half the L1 of the error's gradients (edges); the second value is the MSE alone."""
    horizontal = error[..., 1:] - error[..., :-1]
    vertical = error[..., 1:, :] - error[..., :-1, :]
    edges = horizontal.abs().mean() + vertical.abs().mean()
    squared = error.pow(2).mean()
    return error.abs().mean() + 2 * squared + 0.5 * edges, squared


def spread_penalty(mean: Tensor) -> Tensor:
    """Zero if the latents (n, 4, h, w) have mean 0 and covariance 1 over all positions, and stay in +-3."""
    flat = mean.permute(1, 0, 2, 3).flatten(1)  # (4, n h w)
    mu = flat.mean(1, keepdim=True)
    covariance = (flat - mu) @ (flat - mu).T / flat.shape[1]
    beyond = (mean.abs() - 3).clamp(min=0)
    identity = torch.eye(LATENT_CHANNELS)
    return (covariance - identity).pow(2).mean() + mu.pow(2).mean() + 0.1 * beyond.pow(2).mean()


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: Pixels, batch: int = 64) -> Tensor:
    """The posterior's mean of every picture, (n, 4, 16, 16)."""
    means = []
    for i in range(0, len(images), batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            means.append(vae.encode(to_tensor(images[i : i + batch])).latent_dist.mean.float())
    return torch.cat(means)


@torch.no_grad()
def whiten(vae: AutoencoderKL, means: Tensor) -> Tensor:
    """Fold the latents' mean and deviation into the VAE's outer 1x1 convolutions.

    Afterwards `encode(x) * SCALING_FACTOR` has zero mean and unit variance per channel, as a Stable Diffusion
    pipeline expects. Returns those latents for the `means` given, (n, 4, 16, 16).
    """
    mu, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    gain = 1 / (std * SCALING_FACTOR)
    encoder, decoder, c = vae.quant_conv, vae.post_quant_conv, LATENT_CHANNELS
    encoder.weight[:c] *= gain.view(c, 1, 1, 1)
    encoder.bias[:c] = (encoder.bias[:c] - mu) * gain
    encoder.bias[c:] += 2 * gain.log()
    decoder.bias += decoder.weight.flatten(1) @ mu
    decoder.weight /= gain.view(1, c, 1, 1)
    return (means - mu.view(1, c, 1, 1)) / std.view(1, c, 1, 1)


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Pixels) -> float:
    """Of the reconstructions, in decibels."""
    x = to_tensor(images)
    y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / (y - x).pow(2).mean()))
