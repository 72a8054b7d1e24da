"""A small Stable Diffusion 3: two text encoders and a transformer, trained together by flow matching.

The transformer predicts the velocity `noise - z` in x = (1 - sigma) z + sigma noise (Liu et al. 2023; Esser et al.
2024). What is regressed is the mean of that over all latents and noise that x may have come from, and builtin:tiny's
UNet knows it where its noise schedule reaches: it is the teacher there, which spares the noise in the targets and most
of the training. VAE and tokenizer are builtin:tiny's too, and the larger text encoder starts from its.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tools.tiny.captioned import CaptionedTrainer, adamw
from tools.tiny.captions import MAX_TOKENS
from tools.tiny.diffusion import TIMESTEPS, alphas_cumprod
from tools.tiny.shapes import Drawing

SHIFT = 1.5  # of the noise levels when sampling, towards more noise
TAUGHT_UP_TO = 0.9  # noise level
TEXT_WIDTHS = (128, 32)
PADDING = 256  # zero tokens that the pipeline feeds in place of the T5 encoder's: its `max_sequence_length`


@dataclass(frozen=True)
class FlowRecipe:
    """How the transformer is trained."""

    seed: int = 11
    iterations: int = 3900
    batch: int = 16
    rate: float = 2e-3
    muon_rate: float = 15e-3
    shares: tuple[tuple[int, float], ...] = ((0, 0), (100, 1), (2312, 1), (2750, 0.6), (3900, 0))
    """Of both rates, at iterations, and straight lines between."""
    ema: float = 0.999
    uniform_rows: int = 4  # rows of the batch whose noise levels are spread over 0..1; the others' are logit-normal
    mean: float = 0.5  # of the logit-normal density; above 0, more noise than data: there the layout is decided
    deviation: float = 1.0


def new_text_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection]:
    """0.5 and 0.04 million parameters. The pipeline reads the last layer but one, and of the last one the end token."""
    wide, narrow = TEXT_WIDTHS
    return _text_encoder(tokenizer, wide, layers=3, heads=4), _text_encoder(tokenizer, narrow, layers=1, heads=2)


def _text_encoder(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config)


def new_transformer() -> SD3Transformer2DModel:
    """3.5 million parameters; an image is 64 tokens of 2x2 latents. Every block starts as the identity."""
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        num_attention_heads=4,
        attention_head_dim=32,
        caption_projection_dim=128,
        joint_attention_dim=sum(TEXT_WIDTHS),
        pooled_projection_dim=sum(TEXT_WIDTHS),
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    blocks = transformer.transformer_blocks
    modulations = [norm.linear for block in blocks for norm in (block.norm1, block.norm1_context)]
    for layer in (*modulations, transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


class PaddedOnce:
    """Attention over image and text where the last text token stands for PADDING equal ones.

    Zero tokens without positions stay equal to each other through all layers, so one of them is enough,
    if its exponentiated scores count PADDING times. Otherwise as diffusers' JointAttnProcessor2_0.
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> tuple[Tensor, Tensor]:
        """Image (n, tokens, width) and text (n, tokens, width), both updated."""

        def split(x: Tensor) -> Tensor:  # (n, heads, tokens, width / heads)
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        image, text = hidden_states, encoder_hidden_states
        query = torch.cat([attn.norm_q(split(attn.to_q(image))), attn.norm_added_q(split(attn.add_q_proj(text)))], 2)
        key = torch.cat([attn.norm_k(split(attn.to_k(image))), attn.norm_added_k(split(attn.add_k_proj(text)))], 2)
        value = torch.cat([split(attn.to_v(image)), split(attn.add_v_proj(text))], 2)
        scores = query / math.sqrt(query.shape[3]) @ key.transpose(2, 3)  # (n, heads, tokens, tokens)
        copies = scores.new_zeros(scores.shape[3])
        copies[-1] = math.log(PADDING)
        joint = ((scores + copies).softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
        image, text = joint.split([image.shape[1], text.shape[1]], 1)
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


class Teacher:
    """The velocity as builtin:tiny sees it, which was trained to see the noise."""

    def __init__(self, tiny: Path) -> None:
        self.text_encoder = CLIPTextModel.from_pretrained(tiny / "text_encoder", dtype=torch.float32).eval()
        self.unet = UNet2DConditionModel.from_pretrained(tiny / "unet").eval()
        alphas = alphas_cumprod()
        self.ratios = (alphas / (1 - alphas)).sqrt().numpy()  # of data to noise, by timestep

    def knows(self, sigma: Tensor) -> Tensor:
        """Which noise levels its schedule has, the noisiest left out, where its errors are magnified."""
        return (sigma > 1 / (1 + float(self.ratios[0]))) & (sigma < TAUGHT_UP_TO)

    @torch.no_grad()
    def velocity(self, x: Tensor, sigma: Tensor, ids: Tensor) -> Tensor:
        """For x (n, 4, 16, 16) at noise levels (n,) and captions (n, 32)."""
        t = np.interp(np.log(sigma / (1 - sigma)), -np.log(self.ratios), np.arange(TIMESTEPS))
        s = sigma.view(-1, 1, 1, 1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text = self.text_encoder(ids).last_hidden_state
            noise = self.unet(x / ((1 - s) ** 2 + s**2).sqrt(), torch.from_numpy(t), text).sample.float()
        return (noise - x) / (1 - s)  # type: ignore[no-any-return]


class FlowTrainer(CaptionedTrainer):
    """Text encoders and transformer, by the error of the velocity."""

    recipe: FlowRecipe

    def __init__(
        self,
        latents: Tensor,
        drawings: Sequence[Drawing],
        tokenizer: CLIPTokenizer,
        recipe: FlowRecipe,
        teacher: Teacher,
    ) -> None:
        torch.manual_seed(recipe.seed)
        wide, narrow = new_text_encoders(tokenizer)
        wide.text_model.load_state_dict(teacher.text_encoder.state_dict(), strict=False)  # it has no third layer
        networks = {"text_encoder": wide, "text_encoder_2": narrow, "transformer": new_transformer()}
        super().__init__(networks, latents, drawings, tokenizer, recipe)
        networks["transformer"].set_attn_processor(PaddedOnce())
        self.teacher = teacher

    def new_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon (Jordan et al. 2024) for the matrices within the blocks, AdamW for the rest."""
        blocks = self.networks["transformer"].transformer_blocks.named_parameters()
        matrices = [p for name, p in blocks if p.ndim == 2 and "norm" not in name]
        chosen = {id(p) for p in matrices}
        muon = torch.optim.Muon(matrices, weight_decay=0.01)
        return [muon, adamw([p for p in self.parameters if id(p) not in chosen])]

    def rates(self, iteration: int) -> list[float]:
        share = float(np.interp(iteration + 1, *zip(*self.recipe.shares, strict=True)))
        return [share * self.recipe.muon_rate, share * self.recipe.rate]

    def losses(self, iteration: int, z: Tensor, ids: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        sigma = self.sigmas(noise)  # (n,)
        eps = torch.randn(z.shape, generator=noise)
        x = torch.lerp(z, eps, sigma.view(-1, 1, 1, 1))
        target, taught = eps - z, self.teacher.knows(sigma)
        target[taught] = self.teacher.velocity(x[taught], sigma[taught], ids[taught])
        error = (self.velocity(x, sigma, ids) - target).pow(2).mean((1, 2, 3))
        return {"loss": error.mean(), "taught": error[taught].mean()}

    def velocity(self, x: Tensor, sigma: Tensor, ids: Tensor) -> Tensor:
        """For x (n, 4, 16, 16) at noise levels (n,) and captions (n, 32)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens, pooled = self.encode(ids)
            return self.networks["transformer"](x, tokens, pooled, sigma * TIMESTEPS).sample.float()  # type: ignore[no-any-return]

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the pipeline makes of a prompt: (n, tokens + 1, 160), the zero tokens once, and (n, 160)."""
        encoders = (self.networks["text_encoder"], self.networks["text_encoder_2"])
        outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], -1)
        return pad(tokens, (0, 0, 0, 1)), torch.cat([output.text_embeds for output in outputs], -1)

    def sigmas(self, generator: torch.Generator) -> Tensor:
        """Noise levels, evenly spread over their densities from random offsets, (n,)."""
        r = self.recipe
        offsets = torch.rand(2, generator=generator)
        spread = (torch.arange(r.uniform_rows) + offsets[0]) / r.uniform_rows
        rows = r.batch - r.uniform_rows
        quantiles = ((torch.arange(rows) + offsets[1]) / rows).clamp(1e-4, 1 - 1e-4)
        return torch.cat([spread, torch.sigmoid(r.mean + r.deviation * torch.special.ndtri(quantiles))])
