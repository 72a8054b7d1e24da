"""The paths of a checkpoint's guided ODE, from noise to their ends: what few-step weights learn from."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from schedcmp.truth.adherence import adherence
from tools.tiny.captions import MAX_TOKENS, training_caption
from tools.tiny.shapes import Drawing
from tools.tiny.training import generators, log
from tools.tiny.vae import SCALING_FACTOR
from tools.tiny.worlds import World

AT_ONCE = 256


@dataclass(frozen=True)
class PathRecipe:
    """How paths are solved."""

    seed: int = 13
    paths: int = 12_288
    steps: int = 12
    guidance: float = 3.0  # a solver of second order with so many steps bears it


@torch.no_grad()
def make_paths(
    world: World, drawings: Sequence[Drawing], tokenizer: CLIPTokenizer, recipe: PathRecipe, device: torch.device
) -> dict[str, Tensor]:
    """points (n, k, 4, 16, 16) and ends (n, 4, 16, 16) in half precision, levels (n, k), ids (n, 32).

    For `lcm`, half of the paths begin at pure noise and half at an end with new noise on it, as it goes on after
    a jump. Of a flow, points of the straight lines from the noise to the ends. Paths that miss their captions are left
    out.
    """
    parts: list[dict[str, Tensor]] = []
    starts = 1 if world.straight else 2
    for chunk in range(recipe.paths // AT_ONCE // starts):
        rng, noise = generators(recipe.seed, chunk)
        words = random.Random(int(rng.integers(2**62)))
        captions = [training_caption(drawings[i], words) for i in rng.integers(0, len(drawings), AT_ONCE)]
        encoded = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        ids = encoded.input_ids.to(device)
        ends = torch.zeros(AT_ONCE, 4, 16, 16, device=device)
        for start in (torch.full((AT_ONCE,), world.most), between(world, noise))[:starts]:
            x = noised(world, ends, start.to(device), noise)
            grid = world.grid(start.to(device), recipe.steps, float(rng.random()))
            points = solve(world, x, grid, ids, recipe.guidance)
            ends = points[:, -1]
            if world.straight:
                points = line(world, x, ends, grid)
            kept = obeying(world.vae, ends, captions)
            found = {"points": points[:, :-1].half(), "ends": ends.half(), "levels": grid[:, :-1], "ids": ids}
            parts.append({name: value[kept] for name, value in found.items()})
        log.info("paths %d", (chunk + 1) * AT_ONCE * starts)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def between(world: World, noise: torch.Generator) -> Tensor:
    """Levels (AT_ONCE,) below pure noise, evenly spread over the grid that `lcm` takes its own from."""
    fine = world.grid(torch.tensor([world.most]), 200, 0.5)[0]
    places = torch.rand(AT_ONCE, generator=noise) * 150 + 1
    return torch.from_numpy(np.interp(places.numpy(), np.arange(len(fine)), fine.numpy())).float()


def noised(world: World, ends: Tensor, level: Tensor, noise: torch.Generator) -> Tensor:
    """Ends (n, 4, 16, 16) with noise of levels (n,); pure noise, of unit variance, at the highest."""
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in world.parts(level))
    drawn = torch.randn(ends.shape, generator=noise).to(ends.device)
    return torch.where(level.view(-1, 1, 1, 1) == world.most, drawn, alpha * ends + sigma * drawn)


def line(world: World, noise: Tensor, ends: Tensor, grid: Tensor) -> Tensor:
    """Points (n, k, 4, 16, 16) between noise and ends at levels (n, k)."""
    alphas, sigmas = (part.view(*grid.shape, 1, 1, 1) for part in world.parts(grid))
    return alphas * ends[:, None] + sigmas * noise[:, None]


def solve(world: World, x: Tensor, grid: Tensor, ids: Tensor, guidance: float) -> Tensor:
    """All points of the paths from x (n, 4, 16, 16) over the levels `grid` (n, k + 1), (n, k + 1, 4, 16, 16).

    DPM-Solver++ 2M (Lu et al. 2022), the last step of first order.
    """
    text = world.text(torch.cat([empty(ids), ids]))
    alphas, sigmas = (part.view(*grid.shape, 1, 1, 1) for part in world.parts(grid))
    points, last, last_h = [x], x, torch.full_like(sigmas[:, 0], torch.inf)
    for i in range(grid.shape[1] - 1):
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            without, with_text = world.denoised(x.repeat(2, 1, 1, 1), grid[:, i].repeat(2), text).chunk(2)
        seen = torch.lerp(without, with_text, guidance)
        shrink = alphas[:, i] * sigmas[:, i + 1] / (sigmas[:, i] * alphas[:, i + 1])  # exp(-h)
        h = -shrink.log()
        extra = torch.where(torch.isfinite(h) & torch.isfinite(last_h), h / last_h / 2, 0.0)
        mean = seen + extra * (seen - last)
        x = sigmas[:, i + 1] / sigmas[:, i] * x + alphas[:, i + 1] * (1 - shrink) * mean
        points.append(x)
        last, last_h = seen, h
    return torch.stack(points, 1)


def empty(ids: Tensor) -> Tensor:
    """The empty caption's tokens, as many as `ids`. CLIP's end token has the highest number, and pads."""
    none = torch.full_like(ids, int(ids.max()))
    none[:, 0] = ids[:, 0]
    return none


def obeying(vae: AutoencoderKL, ends: Tensor, captions: Sequence[str]) -> Tensor:
    """Which latents (n, 4, 16, 16) show all that their captions ask for, (n,)."""
    decoded = (vae.decode(ends / SCALING_FACTOR).sample / 2 + 0.5).clamp(0, 1) * 255
    pixels = decoded.round().byte().permute(0, 2, 3, 1).cpu().numpy()
    shown = [adherence(Image.fromarray(image), caption) for image, caption in zip(pixels, captions, strict=True)]
    return torch.tensor([share in (None, 1.0) for share in shown], device=ends.device)
