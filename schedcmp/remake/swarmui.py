"""SwarmUI's metadata: JSON with ComfyUI's names, as ComfyUI makes its images."""

from __future__ import annotations

from schedcmp.remake.made import Made
from schedcmp.remake.reading import Text

_QUIET = {"aspectratio", "swarm_version", "automaticvae", "images"}


def read(text: Text) -> Made | None:
    """None for what is none of its."""
    data = text.data
    if not isinstance(data, dict) or not isinstance(data.get("sui_image_params"), dict):
        return None
    fields, made = dict(data["sui_image_params"]), Made("SwarmUI", "comfyui")
    take = fields.pop
    made.prompt, made.negative_prompt = made.text(take("prompt", "")), made.text(take("negativeprompt", ""))
    made.sampler, made.schedule = str(take("sampler", "euler")), str(take("scheduler", "normal"))
    made.numbers(fields, "steps", "cfgscale", "seed")
    made.size(take("width", None), take("height", None))
    made.model = str(take("model", ""))
    for name, value in fields.items():
        if name not in _QUIET and value not in (None, "", [], {}, False):
            made.lose(str(name), value)
    return made
