"""The checkpoint's own scheduler: what of its config is the model's, and what was a choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schedcmp.registry.build.classes import constructor_defaults, load_class, refuse_huge
from schedcmp.spacing.flow import PIPELINE

# What a scheduler was last set to do, which says nothing of what the model was trained for
CHOICES = frozenset({
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "interpolation_type",
    "final_sigmas_type", "algorithm_type", "solver_order", "solver_type", "solver_p", "lower_order_final",
    "euler_at_final", "predict_x0", "disable_corrector", "predictor_order", "corrector_order", "tau_func",
    "noise_sampler_seed", "stochastic_sampling",
})  # fmt: skip


def left_out(scheduler_config: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint's own scheduler was set to do beyond its class's defaults, and no entry inherits."""
    name = str(scheduler_config.get("_class_name", ""))
    defaults = constructor_defaults(load_class(name)) if name else {}
    chosen = ((name, scheduler_config[name]) for name in sorted(CHOICES & scheduler_config.keys() & defaults.keys()))
    return {name: value for name, value in chosen if value != defaults[name]}


def told_left_out(scheduler_config: Mapping[str, Any]) -> str:
    """A sentence on it, with how to run the scheduler as the checkpoint has it; empty where there is nothing to say."""
    options = left_out(scheduler_config)
    if not options:
        return ""
    listed = ", ".join(f"{name}: {json.dumps(value)}" for name, value in options.items())
    own = f"{{name: own, class: {scheduler_config['_class_name']}, options: {{{listed}}}}}"
    return (
        f"the checkpoint's scheduler config has {listed}; names mean what they say here, so no scheduler inherits that."
        f" To run it as saved, name {own}"
    )


def mended(scheduler_config: Mapping[str, Any], pipeline_class: str) -> dict[str, Any]:
    """The config as the pipeline's constructor leaves it, and the pipeline's class name under `PIPELINE`.

    Stable Diffusion 1 and 2 pipelines of diffusers set `steps_offset` to 1 and `clip_sample` to false whatever the
    checkpoint says (old checkpoints lack the keys), so a comparison with diffusers must start from there too.

    Raises:
        RegistryError: no such class, or numbers beyond all bounds.
    """
    refuse_huge("the checkpoint's scheduler config", scheduler_config)
    config = {**scheduler_config, PIPELINE: pipeline_class}
    newer = pipeline_class.startswith(("StableDiffusionXL", "StableDiffusion3"))
    if newer or not pipeline_class.startswith("StableDiffusion") or "_class_name" not in config:
        return config
    full = {**constructor_defaults(load_class(config["_class_name"])), **config}
    if full.get("steps_offset", 1) != 1:
        config["steps_offset"] = 1
    if full.get("clip_sample") is True:
        config["clip_sample"] = False
    return config
