"""Few-step weights: LoRAs that jump from anywhere on a checkpoint's guided paths to their ends.

A consistency model (Song et al. 2023; latent and as a LoRA: Luo et al. 2023, arXiv:2311.05556) gives for every point of
a path of the probability-flow ODE the point where it ends. These checkpoints are small enough to solve thousands of
paths first and to learn the jumps by regression, which spares the moving target that consistency distillation has.
Of a flow, the lines from the noise to where it ends are learnt instead (Liu et al. 2023, "reflow"), from there on any
number of steps. Guidance is part of the paths, so the LoRA needs none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrize import register_parametrization

from tools.tiny.captioned import adamw
from tools.tiny.training import Meter, cosine_rate, generators, log, run_loop, set_rate
from tools.tiny.worlds import World


@dataclass(frozen=True)
class DistilRecipe:
    """How a LoRA is trained."""

    iterations: int
    seed: int = 13
    rank: int = 32
    batch: int = 128
    noise_rows: int = 32  # of the batch, which are at pure noise
    rate: float = 2e-3
    ema: float = 0.995


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

    def __init__(self, world: World, paths: dict[str, Tensor], recipe: DistilRecipe) -> None:
        self.world, self.paths, self.recipe = world, paths, recipe
        self.at_noise = (paths["levels"][:, 0] > 0.999 * world.most).nonzero()[:, 0].cpu().numpy()
        torch.manual_seed(recipe.seed)
        denoiser: Any = world.denoiser.requires_grad_(False)
        self.layers = nn.ModuleDict()
        for name, layer in list(denoiser.named_modules()):
            if name.endswith(world.targets) and hasattr(layer, "weight"):
                added = self.layers[name.replace(".", "/")] = LowRank(layer.weight, recipe.rank).to(layer.weight.device)
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
        return {name: weight.half().cpu().contiguous() for layer in layers for name, weight in layer.items()}

    def state(self) -> dict[str, Any]:
        return {"lora": self.layers.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        self.layers.load_state_dict(saved["lora"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average = [average.to(p) for average, p in zip(saved["average"], self.parameters, strict=True)]

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
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            with torch.no_grad():
                text = self.world.text(self.paths["ids"][rows])
            error = self.world.denoised(x, level, text) - self.paths["ends"][rows].float()
        return (error.pow(2).mean((1, 2, 3)) + 1e-4).sqrt().mean()

    def places(self, rng: np.random.Generator) -> tuple[Any, Any]:
        """Paths and points of them, (batch,) each: `noise_rows` at pure noise, the others anywhere."""
        paths, steps = self.paths["levels"].shape
        rows, places = rng.integers(0, paths, self.recipe.batch), rng.integers(0, steps, self.recipe.batch)
        pure = self.recipe.noise_rows
        rows[:pure], places[:pure] = rng.choice(self.at_noise, pure), 0
        return rows, places
