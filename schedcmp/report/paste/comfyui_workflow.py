"""A cell as a workflow of ComfyUI, in the form that its API takes and its window opens."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.report.paste.comfyui import ksampler
from schedcmp.report.paste.subject import Subject

_INSTEAD = "--as comfyui says what to enter into a KSampler"
_PLAIN = 7  # nodes without LoRAs


def write(subject: Subject) -> str:
    """Raises RequestError where ComfyUI has no such sampler or schedule."""
    return json.dumps(workflow(subject), indent=2, ensure_ascii=False) + "\n"


def workflow(subject: Subject) -> dict[str, Any]:
    """Nodes by their numbers: a checkpoint, two texts, empty latents, the sampler, a file, and LoRAs."""
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
    return {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, 1)}
