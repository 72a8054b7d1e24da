"""From a loaded pipeline to one whose UNet is JAX's."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from schedcmp.backend.denoiser import Denoiser, OnAllDevices, evaluated, to_numpy
from schedcmp.backend.support import unknown_config
from schedcmp.backend.unet import nested, unet
from schedcmp.errors import CheckpointError


def hand_over(pipeline: Any, solve: Literal["steps", "scan"] = "steps", *, tf32: bool = False) -> None:
    """Let JAX compute the pipeline's UNet from now on; torch's copy of its weights is dropped.

    Args:
        solve: what one call of the UNet is: an evaluation of it, or a whole solve (`backend.scan`).
        tf32: float32 products in TF32, where the hardware has it.

    Raises:
        CheckpointError: the UNet is of a kind that `backend.unet` does not know.
    """
    model = pipeline.unet
    why = unknown_config(model.config)
    if why:
        raise CheckpointError(f"backend: jax cannot run this checkpoint: {why}; use torch")
    weights = nested({name: to_numpy(tensor) for name, tensor in model.state_dict().items()})
    network = partial(unet, dict(model.config))
    if solve == "scan":
        from schedcmp.backend.scan import Solver, solved

        model.forward = Solver(OnAllDevices(weights, partial(solved, network), tf32=tf32))
    else:
        model.forward = Denoiser(OnAllDevices(weights, partial(evaluated, network), tf32=tf32))
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)  # keeps its device and dtype, which pipelines ask for
