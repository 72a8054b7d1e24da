"""A cell as the values of ComfyUI's KSampler."""

from __future__ import annotations

from typing import Any

from schedcmp.report.paste.subject import Subject

# Where a sweep names no schedule: what ComfyUI has nearest to a class's own spacing
_NEAREST = {"trailing": "sgm_uniform"}
_EVEN, _FLOW = "normal", "simple"


def write(subject: Subject) -> str:
    """Raises RequestError where ComfyUI has no such sampler or schedule."""
    loaders = "".join(f"LoraLoader: {name}, strength {weight:g}\n" for name, weight in subject.loras)
    return "".join(f"{name}: {value}\n" for name, value in ksampler(subject).items()) + loaders


def ksampler(subject: Subject) -> dict[str, Any]:
    """The inputs of a KSampler node by name."""
    sampler, scheduler = subject.names("comfyui")
    cell, config = subject.cell, subject.config
    flow = config.get("use_flow_sigmas") or "shift" in config
    nearest = _FLOW if flow else _NEAREST.get(str(config.get("timestep_spacing")), _EVEN)
    return {
        "seed": cell.seed,
        "steps": cell.steps,
        "cfg": cell.guidance_scale,
        "sampler_name": sampler,
        "scheduler": scheduler or nearest,
        "denoise": 1.0,
    }
