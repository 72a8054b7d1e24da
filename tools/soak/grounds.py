"""What the attacks need, made before they begin: a checkpoint, and finished runs."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tools.soak.case import Case, Grounds
from tools.soak.commands import Started

_OFF: dict[str, Any] = {"prompt": "a b", "guidance_scale": 3, "timing": {"mode": "off"}}
SWEEPS: dict[str, dict[str, Any]] = {
    # Those that are damaged and crafted: small
    "small": _OFF | {"schedulers": ["ddim", "heun"], "steps": [2, 3], "seeds": [0, 1], "metrics": ["reference"]},
    # Those that are stopped: packed with references; solo, timed; several prompts, with pages of grids
    "packed": _OFF | {"schedulers": ["ddim", "euler-a", "heun"], "steps": [3, 5], "seeds": "0..4",
                      "metrics": ["reference"]},
    "solo": {"prompt": "a b", "schedulers": ["ddim", "euler"], "steps": [2, 4], "seeds": "0..5",
             "engine": "solo", "metrics": "off"},
    "prompts": _OFF | {"prompt": ["a b", "b a"], "schedulers": ["euler"], "steps": [2, 3], "seeds": "0..5",
                       "metrics": "off"},
}  # fmt: skip
STOPPED = ("packed", "solo", "prompts")


def warm() -> None:
    """Import what commands import, so that forked processes need not. Starts no thread."""
    import importlib
    import pkgutil

    import torch
    from diffusers import StableDiffusionPipeline  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    import schedcmp

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(schedcmp.__path__, "schedcmp."):
        if module.name.partition(".")[2].partition(".")[0] not in ("__main__", "backend", "cluster"):
            importlib.import_module(module.name)


def make(folder: Path, names: Collection[str] = SWEEPS, *, fresh: bool = False) -> Grounds:
    """Write the checkpoint and the sweeps, and run them all; `fresh` where this process has threads."""
    from tests.checkpoints import save_sd1

    seconds: dict[str, float] = {}
    grounds = Grounds(folder, seconds)
    save_sd1(grounds.checkpoint)
    (folder / "prompts.txt").write_text("a b\nb a\n")
    case = Case("grounds", 0, 0, grounds, folder / "making")
    for name in names:
        grounds.sweep(name).write_text(json.dumps({"model": str(grounds.checkpoint)} | SWEEPS[name]))
        begun = time.monotonic()
        said = Started(case, "run", grounds.sweep(name), "-o", grounds.run(name), fresh=fresh).wait(600)
        if said.code != 0:
            raise RuntimeError(f"the run {name} ended with {said.code}: {said.err}")
        seconds[name] = time.monotonic() - begun
    return grounds
