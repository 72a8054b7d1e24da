"""A cell as InvokeAI's settings."""

from __future__ import annotations

from schedcmp.report.paste.subject import Subject


def write(subject: Subject) -> str:
    """Raises RequestError where InvokeAI has no such scheduler."""
    sampler, suffix = subject.names("invokeai")
    cell, (width, height) = subject.cell, subject.size
    settings = {
        "scheduler": sampler + suffix,
        "steps": cell.steps,
        "cfg_scale": cell.guidance_scale,
        "seed": cell.seed,
        "width": width,
        "height": height,
        "positive_prompt": cell.prompt,
        "negative_prompt": cell.negative_prompt,
    }
    loras = "".join(f"lora: {name}, weight {weight:g}\n" for name, weight in subject.loras)
    return "".join(f"{name}: {value}\n" for name, value in settings.items()) + loras
