"""builtin:tiny-lcm: a LoRA that jumps from anywhere on builtin:tiny's guided paths to their ends.

A consistency model (Song et al. 2023; latent and as a LoRA: Luo et al. 2023, arXiv:2311.05556) gives for every point of
a path of the probability-flow ODE the point where it ends. builtin:tiny is small enough to solve thousands of paths
first and to learn the jumps by regression, which spares the moving target that consistency distillation learns from.
Half of the paths begin at pure noise; the others at an end with new noise added, as `lcm` goes on after a jump.
Guidance is part of the paths, so the LoRA needs none.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad
from torch.nn.utils.parametrize import register_parametrization
from transformers import CLIPTokenizer

from tools.tiny.captioned import adamw
from tools.tiny.captions import MAX_TOKENS, training_caption
from tools.tiny.diffusion import TIMESTEPS, alphas_cumprod
from tools.tiny.shapes import Drawing
from tools.tiny.training import Meter, cosine_rate, generators, log, run_loop, set_rate

Text = dict[str, Tensor]  # what the denoiser takes of the captions, a row for each
PATHS_AT_ONCE = 64
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class DistilRecipe:
    """How a LoRA is trained."""

    seed: int = 13
    paths: int = 2048  # half of them from pure noise
    solver_steps: int = 8
    guidance: float = 2.0
    rank: int = 32
    iterations: int = 1500
    batch: int = 32
    noise_rows: int = 8  # of the batch, which are at pure noise
    rate: float = 2e-3
    ema: float = 0.995


class Tiny:
    """builtin:tiny. A noise level is sigma / alpha, where x = alpha z + sigma noise."""

    targets = (
        *ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut",
        "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj", "conv_in", "conv_out",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        self.text_encoder, self.denoiser = pipeline.text_encoder, pipeline.unet
        alphas = alphas_cumprod()
        self.levels = ((1 - alphas) / alphas).sqrt().numpy()
        self.least, self.most = float(self.levels[0]), float(self.levels[-1])

    def parts(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, each shaped as `level`."""
        alpha = (1 + level**2).rsqrt()
        return alpha, level * alpha

    def grid(self, start: Tensor, steps: int, bend: float) -> Tensor:
        """Levels from `start` (n,) down to 0, (n, steps + 1): Karras et al. 2022, rho from 5 to 9."""
        power, share = 5 + 4 * bend, torch.linspace(0, 1, steps)
        start = start.clamp(min=self.least).view(-1, 1) ** (1 / power)
        return pad((start + share * (self.least ** (1 / power) - start)) ** power, (0, 1))

    def text(self, ids: Tensor) -> Text:
        """For captions (n, 32)."""
        return {"encoder_hidden_states": self.text_encoder(ids).last_hidden_state}

    def denoised(self, x: Tensor, level: Tensor, text: Text) -> Tensor:
        """The latents (n, 4, 16, 16) that the UNet sees in x at levels (n,)."""
        t = np.interp(level.log().numpy(), np.log(self.levels), np.arange(TIMESTEPS))
        noise = self.denoiser(x, torch.from_numpy(t).float(), **text).sample.float()
        alpha, sigma = (part.view(-1, 1, 1, 1) for part in self.parts(level))
        return (x - sigma * noise) / alpha  # type: ignore[no-any-return]

    def save(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """As diffusers' `load_lora_weights` reads them."""
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=weights)


