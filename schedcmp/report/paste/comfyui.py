"""A cell as ComfyUI has it: the values of its KSampler, or a workflow in the form that its API takes and its window
opens."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.report.paste.subject import Subject

# Where a sweep names no schedule: what ComfyUI has nearest to a class's own spacing
_NEAREST = {"trailing": "sgm_uniform"}
_EVEN, _FLOW = "normal", "simple"
_INSTEAD = "--as comfyui says what to enter into a KSampler"
_PLAIN = 7  # nodes without LoRAs


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


def write_workflow(subject: Subject) -> str:
    """Nodes by their numbers: a checkpoint, two texts, empty latents, the sampler, a file, and LoRAs.

    Raises:
        RequestError: ComfyUI has no such sampler or schedule, or the cell is a video.
    """
    if subject.stored.result.frames:
        raise RequestError(f"ComfyUI's nodes for videos are each model's own; {_INSTEAD}")
    width, height = subject.size
    name = PurePath(str(subject.model.get("id") or subject.environment["checkpoint"]).replace(":", "-")).name
    checkpoint = name if name.endswith(".safetensors") else f"{name}.safetensors"
    loaders: list[tuple[str, dict[str, Any]]] = [
        ("LoraLoader", {"lora_name": lora, "strength_model": weight, "strength_clip": weight})
        for lora, weight in subject.loras
    ]
    dressed = str(_PLAIN + len(loaders)) if loaders else "1"
    for i, (_, inputs) in enumerate(loaders):
        before = str(_PLAIN + i) if i else "1"
        inputs |= {"model": [before, 0], "clip": [before, 1]}
    links = {"model": [dressed, 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    cell = subject.cell
    nodes: list[tuple[str, dict[str, Any]]] = [
        ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        ("CLIPTextEncode", {"text": cell.prompt, "clip": [dressed, 1]}),
        ("CLIPTextEncode", {"text": cell.negative_prompt, "clip": [dressed, 1]}),
        ("EmptyLatentImage", {"width": width, "height": height, "batch_size": 1}),
        ("KSampler", {**ksampler(subject), **links}),
        ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        ("SaveImage", {"images": ["6", 0], "filename_prefix": "schedcmp"}),
        *loaders,
    ]
    workflow = {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, 1)}
    return json.dumps(workflow, indent=2, ensure_ascii=False) + "\n"
