"""Timesteps on the host, in every lane.

Schedulers compare the timestep, look it up, index tables with it: where it lives on the device, each of these makes the
host wait for the forward that is in flight. Models get timesteps on the device, joined per batch (`call.join`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch

from schedcmp.engine.guarded import put_around


def hosted(scheduler: Any, device: torch.device) -> Any:
    """The scheduler, with its timesteps on the host wherever its pipeline wants them. Noise levels stay where the class
    keeps them: a product with a level on the device is rounded otherwise than one with a level on the host.
    """
    signature = inspect.signature(scheduler.set_timesteps)
    if device.type == "cpu" or "device" not in signature.parameters:
        return scheduler

    def on_host(set_timesteps: Callable[..., None], own: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs)
        kept = _kept_on_device(own, given)
        given.arguments["device"] = torch.device("cpu")
        set_timesteps(own, *given.args, **given.kwargs)
        if kept:
            own.sigmas = sent(own.sigmas, device)

    put_around(scheduler, "set_timesteps", on_host)
    return scheduler


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device. From the host to a GPU the host does not wait for what the GPU has still to do."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


_kept: dict[type, bool] = {}


def _kept_on_device(scheduler: Any, given: inspect.BoundArguments) -> bool:
    """Whether its class leaves `sigmas` on the device that it is given; tried once, on a device without memory."""
    cls = type(scheduler)
    if cls not in _kept:
        trial = copy.copy(scheduler)
        try:
            cls.set_timesteps(trial, **given.arguments | {"device": torch.device("meta")})
            _kept[cls] = (
                isinstance(sigmas := getattr(trial, "sigmas", None), torch.Tensor) and sigmas.device.type == "meta"
            )
        except Exception:  # it reads what it has put there, so it keeps it on the host
            _kept[cls] = False
    return _kept[cls]
