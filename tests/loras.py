"""Random LoRAs for tests, saved as diffusers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from schedcmp.checkpoint.adapters import WEIGHTS


def layers(model: nn.Module, prefix: str, *endings: str, seed: int = 0, strength: float = 0.3) -> dict[str, Tensor]:
    """Of rank 2, for all layers whose names end so."""
    draw = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if name.endswith(endings) and hasattr(layer, "weight"):
            out, *rest = layer.weight.shape
            down, up = (
                torch.randn(2, *rest, generator=draw),
                torch.randn(out, 2, *[1] * (len(rest) - 1), generator=draw),
            )
            scale = strength / (down[0].numel() * 2) ** 0.5
            found |= {f"{prefix}.{name}.lora_A.weight": down, f"{prefix}.{name}.lora_B.weight": up * scale}
    assert found
    return found


def save_lora(folder: Path, *parts: dict[str, Any], name: str = WEIGHTS) -> Path:
    """A folder with one LoRA in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half() for part in parts for key, value in part.items()}, folder / name)
    return folder