@torch.no_grad()
def solve(tiny: Tiny, x: Tensor, grid: Tensor, ids: Tensor, guidance: float) -> Tensor:
    """All points of the paths from x (n, 4, 16, 16) over the levels `grid` (n, k + 1), (n, k + 1, 4, 16, 16).

    DPM-Solver++ 2M (Lu et al. 2022), the last step of first order.
    """
    text = tiny.text(torch.cat([torch.tensor(empty_ids(ids)).expand_as(ids), ids]))
    alphas, sigmas = (part.view(*grid.shape, 1, 1, 1) for part in tiny.parts(grid))
    points, last, last_h = [x], x, torch.inf
    for i in range(grid.shape[1] - 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            without, with_text = tiny.denoised(x.repeat(2, 1, 1, 1), grid[:, i].repeat(2), text).chunk(2)
        seen = torch.lerp(without, with_text, guidance)
        shrink = alphas[:, i] * sigmas[:, i + 1] / (sigmas[:, i] * alphas[:, i + 1])  # exp(-h)
        h = -shrink.log()
        extra = torch.where(torch.isfinite(h / last_h), h / last_h / 2, 0.0) if i else torch.zeros_like(h)
        mean = seen + extra * (seen - last)
        x = sigmas[:, i + 1] / sigmas[:, i] * x + alphas[:, i + 1] * (1 - shrink) * mean
        points.append(x)
        last, last_h = seen, h
    return torch.stack(points, 1)


def empty_ids(ids: Tensor) -> list[int]:
    """The empty caption's tokens: start, then ends."""
    first = ids[0].tolist()
    end = max(first)  # CLIP's end token has the highest number, and pads
    return [first[0]] + [end] * (len(first) - 1)


def make_paths(
    tiny: Tiny, drawings: Sequence[Drawing], tokenizer: CLIPTokenizer, recipe: DistilRecipe
) -> dict[str, Tensor]:
    """points (n, k, 4, 16, 16) and ends (n, 4, 16, 16) in half precision, levels (n, k), ids (n, 32)."""
    parts: list[dict[str, Tensor]] = []
    for chunk in range(recipe.paths // PATHS_AT_ONCE // 2):
        rng, noise = generators(recipe.seed, chunk)
        words = random.Random(int(rng.integers(2**62)))
        captions = [training_caption(drawings[i], words) for i in rng.integers(0, len(drawings), PATHS_AT_ONCE)]
        ids = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        ends = torch.zeros(PATHS_AT_ONCE, 4, 16, 16)
        for start in (torch.full((PATHS_AT_ONCE,), tiny.most), between(tiny, noise)):
            alpha, sigma = (part.view(-1, 1, 1, 1) for part in tiny.parts(start))
            pure = start.view(-1, 1, 1, 1) == tiny.most
            drawn = torch.randn(ends.shape, generator=noise)
            x = torch.where(pure, drawn, alpha * ends + sigma * drawn)
            grid = tiny.grid(start, recipe.solver_steps, float(rng.random()))
            points = solve(tiny, x, grid, ids.input_ids, recipe.guidance)
            ends = points[:, -1]
            parts.append(
                {"points": points[:, :-1].half(), "ends": ends.half(), "levels": grid[:, :-1], "ids": ids.input_ids}
            )
        if (chunk + 1) % 5 == 0:
            log.info("paths %d", (chunk + 1) * PATHS_AT_ONCE * 2)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def between(tiny: Tiny, noise: torch.Generator) -> Tensor:
    """Levels (PATHS_AT_ONCE,) below pure noise, evenly spread over the grid that `lcm` takes its own from."""
    fine = tiny.grid(torch.tensor([tiny.most]), 200, 0.5)[0]
    places = torch.rand(PATHS_AT_ONCE, generator=noise) * 150 + 1
    return torch.from_numpy(np.interp(places.numpy(), np.arange(len(fine)), fine.numpy())).float()


class LowRank(nn.Module):
    """What a LoRA adds to a layer's weight. Added to the weight, not to the output: the same for less arithmetic."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rank = min(rank, weight.shape[0])
        self.down = nn.Parameter(torch.randn(rank, *weight.shape[1:]) / rank)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down.flatten(1)).view_as(weight)

    def layers(self, name: str) -> dict[str, Tensor]:
        """As peft names and shapes them."""
        up = self.up.view(*self.up.shape, *[1 for _ in self.down.shape[2:]])
        return {f"{name}.lora_A.weight": self.down, f"{name}.lora_B.weight": up}


class Distiller:
    """A LoRA, its running average and its optimizer."""

    def __init__(self, tiny: Tiny, paths: dict[str, Tensor], recipe: DistilRecipe) -> None:
        self.tiny, self.paths, self.recipe = tiny, paths, recipe
        torch.manual_seed(recipe.seed)
        denoiser: Any = tiny.denoiser.requires_grad_(False)
        self.layers = nn.ModuleDict()
        for name, layer in list(denoiser.named_modules()):
            if name.endswith(tiny.targets) and hasattr(layer, "weight"):
                added = self.layers[name.replace(".", "/")] = LowRank(layer.weight, recipe.rank)
                register_parametrization(layer, "weight", added)
        self.parameters: list[Tensor] = list(self.layers.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = adamw(self.parameters)
        self.meter = Meter("lora")

    def run(self, path: Path) -> dict[str, Tensor]:
        """Train, then hand out the averaged weights in half precision."""
        log.info("%.2f M parameters", sum(p.numel() for p in self.parameters) / 1e6)
        with sdpa_kernel(SDPBackend.MATH):
            run_loop(self.recipe.iterations, path, self.state, self.load, self.step)
        return self.averaged()

    def averaged(self) -> dict[str, Tensor]:
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        layers = [added.layers(name.replace("/", ".")) for name, added in self.layers.items()]
        return {name: weight.half().contiguous() for layer in layers for name, weight in layer.items()}

    def state(self) -> dict[str, Any]:
        return {"lora": self.layers.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        self.layers.load_state_dict(saved["lora"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average = saved["average"]

    def step(self, iteration: int) -> None:
        r = self.recipe
        rng, _ = generators(r.seed + 1, iteration)
        set_rate(self.optimizer, cosine_rate(iteration, r.iterations, r.rate, warmup=100))
        loss = self.loss(rng)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(r.ema, (iteration + 1) / (iteration + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.meter.add(iteration, loss=loss.item())

    def loss(self, rng: np.random.Generator) -> Tensor:
        """The jumps' distance from the ends: pseudo-Huber (Song and Dhariwal 2023), root mean square for all but
        the smallest."""
        rows, places = self.places(rng)
        x, level = self.paths["points"][rows, places].float(), self.paths["levels"][rows, places]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                text = self.tiny.text(self.paths["ids"][rows])
            error = self.tiny.denoised(x, level, text) - self.paths["ends"][rows].float()
        return (error.pow(2).mean((1, 2, 3)) + 1e-4).sqrt().mean()

    def places(self, rng: np.random.Generator) -> tuple[Any, Any]:
        """Paths and points of them, (batch,) each: `noise_rows` at pure noise, the others anywhere."""
        paths, steps = self.paths["levels"].shape
        rows, places = rng.integers(0, paths, self.recipe.batch), rng.integers(0, steps, self.recipe.batch)
        pure = rows[: self.recipe.noise_rows]
        pure -= pure // PATHS_AT_ONCE % 2 * PATHS_AT_ONCE  # every other chunk begins there
        places[: self.recipe.noise_rows] = 0
        return rows, places
