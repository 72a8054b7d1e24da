"""What a single file says of the model inside it: empty tensors that mark it, and the metadata of its header."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from schedcmp.errors import CheckpointError, shown

_V = {"prediction_type": "v_prediction"}
_ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}  # Lin et al. 2024, sections 3.1 and 3.3
# Tensors that mark a model, as A1111, ComfyUI and Forge read them
_KEYS: Mapping[str, Mapping[str, Any]] = {"v_pred": _V, "ztsnr": _ZERO_SNR}
_EDM_KEYS = ("edm_vpred.sigma_max", "edm_mean")  # CosXL, Playground 2.5
# Of modelspec (Stability's) and of kohya's training scripts: by key and value
_PREDICTION = "modelspec.prediction_type"
_METADATA: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    _PREDICTION: {"v": _V, "epsilon": {"prediction_type": "epsilon"}},
    "ss_v_parameterization": {"true": _V},
    "ss_zero_terminal_snr": {"true": _ZERO_SNR},
}
_TITLES = ("modelspec.title", "ss_output_name")
_SPELLINGS = {"v_prediction": "v", "v-prediction": "v", "vpred": "v", "v_pred": "v", "eps": "epsilon"}
_V_NAME = re.compile(r"(?<![a-z])v[-_ .]?pred(?![a-z])|(?<![a-z])v[-_ .]?prediction", re.IGNORECASE)
_ZERO_SNR_NAME = re.compile(r"(?<![a-z])z(t|ero)?[-_ ]?(terminal[-_ ]?)?snr(?![a-z])", re.IGNORECASE)


def stated(
    path: Path, tensors: Collection[str], scheduler_config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The scheduler config as the file has it, and sentences on what of it the file has changed.

    A tensor that marks the model wins over metadata, which tools carry over from other files.

    Raises:
        CheckpointError: the file says that it is of another kind than its configs.
    """
    own_class = str(scheduler_config.get("_class_name", ""))
    edm = next((key for key in _EDM_KEYS if key in tensors), None)
    if edm and not own_class.startswith("EDM"):
        raise CheckpointError(
            f"{path} has the key {edm}, so it is an EDM model, and its configs have {own_class}; set `config` to a"
            " diffusers folder of it whose scheduler is EDMEulerScheduler or EDMDPMSolverMultistepScheduler."
        )
    config, remarks = dict(scheduler_config), []
    for source, options in [
        *_by_metadata(_metadata(path)),
        *((f"the key {k}", o) for k, o in _KEYS.items() if k in tensors),
    ]:
        new = {name: value for name, value in options.items() if _now(config, name) != value}
        if new:
            listed = ", ".join(f"{name}: {str(value).lower()}" for name, value in new.items())
            remarks.append(f"{path.name} says {listed} by {source}, which its configs do not; the file is believed")
            config |= new
    said = _metadata(path).get(_PREDICTION, "").strip().lower()
    if said and _SPELLINGS.get(said, said) not in _METADATA[_PREDICTION]:
        kind = config.get("prediction_type", "epsilon")
        remarks.append(f"{path.name} says {_PREDICTION} {shown(said)}, which is not known here; {kind} is taken")
    return config, remarks


def hints(name: str, scheduler_config: Mapping[str, Any]) -> Iterator[str]:
    """What the name of a checkpoint suggests and its configs do not say."""
    advice = (
        "if its images are noise, give its schedulers options: {{{}}}, as in {{name: mine, base: euler, options: ...}}"
    )
    if _V_NAME.search(name) and _now(scheduler_config, "prediction_type") == "epsilon":
        yield f"{name} has a name as of v-prediction, and its configs say epsilon; " + advice.format(
            "prediction_type: v_prediction"
        )
    if _ZERO_SNR_NAME.search(name) and not scheduler_config.get("rescale_betas_zero_snr"):
        yield f"{name} has a name as of zero terminal SNR, and its configs do not say so; " + advice.format(
            "rescale_betas_zero_snr: true, timestep_spacing: trailing"
        )


def _now(config: Mapping[str, Any], name: str) -> Any:
    defaults = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    return config.get(name, defaults.get(name))


def _by_metadata(metadata: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, meanings in _METADATA.items():
        value = metadata.get(key, "").strip().lower()
        options = meanings.get(_SPELLINGS.get(value, value))
        if options:
            yield f"its metadata ({key})", options


def titles(path: Path) -> list[str]:
    """What the header of a file calls it; nothing, of what is no file."""
    metadata = _metadata(path) if path.is_file() else {}
    return [metadata[key] for key in _TITLES if metadata.get(key)]


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}
