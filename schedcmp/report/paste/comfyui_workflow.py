"""A cell as a workflow of ComfyUI, in the form that its API takes and its window opens."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from schedcmp.report.paste.comfyui import ksampler
from schedcmp.report.paste.subject import Subject


def write(subject: Subject) -> str:
    """Raises RequestError where ComfyUI has no such sampler or schedule."""
    return json.dumps(workflow(subject), indent=2, ensure_ascii=False) + "\n"


def workflow(subject: Subject) -> dict[str, Any]:
    """Nodes by their numbers: a checkpoint, two texts, empty latents, the sampler, a file."""
    width, height = subject.size
    name = PurePath(str(subject.model.get("id") or subject.environment["checkpoint"]).replace(":", "-")).name
    checkpoint = name if name.endswith(".safetensors") else f"{name}.safetensors"
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    cell = subject.cell
    nodes: list[tuple[str, dict[str, Any]]] = [
        ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        ("CLIPTextEncode", {"text": cell.prompt, "clip": ["1", 1]}),
        ("CLIPTextEncode", {"text": cell.negative_prompt, "clip": ["1", 1]}),
        ("EmptyLatentImage", {"width": width, "height": height, "batch_size": 1}),
        ("KSampler", {**ksampler(subject), **links}),
        ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
        ("SaveImage", {"images": ["6", 0], "filename_prefix": "schedcmp"}),
    ]
    return {str(i): {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in enumerate(nodes, 1)}
