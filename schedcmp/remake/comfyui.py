"""ComfyUI's metadata: the nodes that were run, in the form of its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.remake.made import Made
from schedcmp.remake.reading import Text

_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_KNOWN = {
    *_SAMPLERS, "CheckpointLoaderSimple", "CheckpointLoader", "UNETLoader", "CLIPLoader", "DualCLIPLoader",
    "TripleCLIPLoader", "CLIPTextEncode", "EmptyLatentImage", "EmptySD3LatentImage", "VAEDecode", "SaveImage",
    "PreviewImage", "KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider", "BasicGuider", "PrimitiveNode",
}  # fmt: skip
_TEXTS = ("text", "string", "value", "prompt", "text_g", "clip_l")
_MOST_NODES, _DEEPEST = 5_000, 50
Nodes = Mapping[str, Mapping[str, Any]]


def read(text: Text) -> Made | None:
    """None for what is none of its.

    Raises:
        RequestError: it is a workflow as its window saves it, or has no sampler.
    """
    data = text.data
    if not isinstance(data, dict):
        return _values(text.text) if "sampler_name: " in text.text else None
    if isinstance(data.get("nodes"), list) and "links" in data:
        raise RequestError(
            "a workflow as ComfyUI's window saves it; export it there in the API's form, or give an image"
        )
    nodes = {str(k): n for k, n in data.items() if isinstance(n, dict) and isinstance(n.get("class_type"), str)}
    if not nodes or len(nodes) > _MOST_NODES:
        return None
    return _made(
        {k: {**n, "inputs": n["inputs"] if isinstance(n.get("inputs"), dict) else {}} for k, n in nodes.items()}
    )


def _made(nodes: Nodes) -> Made:
    samplers = [key for key, node in nodes.items() if node["class_type"] in _SAMPLERS]
    if not samplers:
        raise RequestError("ComfyUI's nodes have none of its own samplers among them, so what was sampled is not known")
    first = next((key for key in samplers if _size(nodes, key)), samplers[0])
    made = Made("ComfyUI", "comfyui")
    found = dict(_inputs(nodes, first))
    made.sampler, made.schedule = str(found.get("sampler_name", "")), str(found.get("scheduler", ""))
    standing_in = {"cfg": 1 if "guider" in nodes[first]["inputs"] else None, "seed": found.get("noise_seed")}
    made.numbers(standing_in | found, "steps", "cfg", "seed")
    made.size(*(_size(nodes, first) or (None, None)))
    made.prompt, made.negative_prompt = (made.text(_text(nodes, first, name)) for name in ("positive", "negative"))
    made.model = str(next(_loaded(nodes), ""))
    denoise = made.number("denoise", found.get("denoise", 1), 0, 1)
    if denoise is not None and denoise < 1:
        made.lose("denoise", denoise, "it began with another image")
    for key in samplers:
        if key != first:
            made.lose(f"the node {key}, {nodes[key]['class_type']}", why="a further pass")
    for key, node in nodes.items():
        if node["class_type"] not in _KNOWN:
            plain = (f"{name} {told}" for name, told in node["inputs"].items() if isinstance(told, str | int | float))
            made.lose(f"the node {key}, {node['class_type']}", ", ".join(plain))
    return made


def _inputs(nodes: Nodes, key: str) -> Iterator[tuple[str, Any]]:
    """Names and values of a sampler node, and of the nodes that stand for a part of it."""
    for name, value in nodes[key]["inputs"].items():
        yield name, _value(nodes, value)
        if name in ("noise", "guider", "sampler", "sigmas") and _linked(nodes, value):
            yield from ((n, _value(nodes, v)) for n, v in nodes[value[0]]["inputs"].items())


def _linked(nodes: Nodes, value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in nodes


def _value(nodes: Nodes, value: Any, depth: int = 0) -> Any:
    """A value, or that of the node which it comes from."""
    if not _linked(nodes, value) or depth > _DEEPEST:
        return value
    inputs = nodes[value[0]]["inputs"]
    inner = next((inputs[name] for name in ("value", "seed", "noise_seed", "int", "float") if name in inputs), None)
    return _value(nodes, inner, depth + 1)


def _text(nodes: Nodes, key: str, name: str) -> str:
    """What stands at the beginning of a conditioning."""
    inputs = nodes[key]["inputs"]
    if name not in inputs and _linked(nodes, inputs.get("guider")):
        guider = nodes[inputs["guider"][0]]["inputs"]
        return _followed(nodes, guider.get(name, guider.get("conditioning") if name == "positive" else None))
    return _followed(nodes, inputs.get(name))


def _followed(nodes: Nodes, value: Any) -> str:
    for _ in range(_DEEPEST):
        if isinstance(value, str):
            return value
        if not _linked(nodes, value):
            break
        inputs = nodes[value[0]]["inputs"]
        if nodes[value[0]]["class_type"] == "ConditioningZeroOut":
            break
        value = next((inputs[n] for n in (*_TEXTS, "conditioning", "positive", "conditioning_1") if n in inputs), None)
    return ""


def _size(nodes: Nodes, key: str) -> tuple[Any, Any] | None:
    """Width and height of the empty latents that a sampler begins with."""
    value = nodes[key]["inputs"].get("latent_image")
    for _ in range(_DEEPEST):
        if not _linked(nodes, value):
            return None
        inputs = nodes[value[0]]["inputs"]
        if "width" in inputs and "height" in inputs and not _linked(nodes, inputs.get("samples")):
            return _value(nodes, inputs["width"]), _value(nodes, inputs["height"])
        value = inputs.get("samples", inputs.get("latent"))
    return None


def _loaded(nodes: Nodes) -> Iterator[Any]:
    names = ("ckpt_name", "unet_name")
    yield from (node["inputs"][name] for name in names for node in nodes.values() if name in node["inputs"])


def _values(text: str) -> Made:
    """Of a KSampler alone, a line each."""
    found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    made = Made("ComfyUI", "comfyui", sampler=found["sampler_name"], schedule=found.get("scheduler", ""))
    made.numbers(found, "steps", "cfg", "seed")
    return made
