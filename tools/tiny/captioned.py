"""What trains a denoiser of captioned latents: batches, the running average, saving and resuming."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTokenizer

from tools.tiny.captions import MAX_TOKENS, training_caption
from tools.tiny.shapes import Drawing
from tools.tiny.training import Meter, generators, run_loop, set_rate


class Recipe(Protocol):
    """How a denoiser is trained."""

    @property
    def seed(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def ema(self) -> float: ...


class CaptionedTrainer:
    """The networks, their running average, their optimizers and their data; a subclass says what is minimised."""

    def __init__(
        self,
        networks: dict[str, nn.Module],
        latents: Tensor,
        drawings: Sequence[Drawing],
        tokenizer: CLIPTokenizer,
        recipe: Recipe,
    ) -> None:
        """`latents`: (n, 4, 16, 16), of unit variance, one for each of the `drawings`."""
        self.latents, self.drawings, self.tokenizer, self.recipe = latents, drawings, tokenizer, recipe
        self.networks = nn.ModuleDict(networks)
        self.parameters: list[Tensor] = list(self.networks.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizers = self.new_optimizers()
        self.meter = Meter("denoiser")

    def new_optimizers(self) -> list[torch.optim.Optimizer]:
        return [adamw(self.parameters)]

    def rates(self, iteration: int) -> list[float]:
        """The optimizers' learning rates."""
        raise NotImplementedError

    def losses(self, iteration: int, z: Tensor, ids: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        """`loss`, which is minimised, and what else is to be reported, for latents (n, 4, 16, 16) and their tokens."""
        raise NotImplementedError

    def run(self, path: Path) -> nn.ModuleDict:
        """Train, then hand out the networks with their averaged weights."""
        with sdpa_kernel(SDPBackend.MATH):  # on CPU, faster than flash attention's backward pass in bfloat16
            run_loop(self.recipe.iterations, path, self.state, self.load, self.step)
        return self.averaged()

    def averaged(self) -> nn.ModuleDict:
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        return self.networks

    def state(self) -> dict[str, Any]:
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"networks": self.networks.state_dict(), "average": self.average, "optimizers": optimizers}

    def load(self, saved: dict[str, Any]) -> None:
        self.networks.load_state_dict(saved["networks"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average = saved["average"]

    def step(self, iteration: int) -> None:
        rng, noise = generators(self.recipe.seed, iteration)
        for optimizer, rate in zip(self.optimizers, self.rates(iteration), strict=True):
            set_rate(optimizer, rate)
        rows = self.rows(iteration)
        ids = self.tokens(rows, random.Random(int(rng.integers(2**62))))
        losses = self.losses(iteration, self.latents[rows].float(), ids, noise)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.update(iteration)
        self.meter.add(iteration, **{name: value.item() for name, value in losses.items()})

    def update(self, iteration: int) -> None:
        """One step of the optimizers; the average's memory grows with the training's length."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(self.recipe.ema, (iteration + 1) / (iteration + 20))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    def rows(self, iteration: int) -> list[int]:
        """The batch's place in its epoch's shuffled order."""
        per_epoch = len(self.latents) // self.recipe.batch
        epoch, place = divmod(iteration, per_epoch)
        order = np.random.default_rng((self.recipe.seed, 1, epoch)).permutation(len(self.latents))
        return [int(i) for i in order[place * self.recipe.batch : (place + 1) * self.recipe.batch]]

    def tokens(self, rows: list[int], rng: random.Random) -> Tensor:
        """The drawings' captions, worded anew each time, (n, 32)."""
        captions = [training_caption(self.drawings[i], rng) for i in rows]
        encoded = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return encoded.input_ids  # type: ignore[no-any-return]


def adamw(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
