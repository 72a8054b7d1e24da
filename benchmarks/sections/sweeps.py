"""The sweeps that users run, by the command and on this device: how each ends, and what it says if not well."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sections.context import Context

CONFIGS = Path(__file__).parents[2] / "configs"
# Name: config, options; in order of worth
SWEEPS: dict[str, tuple[str, ...]] = {
    "smoke": ("smoke",),
    "flow": ("flow",),
    "every scheduler": ("smoke", "schedulers=*", "steps=[6]"),
    "every scheduler, flow": ("flow", "schedulers=*", "steps=[6]", "seeds=0"),
    "fp16": ("quickstart", "dtype=fp16"),
    "bf16": ("flow", "dtype=bf16"),
    "noise from the device": ("quickstart", "generator=device"),
    "images": ("img2img",),
    "LoRA": ("distilled",),
    "turbo LoRA": ("turbo",),
    "step caches": ("cached",),
    "quantized": ("quantized",),
    "two checkpoints": ("both",),
    "offload": ("smoke", "optimize.offload=true"),
    "regional": ("smoke", "optimize.compile=regional"),
    "compiled": ("smoke", "optimize.compile=default"),
    "CUDA graphs": ("smoke", "optimize.compile=reduce-overhead"),
    "JAX": ("smoke", "backend=jax"),
}


def sweeps(context: Context) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for name in [*SWEEPS][: 1 if context.small else None]:
            if context.left < 0:
                break
            context.note(**{name: ended(context, SWEEPS[name], Path(folder) / name)})
    return {}


def ended(context: Context, sweep: tuple[str, ...], out: Path) -> dict[str, Any]:
    """Its exit code and seconds; if it is not 0, the last that it said."""
    config, *options = sweep
    command = [sys.executable, "-m", "schedcmp", "run", str(CONFIGS / f"{config}.yaml"), "-o", str(out)]
    command += ["--device", str(context.device), *(word for option in options for word in ("--set", option))]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(60.0, context.left))
    found = {"code": done.returncode, "seconds": round(time.monotonic() - start, 1)}
    return found if done.returncode == 0 else found | {"said": done.stderr[-600:]}
