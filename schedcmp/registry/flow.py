"""What a checkpoint's kind asks of a scheduler: flow matching, zero terminal SNR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINE = "_pipeline_class"  # the key under which `build.mended` adds the pipeline's class name to a scheduler config
_DYNAMIC = "use_dynamic_shifting"


def is_flow(scheduler_config: Mapping[str, Any]) -> bool:
    """Whether this is the config of a flow-matching checkpoint."""
    own_class = str(scheduler_config.get("_class_name", ""))
    return own_class.startswith("FlowMatch") or bool(scheduler_config.get("use_flow_sigmas"))


def flow_options(takes: Mapping[str, Any], scheduler_config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a solver of the betas' ODE integrate a flow, with the checkpoint's shift.

    diffusers has two words for the shift, and drops the one that a class does not know.
    """
    if not is_flow(scheduler_config):
        return {}
    shift = scheduler_config.get("shift", scheduler_config.get("flow_shift", 1.0))
    if "use_flow_sigmas" not in takes:
        return {"shift": shift}
    return {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}


def misfit(config: Mapping[str, Any], scheduler_config: Mapping[str, Any]) -> str:
    """Why a resolved config cannot be right for the checkpoint although its class has the right noise schedule."""
    if scheduler_config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in config:
        return "this checkpoint has zero terminal SNR, which the class cannot represent (no rescale_betas_zero_snr)"
    if scheduler_config.get(_DYNAMIC) and not config.get(_DYNAMIC):
        return f"this checkpoint's noise levels depend on the image's size, which the class ignores (no {_DYNAMIC})"
    theirs = scheduler_config.get("prediction_type", "epsilon")
    ours = config.get("prediction_type", "epsilon")
    if not is_flow(scheduler_config) and ours != theirs:
        return f"this checkpoint predicts {theirs}, the class takes it for {ours}"
    return ""
