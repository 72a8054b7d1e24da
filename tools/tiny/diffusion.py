"""The text encoder and the UNet, trained together to predict the noise in the latents (epsilon prediction).

The loss weights are min-SNR-5 (Hang et al. 2023) with a floor. Without it, the noisiest timesteps count for
so little that backgrounds come out in the wrong colour: there, and only there, the picture's mean and layout
are decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.tiny.captioned import CaptionedTrainer
from tools.tiny.captions import MAX_TOKENS
from tools.tiny.shapes import Drawing
from tools.tiny.training import cosine_rate

TIMESTEPS = 1000
NOISY = 800  # from this timestep on, little but the layout can be seen
BETA_START, BETA_END = 0.00085, 0.012  # "scaled_linear", as Stable Diffusion 1.5
TEXT_WIDTH = 128


@dataclass(frozen=True)
class Phase:
    """A part of the training, and how much it looks at the noisiest timesteps."""

    until: float  # share of all iterations
    noisy_rows: int  # rows of the batch whose timesteps lie in NOISY..999; the others' are spread over all
    floor: float  # the least weight, as a signal-to-noise ratio


@dataclass(frozen=True)
class DenoiserRecipe:
    """How the denoiser is trained."""

    seed: int = 7
    iterations: int = 8500
    batch: int = 32
    rate: float = 2e-3
    ema: float = 0.9995
    snr_ceiling: float = 5.0
    phases: tuple[Phase, ...] = (Phase(0.4, 4, 0.1), Phase(0.8, 10, 0.25), Phase(1.0, 4, 0.1))


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """0.37 million parameters."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_unet() -> UNet2DConditionModel:
    """3.2 million parameters; reads the caption at 8x8 and, in the middle, at 4x4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # the number of heads: diffusers misnames it
        norm_num_groups=16,
    )


def alphas_cumprod() -> Tensor:
    """The share of signal left at each timestep, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS) ** 2
    return torch.cumprod(1 - betas, 0)


class DenoiserTrainer(CaptionedTrainer):
    """Text encoder and UNet, by the error of the noise that they see."""

    recipe: DenoiserRecipe

    def __init__(
        self, latents: Tensor, drawings: Sequence[Drawing], tokenizer: CLIPTokenizer, recipe: DenoiserRecipe
    ) -> None:
        torch.manual_seed(recipe.seed)
        networks = {"text_encoder": new_text_encoder(tokenizer), "unet": new_unet()}
        super().__init__(networks, latents, drawings, tokenizer, recipe)
        self.alphas = alphas_cumprod()

    def rates(self, iteration: int) -> list[float]:
        return [cosine_rate(iteration, self.recipe.iterations, self.recipe.rate, warmup=200)]

    def losses(self, iteration: int, z: Tensor, ids: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        r = self.recipe
        phase = next(p for p in r.phases if iteration < p.until * r.iterations)
        t = sample_timesteps(r.batch, phase.noisy_rows, noise)  # (n,)
        eps = torch.randn(z.shape, generator=noise)
        error = (self.predict(z, eps, t, ids) - eps).pow(2).mean((1, 2, 3))  # (n,)
        return {"loss": (error * self.weights(phase.floor)[t]).mean(), "mse": error.mean()}

    def predict(self, z: Tensor, eps: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The noise seen in x_t = sqrt(a_t) z + sqrt(1 - a_t) eps."""
        a = self.alphas[t].view(-1, 1, 1, 1)
        x = a.sqrt() * z + (1 - a).sqrt() * eps
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text = self.networks["text_encoder"](ids).last_hidden_state  # (n, tokens, 128)
            return self.networks["unet"](x, t, text).sample.float()  # type: ignore[no-any-return]

    def weights(self, floor: float) -> Tensor:
        """Of the squared error at each timestep, (1000,)."""
        snr = self.alphas / (1 - self.alphas)
        return snr.clamp(floor, self.recipe.snr_ceiling) / snr


def sample_timesteps(batch: int, noisy: int, generator: torch.Generator) -> Tensor:
    """`batch` timesteps, evenly spread from a random offset over 0..999, the last `noisy` over NOISY..999."""
    offsets = torch.rand(2, generator=generator)
    spread = (torch.arange(batch - noisy) + offsets[0]) / (batch - noisy) * TIMESTEPS
    late = NOISY + (torch.arange(noisy) + offsets[1]) / max(noisy, 1) * (TIMESTEPS - NOISY)
    return torch.cat([spread, late]).long().clamp(max=TIMESTEPS - 1)
