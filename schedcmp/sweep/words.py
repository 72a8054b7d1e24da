"""pydantic's problems in our own words: what a value must be, and how to write what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedcmp.errors import shown

# By the kind of problem; the fields are those of its context
_MUST: Mapping[str, str] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be a text; put quotes around a number or a word that YAML reads otherwise",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "dict_type": "must have keys of its own, as in {{key: value}}",
    "model_type": "must have keys of its own, as in {{key: value}}",
    "model_attributes_type": "must have keys of its own, as in {{key: value}}",
    "tuple_type": "must be a list, as in [one, two]",
    "list_type": "must be a list, as in [one, two]",
    "too_short": "must not be empty",
}
# By the pattern of a field
_PATTERNS: Mapping[str, str] = {
    r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$": "must begin with a letter or digit and have only those, spaces and . _ + -",
    r"^[\w][\w .+-]*$": "must begin with a letter or digit and have only those, spaces and . _ + -",
    r"^(auto|cpu|mps|cuda(:\d+)?)$": "must be auto, cpu, mps, cuda, or one of several GPUs as in cuda:1",
    r"^\d+x\d+$": "must be a size such as 512x768",
}
# What other tools call a key
SYNONYMS: Mapping[str, str] = {
    "cfg": "guidance_scale", "cfg_scale": "guidance_scale", "guidance": "guidance_scale", "scale": "guidance_scale",
    "sampler": "schedulers", "samplers": "schedulers", "sampler_name": "schedulers", "scheduler": "schedulers",
    "sampling_method": "schedulers", "sampler_index": "schedulers", "schedule_type": "sigmas",
    "noise_schedule": "sigmas", "sigma_schedule": "sigmas", "num_inference_steps": "steps", "sampling_steps": "steps",
    "timesteps": "sigmas, a list of noise levels (`schedcmp show` has those of timesteps)", "seed": "seeds",
    "prompts": "prompt", "text": "prompt", "positive_prompt": "prompt", "negative": "negative_prompt",
    "negative_prompts": "negative_prompt", "uc": "negative_prompt", "checkpoint": "model", "ckpt": "model",
    "model_name": "model", "resolution": "size", "sizes": "size", "batch_size": "max_batch", "precision": "dtype",
    "torch_dtype": "dtype", "vae": "model: {id: ..., vae: ...}", "variant": "model: {id: ..., variant: ...}",
    "revision": "model: {id: ..., revision: ...}", "prompt_file": "prompt: {file: ...}",
    "mask_image": "mask", "control_mask": "mask", "init_image": "image", "denoising_strength": "strength",
    "prompts_file": "prompt: {file: ...}", "prompt_from_file": "prompt: {file: ...}",
}  # fmt: skip


def in_words(problem: Any) -> str:
    """What is wrong with a value, its beginning included where it says something."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    given = problem["input"]
    if kind == "string_pattern_mismatch":
        must = _PATTERNS.get(context["pattern"], "is not written as it should be")
    else:
        must = _MUST.get(kind, str(problem["msg"])[:1].lower() + str(problem["msg"])[1:]).format(**context)
    return f"{must}, got {shown(given)}{_near(kind, context, given)}"


def _near(kind: str, context: Mapping[str, Any], given: Any) -> str:
    if kind == "multiple_of" and isinstance(given, int):
        step = context["multiple_of"]
        return f"; the nearest are {given // step * step} and {(given // step + 1) * step}"
    return ""
