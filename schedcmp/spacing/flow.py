"""What a checkpoint's kind asks of a scheduler: flow matching, zero terminal SNR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PIPELINE = "_pipeline_class"  # the key under which `build.mended` adds the pipeline's class name to a scheduler config
_DYNAMIC = "use_dynamic_shifting"
# What of a checkpoint's config decides its noise levels, beside the shift: arguments of FlowMatchEulerDiscreteScheduler
_SPACING = (
    "num_train_timesteps", _DYNAMIC, "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
    "invert_sigmas", "shift_terminal", "time_shift_type",
)  # fmt: skip


@dataclass(frozen=True)
class FlowSpacing:
    """Where a scheduler's noise levels on flow matching come from, if not from its class."""

    options: Mapping[str, Any]  # of a FlowMatchEulerDiscreteScheduler that has the checkpoint's levels
    pipeline: str  # the class name of the checkpoint's pipeline
    schedule: str = ""  # a function of spacing.flow_levels, or a list; empty: the checkpoint's own levels

    @property
    def name(self) -> str:
        return self.schedule or "the checkpoint's"


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
    shift = _shift(scheduler_config)
    if "use_flow_sigmas" not in takes:
        return {"shift": shift}
    return {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}


def shifted(scheduler_config: Mapping[str, Any], shift: str) -> Mapping[str, Any]:
    """The config with another shift: a number for every size of image, or "0.5/1.15", base and maximum of mu by size.

    Raises:
        ValueError: the checkpoint has none.
    """
    if not is_flow(scheduler_config):
        raise ValueError("shift is for flow matching, and this checkpoint was not trained with that; leave it out")
    base, by_size, most = shift.partition("/")
    if not by_size:
        return {**scheduler_config, "shift": float(base), "flow_shift": float(base), _DYNAMIC: False}
    if not scheduler_config.get(_DYNAMIC):
        raise ValueError(f"this checkpoint's shift is the same for all sizes; give one number instead of {shift}")
    return {**scheduler_config, "base_shift": float(base), "max_shift": float(most)}


def spacing_options(scheduler_config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a flow-matching checkpoint's noise levels, see `FlowSpacing`."""
    named = {name: scheduler_config[name] for name in _SPACING if scheduler_config.get(name) is not None}
    return {**named, "shift": _shift(scheduler_config)}


def _shift(scheduler_config: Mapping[str, Any]) -> Any:
    """diffusers has two words for it."""
    return scheduler_config.get("shift", scheduler_config.get("flow_shift", 1.0))


def misfit(config: Mapping[str, Any], scheduler_config: Mapping[str, Any], *, spaced: bool = False) -> str:
    """Why a resolved config cannot be right for the checkpoint although its class has the right noise schedule.

    Args:
        spaced: its noise levels are the checkpoint's, whatever its class does.
    """
    if scheduler_config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in config:
        return "this checkpoint has zero terminal SNR, which the class cannot represent (no rescale_betas_zero_snr)"
    if scheduler_config.get(_DYNAMIC) and not config.get(_DYNAMIC) and not spaced:
        return f"this checkpoint's noise levels depend on the image's size, which the class ignores (no {_DYNAMIC})"
    theirs = scheduler_config.get("prediction_type", "epsilon")
    ours = config.get("prediction_type", "epsilon")
    if not is_flow(scheduler_config) and ours != theirs:
        return f"this checkpoint predicts {theirs}, the class takes it for {ours}"
    return ""
